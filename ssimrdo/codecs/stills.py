"""What codecs of still images have in common: every slice is a picture by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from numpy.typing import NDArray

from ssimrdo.codecs.base import Closing, Mode, Packet, QualityScale, Steering
from ssimrdo.errors import InputError
from ssimrdo.machine import cores

STILLS: Final = "zip"
"""The container of pictures that FFmpeg knows no stream of; not one of FFmpeg's."""


def constant_quality(label: str, mode: Mode, scale: QualityScale) -> QualityScale:
    """Return the scale of a codec that has constant quality alone.

    Raises
    ------
    InputError
        For another mode.
    """
    if mode == "crf":
        return scale
    reason = "quantizer" if mode == "qp" else "mean bit rate"
    field = "qp" if mode == "qp" else "bitrate_kbps"
    raise InputError(f"{label} has no {reason}", field=field, remedy="give a {crf}")


def imagecodecs_version() -> str:
    """Return the version of imagecodecs for a reader, whether it is installed or not."""
    # What this imports takes longer than reading ten headers, and is for a few codecs alone.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"imagecodecs {version('imagecodecs')}"
    except PackageNotFoundError:
        return "imagecodecs, not installed"


class StillSession(Closing):
    """Encodes slices one by one; see :class:`ssimrdo.codecs.base.Session`.

    Parameters
    ----------
    encode : callable
        Returns the file or codestream of a slice; called in threads if there are several workers.
    workers : int
        Slices that are encoded at a time; 0 for one per processor.
    """

    headers = b""
    settings = ""

    def __init__(self, encode: Callable[[NDArray[Any]], bytes], workers: int = 1) -> None:
        self._encode = encode
        self._workers = workers or cores()
        self._pool = ThreadPoolExecutor(self._workers) if self._workers > 1 else None
        self._pending: deque[tuple[int, Future[bytes]]] = deque()

    def encode(self, luma: NDArray[Any], steering: Steering, index: int) -> Iterator[Packet]:
        """Take one frame; yield the packets of those that are done, in their order."""
        del steering
        if self._pool is None:
            yield Packet(self._encode(luma), index, index, keyframe=True)
            return
        self._pending.append((index, self._pool.submit(self._encode, luma.copy())))
        while len(self._pending) > self._workers:
            yield self._next()

    def flush(self) -> Iterator[Packet]:
        """Yield the packets of the frames that are still being encoded."""
        while self._pending:
            yield self._next()

    def close(self) -> None:
        """End the threads; what has not begun is dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _next(self) -> Packet:
        index, future = self._pending.popleft()
        return Packet(future.result(), index, index, keyframe=True)
