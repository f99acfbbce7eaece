"""Decoding video files to luma frames with FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray


def decoded_luma(
    path: Path, *, container: str | None = None, threads: int = 0
) -> Iterator[NDArray[Any]]:
    """Yield the luma of every frame of a video file in presentation order.

    Parameters
    ----------
    path : Path
        Video file.
    container : str, optional
        FFmpeg's name of the container, where the file's suffix does not tell.
    threads : int
        Decoder threads; 0 leaves the number to FFmpeg.

    Yields
    ------
    ndarray of shape (height, width), uint8 or uint16
        Luma after the stream's own cropping.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with av.open(str(path), format=container) as source:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        for frame in source.decode(stream):
            yield luma_plane(frame)


def luma_plane(frame: av.VideoFrame) -> NDArray[Any]:
    """Return a copy of the first plane of a planar frame with 8 or more bits per sample."""
    plane = frame.planes[0]
    dtype = np.dtype(np.uint8 if frame.format.components[0].bits == 8 else np.uint16)
    samples: NDArray[Any] = np.frombuffer(memoryview(plane), dtype)
    rows = samples.reshape(plane.height, plane.line_size // dtype.itemsize)
    return rows[:, : plane.width].copy()
