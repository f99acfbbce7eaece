"""What an encode shows: the quality of its decoded slices."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from numpy.typing import NDArray

from ssimrdo import metrics
from ssimrdo.comparison.clip import Clip
from ssimrdo.errors import EncoderError, InputError, VerificationError, cause_of
from ssimrdo.machine import cores
from ssimrdo.metrics import FramePair, QualityIndex
from ssimrdo.metrics.tissue import SSIM_AREAS, Area, TissueErrors, TissueMap, tissue_errors
from ssimrdo.record.tissue import TissueSummary
from ssimrdo.video.decode import decoded_luma

PENDING_PER_WORKER: Final = 4

Qualities: TypeAlias = Mapping[str, tuple[float, ...]]
"""Quality of every slice, by index."""


class Measured(NamedTuple):
    """Qualities of an encode, and its errors by tissue where they were asked for."""

    qualities: Qualities
    tissue: TissueSummary | None


def decoded_slices(path: Path, clip: Clip) -> Iterator[NDArray[Any]]:
    """Yield the slices of an encode of a clip as FFmpeg decodes them, in the slices' own size."""
    for luma in decoded_luma(path, bit_depth=clip.format.bit_depth):
        yield clip.format.crop(luma)


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
            for number, luma in enumerate(decoded_slices(path, clip)):
                if number == len(clip.samples) or luma.shape != clip.format.shape:
                    raise VerificationError("the encode decodes to more or other slices")
                pair = FramePair(clip.samples[number], luma, clip.format)
                tissue = clip.tissue_map(number) if by_tissue else None
                pending.append(pool.submit(_measure, pair, indices, tissue))
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


def _measure(pair: FramePair, indices: Sequence[QualityIndex], tissue: TissueMap | None) -> _Slice:
    values = metrics.measure(pair, indices)
    return _Slice(values, None if tissue is None else tissue_errors(pair, tissue))


class _Found:
    """What was measured of the slices so far, with the errors by tissue added up."""

    def __init__(self, indices: Sequence[QualityIndex]) -> None:
        self.slices = 0
        self.qualities: dict[str, list[float]] = {index.name: [] for index in indices}
        self._errors: TissueErrors | None = None
        self._ssim: dict[Area, list[float | None]] = {area: [] for area in SSIM_AREAS}

    def take(self, one: _Slice) -> None:
        """Add a slice."""
        self.slices += 1
        for name, values in self.qualities.items():
            values.append(one.values[name])
        if one.errors is not None:
            self._errors = one.errors if self._errors is None else self._errors + one.errors
            for area, found in self._ssim.items():
                found.append(one.errors.ssim(area))

    def tissue(self, clip: Clip) -> TissueSummary | None:
        """Return the errors by tissue."""
        if self._errors is None:
            return None
        return TissueSummary.of(self._errors, self._ssim, clip.facts.scale)
