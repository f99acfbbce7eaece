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
from ssimrdo.record.result import EncodeResult
from ssimrdo.text import printable

SCHEMA: Final = 2
"""Of the sidecar; those without a number are of schema 1."""

MODEL: Final = 3
"""Grows when the same input and options give other bytes: with the objective, how codecs are
steered, or their efforts."""


def sidecar_path(output: Path) -> Path:
    """Return the path of the JSON file that goes with an output file."""
    return output.with_suffix(".json")


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
