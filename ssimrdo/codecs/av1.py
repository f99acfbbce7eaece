"""AV1 by name: SVT-AV1 with efforts, on the scale of CRF that all named codecs share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Self

from ssimrdo.codecs.base import (
    ConstantQuality,
    Mode,
    QualityScale,
    Session,
    StreamSettings,
    UnsteeredCodec,
)
from ssimrdo.codecs.search import chosen_effort
from ssimrdo.codecs.svtav1 import CRF_STEP, HIGHEST_CRF, LOWEST_CRF, PRESETS, SvtAv1
from ssimrdo.codecs.x264.choices import CRF, Options

CRF_SLOPE: Final = 1.95
CRF_OFFSET: Final = -13.5
"""SVT-AV1's CRF over x264's at equal SSIM (``scripts/fit_crf --codec av1``)."""

MIN_CRF: Final = float(math.ceil((LOWEST_CRF - CRF_OFFSET) / CRF_SLOPE))
MAX_CRF: Final = float(math.floor((HIGHEST_CRF - CRF_OFFSET) / CRF_SLOPE))
"""As far as SVT-AV1 reaches."""

_CT: Final[Options] = (
    # Noise is not predicted: in deeper pyramids with steeper steps of quality, those slices that
    # none refers to, half of all, fall behind.
    ("hierarchical-levels", "3"),
    ("qp-scale-compress-strength", "1"),
    # A superblock is boosted if three quarters of it are flat, in place of five eighths.
    ("variance-octile", "6"),
)

EFFORTS: Final = MappingProxyType(
    {
        "fast": SvtAv1(7, params=_CT),
        "default": SvtAv1(5, params=_CT),
        "high": SvtAv1(4, params=_CT),
        "max": SvtAv1(3, params=_CT),
    }
)
"""Rungs by name, fastest first; docs/method.md has the measurements behind them."""


@dataclass(frozen=True)
class Av1(UnsteeredCodec):
    """SVT-AV1 with an effort, whose CRF means the quality that it means in x264.

    Parameters
    ----------
    effort : str, optional
        One of :data:`EFFORTS`; ``"default"`` unless a preset is given.
    preset : int, optional
        SVT-AV1's own search instead: one of :data:`ssimrdo.codecs.svtav1.PRESETS`.

    Raises
    ------
    InputError
        If a value is unknown, or both are given.
    """

    effort: str | None = None
    preset: int | None = None

    name = SvtAv1.name
    syntax = SvtAv1.syntax
    containers = SvtAv1.containers
    depths = SvtAv1.depths
    sides = SvtAv1.sides

    def __post_init__(self) -> None:
        effort = chosen_effort(self.effort, self.preset, efforts=EFFORTS, presets=PRESETS)
        object.__setattr__(self, "effort", effort)

    @classmethod
    def from_options(cls, values: dict[str, Any]) -> Self:
        """Return the codec of options, which are taken out of ``values``.

        Parameters
        ----------
        values : dict
            May have ``effort`` and ``preset``, as a person writes them.

        Raises
        ------
        InputError
            As the class.
        """
        effort, preset = values.pop("effort", None), values.pop("preset", None)
        # A text that is no number is unknown to the codec, whose message lists the presets.
        is_number = isinstance(preset, str) and preset.isdecimal() and preset.isascii()
        return cls(effort, int(preset) if is_number else preset)

    @property
    def label(self) -> str:
        """Name and search."""
        return self._encoder.label if self.effort is None else f"SVT-AV1 effort={self.effort}"

    @property
    def version(self) -> str:
        """Version of the library and of FFmpeg."""
        return self._encoder.version

    @property
    def _encoder(self) -> SvtAv1:
        return SvtAv1(self.preset or 0) if self.effort is None else EFFORTS[self.effort]

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of a mode: of a CRF x264's, as far as SVT-AV1 reaches."""
        if mode != "crf":
            return self._encoder.scale(mode, bit_depth)
        return QualityScale(MIN_CRF, MAX_CRF, step=CRF_STEP / CRF_SLOPE, default=CRF, matched=True)

    def open(self, stream: StreamSettings) -> Session:
        """Open SVT-AV1."""
        return self._encoder.open(_on_own_scale(stream))

    def describe(self, stream: StreamSettings) -> str:
        """Return preset, parameters and rate control, as SVT-AV1 has them."""
        return self._encoder.describe(_on_own_scale(stream))


def _on_own_scale(stream: StreamSettings) -> StreamSettings:
    rate = stream.rate
    if not isinstance(rate, ConstantQuality):
        return stream
    steps = round((CRF_SLOPE * rate.crf + CRF_OFFSET) / CRF_STEP)
    return replace(stream, rate=ConstantQuality(steps * CRF_STEP))
