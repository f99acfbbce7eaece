"""What an encoded file costs and shows: payload bytes, and the quality of its decoded slices."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ssimrdo.compare.clip import Clip
from ssimrdo.encoding.warmup import load_kernels
from ssimrdo.errors import EncoderError, VerificationError
from ssimrdo.metrics import ms_ssim, slice_quality
from ssimrdo.video import decoded_luma

METRICS = ("ssim", "weighted_ssim", "ms_ssim", "psnr")
"""All metrics; each grows with quality."""

_PENDING_PER_WORKER = 4

Qualities = dict[str, tuple[float, ...]]
"""Quality of every slice, by metric."""


def payload_bytes(path: Path) -> int:
    """Return the bytes of all packets of a video file, without those of the container."""
    with av.open(str(path)) as source:
        return sum(packet.size for packet in source.demux(video=0))


def decoded_slices(path: Path, clip: Clip) -> Iterator[NDArray[Any]]:
    """Yield the slices of an encode of a clip as FFmpeg decodes them, in the slices' own size."""
    with av.open(str(path)) as source:
        pixel_format = source.streams.video[0].codec_context.format
        # FFmpeg decodes JPEG 2000 of 10 bit to the upper bits of 16.
        surplus = pixel_format.components[0].bits - clip.bit_depth if pixel_format else 0
    for luma in decoded_luma(path):
        yield luma[: clip.rows, : clip.columns] >> max(surplus, 0)


def measure(path: Path, clip: Clip, *, workers: int | None = None) -> Qualities:
    """Measure every slice of an encode of a clip with every metric.

    Parameters
    ----------
    path : Path
        Matroska file.
    clip : Clip
        What was encoded.
    workers : int, optional
        Threads that measure; one per processor by default.

    Raises
    ------
    EncoderError
        If the file does not decode.
    VerificationError
        If it has another number or size of slices than the clip.
    """
    workers = workers or os.cpu_count() or 1
    results: list[tuple[float, ...]] = []
    pending: deque[Future[tuple[float, ...]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for index, luma in enumerate(decoded_slices(path, clip)):
                if index == len(clip.frames) or luma.shape != clip.frames.shape[1:]:
                    raise VerificationError("the encode decodes to more or other slices")
                pending.append(pool.submit(_qualities, clip.frames[index], luma, clip.bit_depth))
                if len(pending) > _PENDING_PER_WORKER * workers:
                    results.append(pending.popleft().result())
        except av.error.FFmpegError as error:
            raise EncoderError(f"the encode does not decode: {error.strerror or error}") from error
        results += [future.result() for future in pending]
    if len(results) != len(clip.frames):
        raise VerificationError(f"{len(results)} of {len(clip.frames)} slices decode")
    columns = zip(*results, strict=True)
    return dict(zip(METRICS, columns, strict=True))


def load_measures(bit_depth: int) -> None:
    """Load or compile all kernels, so that no encode is timed while this happens."""
    load_kernels(bit_depth)
    luma = np.zeros((32, 32), np.uint8 if bit_depth == 8 else np.uint16)
    _qualities(luma, luma, bit_depth)


def _qualities(source: NDArray[Any], shown: NDArray[Any], bit_depth: int) -> tuple[float, ...]:
    """Return the metrics in the order of :data:`METRICS`."""
    quality = slice_quality(source, shown, bit_depth=bit_depth)
    multiscale = ms_ssim(source, shown, bit_depth=bit_depth)
    return quality.ssim, quality.weighted_ssim, multiscale, quality.psnr_db
