"""Lossy CT as an encoder of a comparison: HU of 16 bits, no window, every slice by itself.

It compresses as :func:`ssimrdo.encoding.ct_series.encode_ct` does. What it decodes to is shown in
the window that the other encoders' luma is made with, so that its indices are theirs; its errors by
tissue are those of HU, as far as the window shows them, not those of grey levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo import metrics
from ssimrdo.codecs.base import (
    Mode,
    QualityScale,
    StreamSettings,
    UnsteeredCodec,
    point_of,
)
from ssimrdo.codecs.jpeg2000 import QP_PER_DB
from ssimrdo.codecs.stills import STILLS, StillSession, constant_quality, imagecodecs_version
from ssimrdo.dicom import Window
from ssimrdo.dicom.grey import WIDE, linear_ends
from ssimrdo.dicom.write.lossy import LOSSY_CODECS, lossy_codec
from ssimrdo.encoding.ct_series import CTCoder, CTGoal, StoredScale
from ssimrdo.encoding.settings import Floor
from ssimrdo.encoding.views import TissueCount
from ssimrdo.errors import EncoderError
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import FramePair
from ssimrdo.metrics.tissue import GreyScale, TissueErrors, TissueMap, tissue_errors

_PSNR: Final = QualityScale(
    10,
    99,
    step=0.001,
    default=40,
    log_rate_slope=-math.log(2) / 6 * QP_PER_DB,
    qp_per_step=QP_PER_DB,
)

_COUNTED_DEPTH: Final = 12
"""Bits of the steps that errors in HU are counted in."""


@dataclass(frozen=True)
class LossyCT(UnsteeredCodec):
    """A series as lossy CT; frames are stored values of 16 bits.

    Constant quality is the PSNR in dB that every slice keeps in the window, which is a limit of the
    root mean square of its errors: the window's width over ``10^(PSNR / 20)``. A higher number is
    better. There is neither a quantizer to ask for nor a bit rate.

    Parameters
    ----------
    method : str
        A key of :data:`ssimrdo.dicom.write.lossy.LOSSY_CODECS`.
    window : Window, optional
        In which quality is measured; None until the clip is known.
    stored : StoredScale, optional
        What frames mean in HU; None until the clip is known.
    inverted : bool
        Whether the lowest HU are shown white.
    """

    method: str
    window: Window | None = None
    stored: StoredScale | None = None
    inverted: bool = False

    containers = (STILLS,)
    depths = (8, 10, 16)
    sides = (32, 16384)

    @property
    def name(self) -> str:  # type: ignore[override]
        """``ct-htj2k`` or ``ct-j2k``."""
        return f"ct-{self.method}"

    @property
    def label(self) -> str:
        """What it writes."""
        return f"lossy CT, {LOSSY_CODECS[self.method].title}"

    @property
    def syntax(self) -> str:
        """Name of the codestream; a key of ``LOSSY_CODECS``."""
        return self.method

    @property
    def version(self) -> str:
        """Version of the package around the codecs."""
        return imagecodecs_version()

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of the PSNR that every slice keeps.

        Raises
        ------
        InputError
            For a quantizer or a bit rate.
        """
        del bit_depth
        return constant_quality(self.label, mode, _PSNR)

    def options(self) -> dict[str, Any]:
        """Return what it writes."""
        return {"method": self.method}

    def open(self, stream: StreamSettings) -> StillSession:
        """Open a session.

        Raises
        ------
        InputError
            If imagecodecs is not installed.
        """
        codec = lossy_codec(self.method)
        floor = Floor(metrics.PSNR.name, point_of(stream.rate))
        if self.window is None or self.stored is None:
            raise EncoderError(f"{self.name} needs a window, and what frames mean in HU")
        coder = CTCoder(codec, CTGoal(floor), self.window, (metrics.PSNR,))
        return StillSession(partial(self._encoded, coder, self.stored), workers=stream.threads)

    def describe(self, stream: StreamSettings) -> str:
        """Return the codec and what every slice keeps."""
        codec = LOSSY_CODECS[self.method]
        return (
            f"{codec.title} of 16 bit HU, transfer syntax {codec.syntax}, every slice as coarse as "
            f"PSNR in the window allows, psnr={point_of(stream.rate):g}"
        )

    def _encoded(self, coder: CTCoder, scale: StoredScale, stored: NDArray[np.uint16]) -> bytes:
        return coder.compress(scale.hu(stored), scale, inverted=self.inverted).codestream


@dataclass(frozen=True)
class HUCount:
    """Counts errors by tissue in HU that were not made of grey levels.

    Parameters
    ----------
    scale : GreyScale
        What the counted steps mean in HU: whole HU, or more where a window is wider than 12 bits.
    top : int
        The step of the window's upper end; what lies beyond its ends counts as these do.
    is_wide : bool
        Whether all is counted in HU, as of frames of the whole range.
    """

    scale: GreyScale
    top: int
    is_wide: bool = False

    @classmethod
    def of(cls, window: Window) -> HUCount | None:
        """Return how errors are counted in a window, None where grey is not linear in HU."""
        most = (1 << _COUNTED_DEPTH) - 1
        if window.function == WIDE:
            scale = TissueCount.of(window, FrameFormat(1, 1)).scale
            assert scale is not None, "it is counted in whole HU"
            return cls(scale, most, is_wide=True)
        ends = linear_ends(window)
        if ends is None:
            return None
        low, high = ends
        step = max(1.0, (high - low) / most)
        return cls(GreyScale(low, step), round((high - low) / step))

    def errors(
        self, pair: FramePair, hu: tuple[NDArray[np.float32], NDArray[np.float32]], of: TissueMap
    ) -> TissueErrors:
        """Return the errors of a slice by tissue.

        Parameters
        ----------
        pair : FramePair
            Source and decoded slice as luma, of which SSIM is.
        hu : pair of ndarray of shape (rows, columns), float32
            The same in HU, of which errors are.
        of : TissueMap
            Of the source.
        """
        frames = FrameFormat(pair.format.rows, pair.format.columns, _COUNTED_DEPTH)
        source, shown = map(self._steps, hu)
        counted = tissue_errors(FramePair(source, shown, frames), of)
        if self.is_wide:
            return counted
        in_luma = tissue_errors(pair, of)
        return replace(in_luma, counts=counted.counts, noise=counted.noise)

    def _steps(self, hu: NDArray[np.float32]) -> NDArray[np.uint16]:
        steps = np.rint((hu - self.scale.hu_at_black) / self.scale.hu_per_level)
        return np.asarray(np.clip(steps, 0, self.top), np.uint16)
