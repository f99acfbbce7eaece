"""HTJ2K (JPEG 2000 part 15) as a codec: OpenJPH, every slice by itself, grey alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs import openjph
from ssimrdo.codecs.base import (
    Mode,
    QualityScale,
    StreamSettings,
    UnsteeredCodec,
    point_of,
)
from ssimrdo.codecs.stills import StillSession, constant_quality, imagecodecs_version
from ssimrdo.errors import EncoderError
from ssimrdo.extras import require

GREY_LEVELS: Final = 256
"""Of the scale of quantization steps, whatever the bit depth."""

_WORD: Final = 16
"""Bits of the samples that more than 8 bits are put into the upper ones of."""

_STEPS: Final = QualityScale(
    0.01, 64, step=0.01, default=4, log_rate_slope=-0.2, qp_per_step=6 / (4 * math.log(2))
)


@dataclass(frozen=True)
class Htj2k(UnsteeredCodec):
    """HTJ2K with the irreversible 9-7 transform, one tile.

    Constant quality is the quantization step of every slice, in grey levels of 256; a lower number
    is better. There is neither a quantizer to ask for nor a bit rate.
    """

    name = "htj2k"
    label = "HTJ2K"
    syntax = "j2k_pipe"
    containers = ("matroska",)
    depths = (8, 10)
    sides = (32, 16384)

    @property
    def version(self) -> str:
        """Version of the package around OpenJPH."""
        return imagecodecs_version()

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of quantization steps.

        Raises
        ------
        InputError
            For a quantizer or a bit rate.
        """
        del bit_depth
        return constant_quality(self.label, mode, _STEPS)

    def open(self, stream: StreamSettings) -> StillSession:
        """Open a session.

        Raises
        ------
        InputError
            If imagecodecs is not installed.
        """
        require("imagecodecs", what=self.label)
        step = point_of(stream.rate) / GREY_LEVELS
        return StillSession(partial(_encoded, bit_depth=stream.format.bit_depth, step=step))

    def describe(self, stream: StreamSettings) -> str:
        """Return the transform and the quantization step."""
        return f"OpenJPH irreversible 9-7, grey, 1 tile, step={point_of(stream.rate):g}/256"


def _encoded(luma: NDArray[Any], *, bit_depth: int, step: float) -> bytes:
    samples = np.ascontiguousarray(luma)
    if bit_depth > 8:
        # imagecodecs states whole bytes; a decoder that drops the lower bits rounds by the half.
        shift = _WORD - bit_depth
        samples = (samples.astype(np.uint16) << shift) + np.uint16(1 << shift - 1)
    try:
        return openjph.encode(samples, step)
    except (RuntimeError, ValueError) as error:
        raise EncoderError(f"OpenJPH failed to encode: {error}") from error
