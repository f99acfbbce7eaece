"""JPEG XL as a codec: libjxl, every slice by itself, grey alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.base import Mode, QualityScale, StreamSettings, UnsteeredCodec, point_of
from ssimrdo.codecs.stills import STILLS, StillSession, constant_quality, imagecodecs_version
from ssimrdo.errors import EncoderError, InputError
from ssimrdo.extras import require

EFFORT: Final = 7
"""libjxl's own default."""

EFFORTS: Final = range(1, 11)

_DISTANCES: Final = QualityScale(
    0.05, 25, step=0.01, default=2, log_rate_slope=-0.35, qp_per_step=6 / (2 * math.log(2))
)


@dataclass(frozen=True)
class JpegXl(UnsteeredCodec):
    """Lossy JPEG XL with an effort.

    Constant quality is libjxl's distance of every slice; a lower number is better. There is neither
    a quantizer to ask for nor a bit rate. FFmpeg as PyAV brings it decodes no JPEG XL, so it is
    for comparisons, where imagecodecs does.

    Parameters
    ----------
    effort : int
        1 to 10, slowest last.

    Raises
    ------
    InputError
        If the effort is unknown.
    """

    effort: int = EFFORT

    name = "jpegxl"
    syntax = "jxl"
    containers = (STILLS,)
    depths = (8, 10)
    sides = (8, 16384)

    def __post_init__(self) -> None:
        if self.effort not in EFFORTS:
            raise InputError(
                f"{self.effort!r} is unknown",
                field="effort",
                remedy=f"use one of {', '.join(map(str, EFFORTS))}",
            )

    @property
    def label(self) -> str:
        """Name and effort."""
        return f"JPEG XL {self.effort}"

    @property
    def version(self) -> str:
        """Version of the package around libjxl."""
        return imagecodecs_version()

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of distances.

        Raises
        ------
        InputError
            For a quantizer or a bit rate.
        """
        del bit_depth
        return constant_quality(self.label, mode, _DISTANCES)

    def open(self, stream: StreamSettings) -> StillSession:
        """Open a session.

        Raises
        ------
        InputError
            If imagecodecs is not installed.
        """
        require("imagecodecs", what=self.label)
        options = {
            "distance": point_of(stream.rate),
            "effort": self.effort,
            "bitspersample": stream.format.bit_depth,
            "numthreads": 1,
        }
        # Slices beside each other keep more processors busy than the parts of one.
        return StillSession(partial(_encoded, options=options), workers=stream.threads)

    def describe(self, stream: StreamSettings) -> str:
        """Return effort and distance."""
        return f"libjxl effort={self.effort} grey distance={point_of(stream.rate):g}"


def _encoded(luma: NDArray[Any], options: dict[str, Any]) -> bytes:
    import imagecodecs

    try:
        return bytes(imagecodecs.jpegxl_encode(np.ascontiguousarray(luma), **options))
    except (RuntimeError, ValueError) as error:
        raise EncoderError(f"libjxl failed to encode: {error}") from error
