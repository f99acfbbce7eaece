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
    """

    preset: str
    options: Options = ()


EFFORTS: Final = MappingProxyType(
    {
        "fast": Effort("medium"),
        "default": Effort("slow"),
        # Full rate-distortion decisions, and intra blocks in B-frames.
        "high": Effort("slow", (("rd", "6"), ("b-intra", "1"))),
        "max": Effort("slower", (("limit-tu", "0"),)),
    }
)
"""Rungs by name, fastest first; docs/method.md has the measurements behind them."""
