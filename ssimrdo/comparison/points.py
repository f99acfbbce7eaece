"""From points on x264's scale to those of other codecs, so that all curves cover like qualities.

The lines for known codecs were measured as SSIM on chest, head and phantom series:

* x265: the same number.
* SVT-AV1, scale 1 to 63: ``2.1 p - 14.5`` for CRF and ``2.3 p - 32`` for QP, rounded: CRF 18, 23,
  28, 33 become 23, 34, 44, 55 and QP 22, 27, 32, 37 become 19, 30, 42, 53.
* JPEG 2000: the PSNR in dB that every slice gets, ``56.2 - 0.72 p`` for CRF and ``65 - 0.85 p``
  for QP: 43.2, 39.6, 36, 32.4 dB and 46.3, 42.1, 37.8, 33.6 dB.

For any other codec its quality scale tells: its default stands for x264's, and the rate falls
alike from there. Constant quality stands in for a quantizer where a codec has none. At a bit rate
the points are kbit/s for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ssimrdo.codecs.base import Codec, Mode, QualityScale
from ssimrdo.codecs.x264.choices import PRESET
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.errors import InputError

DIGITS: Final = 3
"""Behind the decimal point of a point on a scale that is not of whole numbers."""


@dataclass(frozen=True, slots=True)
class ScaleLine:
    """A codec's scale over x264's: ``slope * p + offset``."""

    slope: float
    offset: float

    def at(self, point: float) -> float:
        """Return the point on the codec's scale."""
        return self.slope * point + self.offset

    def of(self, point: float) -> float:
        """Return the point on x264's scale."""
        return (point - self.offset) / self.slope


SAME: Final = ScaleLine(1, 0)

MEASURED: Final[Mapping[tuple[str, Mode], ScaleLine]] = MappingProxyType(
    {
        ("x264", "crf"): SAME,
        ("x264", "qp"): SAME,
        ("x265", "crf"): SAME,
        ("x265", "qp"): SAME,
        ("svtav1", "crf"): ScaleLine(2.1, -14.5),
        ("svtav1", "qp"): ScaleLine(2.3, -32.0),
        ("jpeg2000", "crf"): ScaleLine(-0.72, 56.2),
        ("jpeg2000", "qp"): ScaleLine(-0.85, 65.0),
    }
)
"""Lines by name of the codec and mode."""


def own_points(
    codec: Codec, mode: Mode, points: Sequence[float], *, bit_depth: int, name: str
) -> tuple[Mode, tuple[float, ...]]:
    """Return a codec's own mode, and points on its scale.

    Parameters
    ----------
    codec : Codec
        Whose scale.
    mode : {"crf", "qp", "bitrate"}
        Rate control.
    points : sequence of float
        On x264's scale, or kbit/s.
    bit_depth : int
        Bits per luma sample.
    name : str
        What errors call the encoder.

    Raises
    ------
    InputError
        If the scale is too coarse for points so close, or the codec has no such mode.
    """
    if mode == "bitrate":
        return mode, tuple(points)
    own_mode, scale = _scale(codec, mode, bit_depth)
    line = SAME if scale.matched else MEASURED.get((codec.name, mode))
    line = line or _line(scale, mode, bit_depth)
    own = tuple(_on_scale(line.at(point), scale) for point in points)
    if len(set(own)) < len(own):
        first, last = sorted((line.of(scale.low), line.of(scale.high)))
        raise InputError(
            f"{name} cannot tell them apart on its scale of {scale.low:g} to {scale.high:g}",
            field="points",
            remedy=f"give points farther apart, from {math.ceil(first)} to {math.floor(last)}",
        )
    return own_mode, own


def _scale(codec: Codec, mode: Mode, bit_depth: int) -> tuple[Mode, QualityScale]:
    try:
        return mode, codec.scale(mode, bit_depth)
    except InputError:
        if mode != "qp":
            raise
        return "crf", codec.scale("crf", bit_depth)


def _line(scale: QualityScale, mode: Mode, bit_depth: int) -> ScaleLine:
    x264 = X264(preset=PRESET).scale(mode, bit_depth)
    slope = x264.log_rate_slope / scale.log_rate_slope
    return ScaleLine(slope, scale.default - slope * x264.default)


def _on_scale(point: float, scale: QualityScale) -> float:
    rounded = float(math.floor(point + 0.5)) if scale.whole else round(point, DIGITS)
    return float(min(max(rounded, scale.low), scale.high))
