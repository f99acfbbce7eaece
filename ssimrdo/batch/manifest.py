"""Manifests: lists of series with options of their own, as CSV, JSON lines or YAML."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from ssimrdo.batch.store import place_below
from ssimrdo.encoding.options import OPTIONS, read_text
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import InputError, name_options
from ssimrdo.extras import require
from ssimrdo.text import printable


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
    settings : EncodeSettings
        How to encode.
    """

    series: str
    base: str
    place: str
    output: str | None
    series_uid: str | None
    skip_bad: bool
    settings: EncodeSettings


def read_manifest(
    path: Path, defaults: EncodeSettings, *, suffix: str, skip_bad: bool, root: str | None = None
) -> list[Entry]:
    """Read a manifest.

    Parameters
    ----------
    path : Path
        File whose suffix tells its kind: ``.csv``, ``.jsonl``, ``.yaml`` or ``.yml``.
    defaults : EncodeSettings
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
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text in UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    rows = list(reader(path, text))
    if not rows:
        raise InputError(f"{path}: names no series")
    return [
        _entry(f"{path}: line {line}", row, base, defaults, suffix, skip_bad) for line, row in rows
    ]


class _BadValueError(Exception):
    """A value of a column cannot be used; the message says why."""


_Rows = Iterator[tuple[int, Mapping[str, Any]]]


def _csv_rows(path: Path, text: str) -> _Rows:
    lines = csv.reader(text.splitlines(keepends=True), strict=True)
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
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {number}: is no JSON: {error.msg}") from None
        except _BadValueError as error:
            raise InputError(f"{path}: line {number}: {error}") from None
        except RecursionError:
            raise InputError(f"{path}: line {number}: is nested too deeply") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}: line {number}: is no JSON object")
        yield number, row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise _BadValueError(f"gives column {twice[0]} twice")
    return dict(pairs)


def _yaml_rows(path: Path, text: str) -> _Rows:
    require("yaml", what=f"{path}: YAML")
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        items = [] if root is None else root.value
        if root is not None and not isinstance(root, yaml.SequenceNode):
            raise InputError(f"{path}: line 1: is no list of series")
        for item in items:
            line = item.start_mark.line + 1
            # Built alone, an item still tells where it stands.
            row = yaml.safe_load(yaml.serialize(item))
            if not isinstance(row, dict):
                raise InputError(f"{path}: line {line}: is no mapping of columns to values")
            yield line, row
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise InputError(f"{path}: {where}is no YAML: {problem}") from None


def _entry(
    place: str,
    row: Mapping[str, Any],
    base: str,
    defaults: EncodeSettings,
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
        if name in _OWN_COLUMNS:
            try:
                own[name] = _OWN_COLUMNS[name](value)
            except ValueError as error:
                raise InputError(f"{place}, column {name}: {error}") from None
            continue
        field = _FIELD_OF[name]
        if field in options:
            raise InputError(f"{place}, column {name}: is the same as {called[field]}")
        options[field], called[field] = value, name
    if "series" not in own:
        raise InputError(f"{place}, column series: is missing")
    output = own.get("output")
    if output is not None and PurePosixPath(output).suffix != suffix:
        raise InputError(f"{place}, column output: {output} does not end in {suffix}")
    return Entry(
        series=place_below(base, own["series"]),
        base=base,
        place=place,
        output=output,
        series_uid=own.get("series_uid"),
        skip_bad=own.get("skip_bad", skip_bad),
        settings=_settings(place, defaults, options, called),
    )


def _settings(
    place: str, defaults: EncodeSettings, options: Mapping[str, Any], called: Mapping[str, str]
) -> EncodeSettings:
    try:
        return defaults.changed(options)
    except InputError as error:

        def column(field: str) -> str:
            return called.get(field, field)

        where = "" if error.field is None else f", column {column(error.field)}"
        remedy = error.remedy and name_options(error.remedy, column)
        raise InputError(f"{place}{where}: {error.reason}", remedy=remedy) from None


def _check_column(place: str, name: Any) -> None:
    if name not in COLUMNS:
        raise InputError(
            f"{place}: unknown column {printable(name)[:40]!r}",
            remedy=f"use some of {', '.join(COLUMNS)}",
        )


def _output(value: Any) -> str:
    path = PurePosixPath(read_text(value))
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ValueError(f"{value!r} is no path below the output folder")
    return str(path)


def _uid(value: Any) -> str:
    return read_text(value if isinstance(value, str) else str(value))


def _flag(value: Any) -> bool:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        return known[str(value).lower()]
    except KeyError:
        raise ValueError(f"{value!r} is neither true nor false") from None


_OWN_COLUMNS: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {"series": read_text, "output": _output, "series_uid": _uid, "skip_bad": _flag}
)

_COLUMN_OF: Final = MappingProxyType({option.name: option.external for option in OPTIONS})

_FIELD_OF: Final = MappingProxyType(
    {name: option.name for option in OPTIONS for name in (option.external, *option.aliases)}
)

COLUMNS: Final = (*_OWN_COLUMNS, *_FIELD_OF)
"""All columns that a manifest may have; those of an encode are its options."""
