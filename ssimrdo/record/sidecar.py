"""The sidecar: what was encoded, how, and what came of it, without a word that names a patient.

docs/json.md describes every key. :data:`SCHEMA` grows when a key changes its meaning; keys are
added without that.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import ssimrdo
from ssimrdo.dicom.padding import AIR, PADDINGS
from ssimrdo.errors import InputError
from ssimrdo.record.result import EncodeResult
from ssimrdo.text import printable

SCHEMA: Final = 2
"""Of the sidecar; those without a number are of schema 1."""

MODEL: Final = 4
"""Grows when the same input and options give other bytes: with the objective, how codecs are
steered, or their efforts."""


def sidecar_path(output: Path) -> Path:
    """Return the path of the JSON file that goes with an output file."""
    return output.with_suffix(".json")


def output_of(text: str) -> str | None:
    """Return the name of the output that a sidecar goes with, None if it does not tell."""
    try:
        return str(json.loads(text)["output"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def check_sidecar_free(output: Path) -> None:
    """Check that no other video beside an output has the sidecar that it is to get.

    Raises
    ------
    InputError
        If one has, such as ``OUT.mp4`` for ``OUT.dcm``, which would be left without a record.
    """
    path = sidecar_path(output)
    try:
        other = output.with_name(output_of(path.read_text(encoding="utf-8")) or output.name)
        is_taken = other.name != output.name and other.is_file()
    except (OSError, ValueError):
        return
    if is_taken:
        raise InputError(
            f"{path}: is the record of {other.name}, which is beside it",
            remedy=f"use another name, or remove {other.name} first",
        )


def recorded_padding(record: Mapping[str, Any]) -> str:
    """Return how an encode shows padding, as its sidecar tells: as air where it tells nothing.

    Raises
    ------
    TypeError, ValueError
        If it is nothing that padding can be shown as.
    """
    found = (record.get("settings") or {}).get("padding", AIR)
    if found not in PADDINGS:
        raise ValueError("padding is shown in no such way")
    return str(found)


def sidecar_record(
    result: EncodeResult, settings: Mapping[str, Any], note: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the sidecar of an encode holds, as JSON types.

    Parameters
    ----------
    result : EncodeResult
        What came out; file names of the source stay out, they may name a patient.
    settings : mapping
        What was asked for, as JSON types.
    note : mapping
        More keys, as JSON types.
    """
    reasons = Counter(file.reason for file in result.skipped)
    return {
        "schema": SCHEMA,
        "version": ssimrdo.__version__,
        "model": MODEL,
        **result.as_dict(),
        "output": printable(Path(result.output).name),
        "skipped": [{"reason": reason, "files": files} for reason, files in reasons.items()],
        "settings": dict(settings),
        "fps": result.fps,
        "grey": result.grey and dataclasses.asdict(result.grey),
        "geometry": dataclasses.asdict(result.geometry),
        "slices": [dict(one) for one in result.slices],
        "ct": result.series and result.series.as_dict(),
        **note,
    }


def write_sidecar(path: Path, record: Mapping[str, Any]) -> None:
    """Write a sidecar as text that people can read."""
    path.write_text(_text(record) + "\n", encoding="utf-8")


def _text(value: Any, indent: str = "") -> str:
    """Return JSON with a line for every key of the outer objects and every item of their lists."""
    deeper = indent + "  "
    if isinstance(value, Mapping) and len(deeper) <= 4 and value:
        parts = [f"{json.dumps(key)}: {_text(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(deeper + part for part in parts) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        parts = [deeper + json.dumps(item, allow_nan=False) for item in value]
        return "[\n" + ",\n".join(parts) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)
