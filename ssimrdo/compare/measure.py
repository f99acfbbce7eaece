"""What an encode shows: the quality of its decoded slices."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias

import av
from numpy.typing import NDArray

from ssimrdo import metrics
from ssimrdo.compare.clip import Clip
from ssimrdo.errors import EncoderError, InputError, VerificationError
from ssimrdo.machine import cores
from ssimrdo.metrics import FramePair, QualityIndex
from ssimrdo.video.decode import decoded_luma

PENDING_PER_WORKER: Final = 4

Qualities: TypeAlias = Mapping[str, tuple[float, ...]]
"""Quality of every slice, by index."""


def decoded_slices(path: Path, clip: Clip) -> Iterator[NDArray[Any]]:
    """Yield the slices of an encode of a clip as FFmpeg decodes them, in the slices' own size."""
    for luma in decoded_luma(path, bit_depth=clip.format.bit_depth):
        yield clip.format.crop(luma)


def measure(
    path: Path, clip: Clip, indices: Sequence[QualityIndex], *, workers: int | None = None
) -> Qualities:
    """Measure every slice of an encode of a clip.

    Parameters
    ----------
    path : Path
        Video file.
    clip : Clip
        What was encoded.
    indices : sequence of QualityIndex
        What to measure.
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
    results: list[Mapping[str, float]] = []
    pending: deque[Future[Mapping[str, float]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for number, luma in enumerate(decoded_slices(path, clip)):
                if number == len(clip.samples) or luma.shape != clip.format.shape:
                    raise VerificationError("the encode decodes to more or other slices")
                pair = FramePair(clip.samples[number], luma, clip.format)
                pending.append(pool.submit(metrics.measure, pair, indices))
                if len(pending) > PENDING_PER_WORKER * workers:
                    results.append(pending.popleft().result())
        except av.error.FFmpegError as error:
            raise EncoderError(f"the encode does not decode: {error.strerror or error}") from error
        results += [future.result() for future in pending]
    if len(results) != len(clip.samples):
        raise VerificationError(f"{len(results)} of {len(clip.samples)} slices decode")
    qualities = {index.name: tuple(one[index.name] for one in results) for index in indices}
    for name, values in qualities.items():
        for number, value in enumerate(values, start=1):
            if not math.isfinite(value):
                raise InputError(f"{name} of slice {number} is {value}, no finite number")
    return qualities
