"""Manifests: lists of series with options of their own, as CSV, JSON lines or YAML."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from ssimrdo.batch.ct import ONLY_CT, CTSettings
from ssimrdo.batch.names import check_output
from ssimrdo.batch.settings import check_suffix
from ssimrdo.batch.store import is_url, place_below
from ssimrdo.batch.yaml_rows import BadRowError, yaml_rows
from ssimrdo.encoding.options import OPTIONS, read_flag, read_text
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import InputError, cause_of, name_options
from ssimrdo.extras import require
from ssimrdo.text import printable, shortened


@dataclass(frozen=True)
class Entry:
    """One series of a manifest.

    Parameters
    ----------
    series : str
        Folder, file or URL.
    base : str
        What relative paths are relative to.
    place : str
        Manifest and line, for messages.
    output : str, optional
        Output below the output folder; named after the series when None.
    series_uid : str, optional
        Which series of the folder.
    skip_bad : bool
        Leave out damaged files.
    settings : EncodeSettings or CTSettings
        How to encode.
    """

    series: str
    base: str
    place: str
    output: str | None
    series_uid: str | None
    skip_bad: bool
    settings: EncodeSettings | CTSettings


def read_manifest(
    path: Path,
    defaults: EncodeSettings | CTSettings,
    *,
    suffix: str,
    skip_bad: bool,
    root: str | None = None,
) -> list[Entry]:
    """Read a manifest.

    Parameters
    ----------
    path : Path
        File whose suffix tells its kind: ``.csv``, ``.jsonl``, ``.yaml`` or ``.yml``.
    defaults : EncodeSettings or CTSettings
        What holds where a line says nothing.
    suffix : str
        That outputs must have.
    skip_bad : bool
        What holds where a line says nothing.
    root : str, optional
        What relative paths are relative to; the manifest's folder when None.

    Raises
    ------
    InputError
        If the file cannot be read, or a line has an unknown column or a bad value; the message
        names both.
    """
    kinds = {".csv": _csv_rows, ".jsonl": _json_rows, ".yaml": _yaml_rows, ".yml": _yaml_rows}
    reader = kinds.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: the suffix tells the kind", remedy=f"use one of {', '.join(kinds)}"
        )
    base = root if root is not None else str(path.parent)
    try:
        # Line ends inside of values stay what they are.
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not text in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {cause_of(error)}") from error
    rows = list(reader(path, text))
    if not rows:
        raise InputError(f"{path}: names no series")
    return [
        _entry(f"{path}: line {line}", row, base, defaults, suffix, skip_bad) for line, row in rows
    ]


_Rows = Iterator[tuple[int, Mapping[str, Any]]]


def _csv_rows(path: Path, text: str) -> _Rows:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        for name in header:
            _check_column(f"{path}: line 1", name)
        if len(set(header)) < len(header):
            raise InputError(f"{path}: line 1: a column stands there twice")
        for values in lines:
            if not any(value.strip() for value in values):
                continue
            if len(values) > len(header):
                raise InputError(
                    f"{path}: line {lines.line_num}: {len(values)} values for {len(header)} columns"
                )
            given = zip(header, values, strict=False)
            yield lines.line_num, {name: value.strip() for name, value in given if value.strip()}
    except csv.Error as error:
        raise InputError(f"{path}: line {lines.line_num}: {error}") from None


def _json_rows(path: Path, text: str) -> _Rows:
    # Not splitlines: JSON takes more than these for characters like others.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {number}: is no JSON: {error.msg}") from None
        except BadRowError as error:
            raise InputError(f"{path}: line {number}: {error}") from None
        except RecursionError:
            raise InputError(f"{path}: line {number}: is nested too deeply") from None
        except ValueError:
            # Python's own, of numbers that take too long to read.
            raise InputError(f"{path}: line {number}: has a number of too many digits") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}: line {number}: is no JSON object")
        yield number, row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise BadRowError(f"gives column {shortened(twice, 60)} twice")
    return row


def _yaml_rows(path: Path, text: str) -> _Rows:
    require("yaml", what=f"{path}: YAML")
    import yaml

    try:
        yield from yaml_rows(text)
    except BadRowError as error:
        raise InputError(f"{path}: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = (
            mark.line + 1 if mark else 1 + text.count("\n", 0, getattr(error, "position", 0) or 0)
        )
        problem = getattr(error, "problem", None) or "it has characters that YAML does not allow"
        raise InputError(f"{path}: line {line}: is no YAML: {shortened(problem)}") from None


def _entry(
    place: str,
    row: Mapping[str, Any],
    base: str,
    defaults: EncodeSettings | CTSettings,
    suffix: str,
    skip_bad: bool,
) -> Entry:
    own: dict[str, Any] = {}
    options: dict[str, Any] = {}
    called = dict(_COLUMN_OF)
    for name, value in row.items():
        _check_column(place, name)
        if value is None or value == "":
            continue
        if not _is_plain(value):
            raise InputError(f"{place}, column {name}: is nested too deeply")
        if name in _OWN_COLUMNS:
            try:
                own[name] = _OWN_COLUMNS[name](value)
            except ValueError as error:
                raise InputError(f"{place}, column {name}: {shortened(error)}") from None
            continue
        field = _FIELD_OF[name]
        if field in options:
            raise InputError(f"{place}, column {name}: is the same as {called[field]}")
        options[field], called[field] = value, name
    if "series" not in own:
        raise InputError(f"{place}, column series: is missing")
    output = own.get("output")
    if output is not None and PurePosixPath(output).suffix != suffix:
        raise InputError(
            f"{place}, column output: {shortened(output, 60)} does not end in {suffix}"
        )
    settings = _settings(place, defaults, options, called, suffix)
    return Entry(
        series=place_below(base, own["series"]),
        base=base,
        place=place,
        output=output,
        series_uid=own.get("series_uid"),
        skip_bad=own.get("skip_bad", skip_bad),
        settings=settings,
    )


def _settings(
    place: str,
    defaults: EncodeSettings | CTSettings,
    options: Mapping[str, Any],
    called: Mapping[str, str],
    suffix: str,
) -> EncodeSettings | CTSettings:
    try:
        if isinstance(defaults, CTSettings):
            return defaults.changed(options)
        for name in ONLY_CT:
            if name in options:
                raise InputError("is for CT images", field=name, remedy="leave it out")
        settings = defaults.changed(options)
        check_suffix(suffix, settings, field="codec")
        return settings
    except InputError as error:

        def column(field: str) -> str:
            return called.get(field, field)

        where = "" if error.field is None else f", column {column(error.field)}"
        remedy = error.remedy and name_options(error.remedy, column)
        raise InputError(f"{place}{where}: {shortened(error.reason)}", remedy=remedy) from None


def _check_column(place: str, name: Any) -> None:
    if name not in COLUMNS:
        raise InputError(
            f"{place}: unknown column {printable(name)[:40]!r}",
            remedy=f"use some of {', '.join(COLUMNS)}",
        )


def _is_plain(value: Any) -> bool:
    """Tell whether a value is a scalar, or a list or mapping of scalars."""
    if isinstance(value, dict):
        value = list(value.values())
    return not (isinstance(value, list) and any(isinstance(one, dict | list) for one in value))


def _series(value: Any) -> str:
    text = _text(value)
    if not is_url(text):
        try:
            length = len(os.fsencode(text))
        except UnicodeEncodeError:
            raise ValueError(f"{_shown(text)} is no name that a file can have") from None
        if length > _MAX_PATH_BYTES:
            raise ValueError(f"{_shown(text)} is too long for a path")
    return text


def _output(value: Any) -> str:
    return check_output(_text(value))


def _uid(value: Any) -> str:
    text = str(value) if isinstance(value, int | float) else _text(value)
    if not _UID.fullmatch(text):
        raise ValueError(f"{_shown(text)} is no UID")
    return text


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        raise ValueError("is not text")
    return read_text(value)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "it"
    return repr(shortened(value, 60)) if isinstance(value, str) else shortened(value, 60)


_MAX_PATH_BYTES: Final = 4095
"""Of a path on Linux."""

_UID: Final = re.compile(r"[0-9.]{1,64}")

_OWN_COLUMNS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {"series": _series, "output": _output, "series_uid": _uid, "skip_bad": read_flag}
)

_COLUMN_OF: Final = MappingProxyType({option.name: option.external for option in OPTIONS})

_FIELD_OF: Final = MappingProxyType(
    {name: option.name for option in OPTIONS for name in (option.external, *option.aliases)}
    | {name: name for name in ONLY_CT}
)

COLUMNS: Final = (*_OWN_COLUMNS, *_FIELD_OF)
"""All columns that a manifest may have; those of an encode are its options."""
