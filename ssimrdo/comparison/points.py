"""From points on x264's scale to those of other codecs, so that all curves cover like qualities.

The lines for known codecs were measured as SSIM on chest, head and phantom series:

* x265: the same number.
* SVT-AV1, scale 1 to 63: ``2.1 p - 14.5`` for CRF and ``2.3 p - 32`` for QP, rounded: CRF 18, 23,
  28, 33 become 23, 34, 44, 55 and QP 22, 27, 32, 37 become 19, 30, 42, 53.
* VVenC: its quantizer, ``p + 5`` for CRF.
* JPEG 2000: the PSNR in dB that every slice gets, ``56.2 - 0.72 p`` for CRF and ``65 - 0.85 p``
  for QP: 43.2, 39.6, 36, 32.4 dB and 46.3, 42.1, 37.8, 33.6 dB.
* Lossy CT: the same, in the window, ``54.8 - 0.7 p`` for CRF and ``64 - 0.85 p`` for QP: 42.2,
  38.7, 35.2, 31.7 dB and 45.3, 41, 36.8, 32.6 dB.
* HTJ2K: the quantization step in grey levels of 256, ``2^(0.14 p + 0.1)`` for CRF and
  ``2^(0.149 p - 1)`` for QP: 6.1, 10, 16, 26 and 4.8, 8.1, 14, 23.
* JPEG XL: the distance, ``2^(0.172 p - 2.1)`` for CRF and ``2^(0.167 p - 3.1)`` for QP: 2, 3.6,
  6.6, 12 and 1.5, 2.7, 4.7, 8.4.

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
    """A codec's scale over x264's: ``slope * p + offset``, or two to that power."""

    slope: float
    offset: float
    is_power: bool = False

    def at(self, point: float) -> float:
        """Return the point on the codec's scale."""
        value = self.slope * point + self.offset
        return float(2**value) if self.is_power else value

    def of(self, point: float) -> float:
        """Return the point on x264's scale."""
        value = math.log2(point) if self.is_power else point
        return (value - self.offset) / self.slope


SAME: Final = ScaleLine(1, 0)

MEASURED: Final[Mapping[tuple[str, Mode], ScaleLine]] = MappingProxyType(
    {
        ("x264", "crf"): SAME,
        ("x264", "qp"): SAME,
        ("x265", "crf"): SAME,
        ("x265", "qp"): SAME,
        ("svtav1", "crf"): ScaleLine(2.1, -14.5),
        ("svtav1", "qp"): ScaleLine(2.3, -32.0),
        ("vvenc", "crf"): ScaleLine(1.0, 5.0),
        ("jpeg2000", "crf"): ScaleLine(-0.72, 56.2),
        ("jpeg2000", "qp"): ScaleLine(-0.85, 65.0),
        ("ct-htj2k", "crf"): ScaleLine(-0.7, 54.8),
        ("ct-htj2k", "qp"): ScaleLine(-0.85, 64.0),
        ("ct-j2k", "crf"): ScaleLine(-0.7, 54.8),
        ("ct-j2k", "qp"): ScaleLine(-0.85, 64.0),
        ("htj2k", "crf"): ScaleLine(0.14, 0.1, is_power=True),
        ("htj2k", "qp"): ScaleLine(0.149, -1.0, is_power=True),
        ("jpegxl", "crf"): ScaleLine(0.172, -2.1, is_power=True),
        ("jpegxl", "qp"): ScaleLine(0.167, -3.1, is_power=True),
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
