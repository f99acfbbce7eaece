"""HTJ2K by OpenJPH in imagecodecs, called from any number of threads.

OpenJPH fills its tables at first use, and threads that come meanwhile read what is not there yet:
now and then that makes a wrong codestream (https://github.com/aous72/OpenJPH/pull/243).
"""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

_lock = Lock()


def encode(image: NDArray[Any], step: float | None = None) -> bytes:
    """Return an image as an HTJ2K codestream.

    Parameters
    ----------
    image : ndarray of shape (rows, columns)
        uint8, uint16 or int16.
    step : float, optional
        Quantization step, as a share of the range of the dtype; lossless without.

    Raises
    ------
    ImportError
        If imagecodecs is not installed.
    """
    return _encode(_library(), image, step)


def decode(data: bytes) -> NDArray[Any]:
    """Return the image of an HTJ2K codestream.

    Raises
    ------
    ImportError
        If imagecodecs is not installed.
    RuntimeError
        If it cannot be decoded.
    """
    return np.asarray(_library().htj2k_decode(data))


def _encode(library: Any, image: NDArray[Any], step: float | None) -> bytes:
    if step is None:
        return bytes(library.htj2k_encode(image, reversible=True))
    return bytes(library.htj2k_encode(image, level=step, reversible=False))


def _library() -> Any:
    with _lock:
        return _library_with_tables()


@cache
def _library_with_tables() -> Any:
    import imagecodecs

    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for step in (None, 0.01):
        imagecodecs.htj2k_decode(_encode(imagecodecs, image, step))
    return imagecodecs
