"""Names of outputs: the tree mirrored, or a template with fields that cannot name a patient."""

from __future__ import annotations

import hashlib
import os
import re
import string
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from ssimrdo.errors import InputError
from ssimrdo.text import printable, shortened

FIELDS: Final = (
    "relative_path",
    "folder",
    "index",
    "series_number",
    "slices",
    "uid_hash",
    "study_hash",
    "phase",
)
"""Fields of a template; ``relative_path`` and ``folder`` come from the path, not the header."""

NUMBERS: Final = ("index", "series_number", "slices")

OF_THE_PATH: Final = ("relative_path", "folder")
"""Fields that tell where the series is."""

_MAX_BYTES: Final = 200
"""Of one component of a name; file systems take 255, and temporary names need some."""

_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')


def check_template(template: str) -> None:
    """Check that a template has safe fields only.

    Raises
    ------
    InputError
        If it has others, is malformed, or its names would leave the output folder.
    """
    try:
        parts = list(string.Formatter().parse(template))
        for _, field, form, conversion in parts:
            if field is not None and (field not in FIELDS or conversion or "{" in (form or "")):
                # Not as a remedy, where braces mean options.
                raise InputError(
                    f"{{{field[:40]}}} is no safe field: use "
                    + ", ".join(f"{{{name}}}" for name in FIELDS),
                    field="name_template",
                )
        example = template.format_map(dict.fromkeys(FIELDS, "x") | dict.fromkeys(NUMBERS, 1))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"{template[:60]!r} is malformed: {error}", field="name_template"
        ) from None
    path = PurePosixPath(example)
    if not example.strip() or path.is_absolute() or ".." in path.parts or example.endswith("/"):
        raise InputError(
            f"{template[:60]!r} gives no file name below the output folder", field="name_template"
        )


def check_output(name: str) -> str:
    """Return the name of an output as a path below the output folder, POSIX style.

    Raises
    ------
    ValueError
        If it is none, or is not printable.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ValueError(f"{shortened(name, 60)!r} is no path below the output folder")
    if not name.isprintable():
        raise ValueError(f"{shortened(name, 60)!r} has characters that cannot be printed")
    return str(path)


def tells_path(template: str | None) -> bool:
    """Tell whether names made with a template, or without one, tell where their series are."""
    if template is None:
        return True
    return any(field in OF_THE_PATH for _, field, _, _ in string.Formatter().parse(template))


def hashed(text: str) -> str:
    """Return twelve hexadecimal digits that stand for a UID or a path."""
    return _hash(os.fsencode(text))


def from_template(template: str, fields: Mapping[str, Any]) -> str:
    """Fill a checked template; ``series_number`` is 0 where the header has none."""
    return _safe(template.format_map(fields))


class Names:
    """Hands out names, each once."""

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """Return the name with the suffix, and with a number before it if it is taken."""
        name = _safe(name)
        candidate, number = name, 1
        # Some file systems fold case; the sidecar differs in nothing but the suffix.
        while candidate.casefold() in self._taken:
            number += 1
            candidate = f"{name}-{number}"
        self._taken.add(candidate.casefold())
        return candidate + self._suffix

    def reserve(self, output: str) -> bool:
        """Take an output's very name; return whether it was free."""
        name = str(PurePosixPath(output).with_suffix("")).casefold()
        free = name not in self._taken
        self._taken.add(name)
        return free


def _safe(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return "/".join(_component(part) for part in parts) or "series"


def _component(part: str) -> str:
    shown = printable(part)
    if shown != part:
        # Others may look the same, and a number would move to another when one is added.
        shown += f"-{_hash(os.fsencode(part))[:8]}"
    part = _UNSAFE.sub("_", shown)
    # A leading dot would hide the output; FFmpeg takes a leading hyphen for an option.
    if part[0] in ".-":
        part = "_" + part[1:]
    data = part.encode()
    if len(data) <= _MAX_BYTES:
        return part
    return data[: _MAX_BYTES - 13].decode(errors="ignore") + "-" + _hash(data)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
