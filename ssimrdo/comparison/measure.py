"""What an encode shows: the quality of its decoded slices."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssimrdo import metrics
from ssimrdo.comparison.clip import Clip
from ssimrdo.comparison.lossy_ct import HUCount
from ssimrdo.dicom.grey import apply_window
from ssimrdo.dicom.padding import PADDING, show_padding
from ssimrdo.dicom.write.lossy import LOSSY_CODECS
from ssimrdo.errors import EncoderError, InputError, VerificationError, cause_of
from ssimrdo.machine import cores
from ssimrdo.metrics import FramePair, QualityIndex
from ssimrdo.metrics.tissue import SSIM_AREAS, Area, TissueErrors, tissue_errors
from ssimrdo.record.tissue import TissueSummary
from ssimrdo.video.decode import decoded_luma
from ssimrdo.video.stills import are_stills, decoded_jpegxl, still_syntax, stills_of

PENDING_PER_WORKER: Final = 4

Qualities: TypeAlias = Mapping[str, tuple[float, ...]]
"""Quality of every slice, by index."""


class Measured(NamedTuple):
    """Qualities of an encode, and its errors by tissue where they were asked for."""

    qualities: Qualities
    tissue: TissueSummary | None


class Decoded(NamedTuple):
    """A decoded slice in the size of its source.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns), uint8 or uint16
        As it is shown.
    hu : ndarray of shape (rows, columns), float32, optional
        In HU, where these are what was encoded.
    """

    luma: NDArray[Any]
    hu: NDArray[np.float32] | None = None


def decoded_slices(path: Path, clip: Clip) -> Iterator[NDArray[Any]]:
    """Yield the slices of an encode of a clip as decoders show them, in the slices' own size."""
    return (one.luma for one in decoded(path, clip))


def decoded(path: Path, clip: Clip) -> Iterator[Decoded]:
    """Yield the slices of an encode of a clip.

    FFmpeg decodes videos and JPEG 2000, imagecodecs what FFmpeg cannot.

    Parameters
    ----------
    path : Path
        Video file or archive of pictures.
    clip : Clip
        What was encoded.
    """
    crop = clip.format.crop
    if not are_stills(path):
        for luma in decoded_luma(path, bit_depth=clip.format.bit_depth):
            yield Decoded(crop(luma))
        return
    codec = LOSSY_CODECS.get(still_syntax(path))
    if codec is None:
        for luma in decoded_jpegxl(path):
            yield Decoded(crop(luma))
        return
    assert clip.stored is not None, "it was encoded"
    for number, data in enumerate(stills_of(path)):
        hu = clip.stored.scale.hu(crop(codec.decode(data)))
        luma = apply_window(
            hu, clip.facts.window, bit_depth=clip.format.bit_depth, inverted=clip.inverted
        )
        # Lossy CT has no padding, only air there; it is no image, in either.
        if number < len(clip.samples):
            show_padding(luma, clip.padding(number), PADDING)
        yield Decoded(luma, hu)


def measure(
    path: Path,
    clip: Clip,
    indices: Sequence[QualityIndex],
    *,
    by_tissue: bool = True,
    workers: int | None = None,
) -> Measured:
    """Measure every slice of an encode of a clip.

    Parameters
    ----------
    path : Path
        Video file.
    clip : Clip
        What was encoded.
    indices : sequence of QualityIndex
        What to measure.
    by_tissue : bool
        Whether to measure errors by tissue as well.
    workers : int, optional
        Threads that measure; one per processor by default.

    Raises
    ------
    EncoderError
        If the file does not decode.
    VerificationError
        If it has another number or size of slices than the clip.
    InputError
        If an index gives no finite number.
    """
    workers = workers or cores()
    found = _Found(indices)
    pending: deque[Future[_Slice]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number, one in enumerate(decoded(path, clip)):
                if number == len(clip.samples) or one.luma.shape != clip.format.shape:
                    raise VerificationError("the encode decodes to more or other slices")
                work = partial(_measure, clip, number, one, indices, by_tissue=by_tissue)
                pending.append(pool.submit(work))
                if len(pending) > PENDING_PER_WORKER * workers:
                    found.take(pending.popleft().result())
        except OSError as error:
            raise EncoderError(f"the encode does not decode: {cause_of(error)}") from error
        for future in pending:
            found.take(future.result())
    if found.slices != len(clip.samples):
        raise VerificationError(f"{found.slices} of {len(clip.samples)} slices decode")
    for name, values in found.qualities.items():
        for number, value in enumerate(values, start=1):
            if not math.isfinite(value):
                raise InputError(f"{name} of slice {number} is {value}, no finite number")
    qualities = {name: tuple(values) for name, values in found.qualities.items()}
    return Measured(qualities, found.tissue(clip))


class _Slice(NamedTuple):
    """What was measured of a slice."""

    values: Mapping[str, float]
    errors: TissueErrors | None
    in_hu: HUCount | None = None


def _measure(
    clip: Clip, number: int, one: Decoded, indices: Sequence[QualityIndex], *, by_tissue: bool
) -> _Slice:
    pair = FramePair(clip.samples[number], one.luma, clip.format)
    values = metrics.measure(pair, indices)
    if not by_tissue:
        return _Slice(values, None)
    tissue = clip.tissue_map(number)
    in_hu = None if one.hu is None else HUCount.of(clip.facts.window)
    if one.hu is None or in_hu is None:
        return _Slice(values, tissue_errors(clip.count.pair(pair), tissue))
    assert clip.stored is not None, "it was encoded"
    hu = clip.stored.hu(number), one.hu
    return _Slice(values, in_hu.errors(pair, hu, tissue), in_hu)


class _Found:
    """What was measured of the slices so far, with the errors by tissue added up."""

    def __init__(self, indices: Sequence[QualityIndex]) -> None:
        self.slices = 0
        self.qualities: dict[str, list[float]] = {index.name: [] for index in indices}
        self._errors: TissueErrors | None = None
        self._in_hu: HUCount | None = None
        self._ssim: dict[Area, list[float | None]] = {area: [] for area in SSIM_AREAS}

    def take(self, one: _Slice) -> None:
        """Add a slice."""
        self.slices += 1
        for name, values in self.qualities.items():
            values.append(one.values[name])
        if one.errors is not None:
            self._in_hu = one.in_hu
            self._errors = one.errors if self._errors is None else self._errors + one.errors
            for area, found in self._ssim.items():
                found.append(one.errors.ssim(area))

    def tissue(self, clip: Clip) -> TissueSummary | None:
        """Return the errors by tissue."""
        if self._errors is None:
            return None
        shown = clip.count.scale
        if self._in_hu is None:
            return TissueSummary.of(self._errors, self._ssim, shown)
        summary = TissueSummary.of(self._errors, self._ssim, self._in_hu.scale)
        # The steps that errors are counted in need not end where the window does.
        return replace(summary, span=self._in_hu.top * self._in_hu.scale.hu_per_level)
