"""Hashes of the code that decides about an encode and its measurements, for the cache's keys.

What reads DICOM and makes luma of it is not among it: a clip's digest is that of its samples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

import ssimrdo
from ssimrdo.codecs.base import Codec
from ssimrdo.metrics import QualityIndex
from ssimrdo.metrics.tissue import GreyScale
from ssimrdo.objective import Objective

ENCODED_BY: Final = (
    "frames.py",
    "codecs",
    "objective",
    "metrics",
    "encoding",
    "video",
    "comparison/clip.py",
    "comparison/payload.py",
    "comparison/encodes.py",
    "comparison/lossy_ct.py",
    "dicom/write/lossy.py",
)
"""What makes, times and counts streams; the kernels of codecs and objectives are the indices'."""

MEASURED_BY: Final = (
    "frames.py",
    "metrics",
    "video",
    "comparison/clip.py",
    "comparison/lossy_ct.py",
    "comparison/measure.py",
    "dicom/grey.py",
    "dicom/write/lossy.py",
)

TISSUE_BY: Final = (
    *MEASURED_BY,
    "encoding/views.py",
    "record/tissue.py",
    "record/summary.py",
)

_KNOWN: Final = ("ssimrdo", "builtins", "typing", "abc")

_UNKNOWN: Final = secrets.token_hex(8)


@cache
def code_digest(*names: str) -> str:
    """Return a hash of modules and folders of this package."""
    package = Path(ssimrdo.__file__).parent
    digest = hashlib.sha256()
    for name in names:
        path = package / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in (".py", ".so"):
                digest.update(f"{file.relative_to(package)}".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def encoder_digest(codec: Codec, objective: Objective | None) -> str:
    """Return a hash of all code that makes a codec's streams, in this package or elsewhere."""
    parts = [*type(codec).__mro__]
    functions = () if objective is None else (objective.sensitivity, objective.reference)
    return _joined([code_digest(*ENCODED_BY), *_elsewhere([*parts, *functions])])


def index_digest(index: QualityIndex) -> str:
    """Return a hash of all code that measures by an index, in this package or elsewhere."""
    return _joined([code_digest(*MEASURED_BY), *_elsewhere([index.value])])


def tissue_digest(scale: GreyScale | None) -> str:
    """Return a hash of all code that measures by tissue, with what luma means."""
    return _joined([code_digest(*TISSUE_BY), repr(scale)])


def state_of(codec: Codec) -> str:
    """Return a text of what a codec is and of all its options, which no other has."""
    kind = type(codec)
    is_told = dataclasses.is_dataclass(codec)
    options = repr(codec) if is_told else repr(sorted(getattr(codec, "__dict__", {}).items()))
    return f"{kind.__module__}.{kind.__qualname__} {options}"


def _elsewhere(things: Iterable[Any]) -> list[str]:
    """Return hashes of the modules that classes and functions are from, if they are no part of us.

    What these modules import is not looked at.
    """
    modules = {getattr(thing, "__module__", type(thing).__module__) for thing in things}
    return [_module_digest(name) for name in sorted(modules) if name.split(".")[0] not in _KNOWN]


@cache
def _module_digest(name: str) -> str:
    file = getattr(sys.modules.get(name), "__file__", None)
    # What was typed in has no file: nobody knows whether it is the same another time.
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12] if file else _UNKNOWN


def _joined(parts: Iterable[str]) -> str:
    return " ".join(parts)
