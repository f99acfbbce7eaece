"""AV1 by name: SVT-AV1 on the scale of CRF that all named codecs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from ssimrdo.codecs.base import ConstantQuality, Mode, QualityScale, Session, StreamSettings
from ssimrdo.codecs.svtav1 import SvtAv1
from ssimrdo.codecs.x264.choices import CRF

CRF_SLOPE: Final = 2.1
CRF_OFFSET: Final = -14.5
"""SVT-AV1's CRF over x264's at equal SSIM; measured on chest, head and phantom series."""

MIN_CRF: Final = 8.0
"""SVT-AV1's lowest CRF, rounded up."""

MAX_CRF: Final = 36.0
"""SVT-AV1's highest, rounded down."""


@dataclass(frozen=True)
class Av1(SvtAv1):
    """SVT-AV1 whose CRF means the quality that it means in x264."""

    @classmethod
    def of(cls, preset: Any = None) -> Self:
        """Return the codec of a preset as a person writes it.

        Raises
        ------
        InputError
            If there is no such preset.
        """
        if preset is None:
            return cls()
        # A text that is no number is unknown to the codec, whose message lists the presets.
        is_number = isinstance(preset, str) and preset.isdecimal() and preset.isascii()
        return cls(int(preset) if is_number else preset)

    def options(self) -> Mapping[str, Any]:
        """Return the options that :meth:`of` takes."""
        return {"preset": self.preset}

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of a mode: of a CRF x264's, as far as SVT-AV1 reaches."""
        if mode != "crf":
            return super().scale(mode, bit_depth)
        return QualityScale(MIN_CRF, MAX_CRF, step=1 / CRF_SLOPE, default=CRF, matched=True)

    def open(self, stream: StreamSettings) -> Session:
        """Open SVT-AV1."""
        return super().open(_on_own_scale(stream))

    def describe(self, stream: StreamSettings) -> str:
        """Return preset, parameters and rate control, as SVT-AV1 has them."""
        return super().describe(_on_own_scale(stream))


def _on_own_scale(stream: StreamSettings) -> StreamSettings:
    rate = stream.rate
    if not isinstance(rate, ConstantQuality):
        return stream
    return replace(stream, rate=ConstantQuality(round(CRF_SLOPE * rate.crf + CRF_OFFSET)))
