"""The ladder of efforts: how thoroughly x265 searches."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ssimrdo.codecs.x264.choices import Options


@dataclass(frozen=True)
class Effort:
    """One rung: a preset and what is changed in it.

    Parameters
    ----------
    preset : str
        x265's preset the options start from.
    options : tuple of (str, str)
        What is changed.
    crf_shift : float
        x265's CRF over the one that is asked for, of steered encodes; it makes a CRF mean what it
        means in x264's medium preset (``scripts/fit_crf --codec hevc``).
    """

    preset: str
    options: Options = ()
    crf_shift: float = -0.2


_RATE_DISTORTION: Final = (
    ("rd", "6"),
    # Intra blocks in B-frames are for noise, which no other slice has.
    ("b-intra", "1"),
    # Where the window clips, edges are so sharp that small blocks are cheaper without a transform.
    ("tskip", "1"),
)

_RDOQ: Final = (("rdoq-level", "2"),)

_SPLIT: Final = (("tu-intra-depth", "2"), ("tu-inter-depth", "2"))

_WIDE: Final = (("limit-refs", "1"), ("limit-modes", "0"), ("max-merge", "5"))

EFFORTS: Final = MappingProxyType(
    {
        "fast": Effort("superfast", _RATE_DISTORTION, crf_shift=-1.1),
        "default": Effort("medium", (*_RDOQ, *_RATE_DISTORTION)),
        "high": Effort("slow", (*_RATE_DISTORTION, *_SPLIT)),
        "max": Effort("slow", (*_RATE_DISTORTION, *_SPLIT, *_WIDE)),
    }
)
"""Rungs by name, fastest first; docs/method.md has the measurements behind them."""
