"""What losses take, and the windows that those of the SSIM family are means over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.losses import kernels
from ssimrdo.losses.kernels import PRODUCT
from ssimrdo.metrics.components import stabilizers
from ssimrdo.metrics.inputs import check_pair
from ssimrdo.metrics.inverse import FLOOR
from ssimrdo.metrics.kernels import RADIUS
from ssimrdo.metrics.level_weighted import window_taps

Frame = NDArray[Any]

_NONE = np.empty((3, 0, 0))


def float_frames(
    x: Frame, y: Frame, *, title: str, side: int, data_range: float
) -> tuple[Frame, Frame]:
    """Return two frames in the type that a loss is computed in.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames.
    title : str
        Of the index, for errors.
    side : int
        Fewest rows and columns.
    data_range : float
        L.

    Returns
    -------
    x, y : ndarray of the same shape, contiguous
        In float32 where that holds all samples of both, else in float64.

    Raises
    ------
    ValueError
        If the frames or L are unusable.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.dtype.kind not in "buif" or y.dtype.kind not in "buif":
        raise ValueError(f"{title} takes frames of real numbers, not {x.dtype} and {y.dtype}")
    check_pair(x, y, title=title, side=side)
    if not 0 < data_range < np.inf:
        raise ValueError(f"{title} takes a data range above 0, not {data_range}")
    dtype = np.result_type(x, y, np.float32)
    real = np.float32 if dtype == np.float32 else np.float64
    return np.ascontiguousarray(x, real), np.ascontiguousarray(y, real)


def check_exponents(*exponents: float) -> None:
    """Check that exponents are numbers that are not negative.

    Raises
    ------
    ValueError
        If one is.
    """
    if not all(0 <= one < np.inf for one in exponents):
        raise ValueError(f"exponents are 0 or more, not {', '.join(map(str, exponents))}")


class Windows:
    """The mean of a function of SSIM's terms over the windows of two frames.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), float32 or float64
        From :func:`float_frames`.
    data_range : float
        L.
    size : int
        Side of the windows, odd, up to 11.
    function : int
        Of :mod:`ssimrdo.losses.kernels`.
    exponents : tuple of float
        α, β and γ.
    gradient : bool
        Whether it will be asked for.
    """

    def __init__(
        self,
        x: Frame,
        y: Frame,
        data_range: float,
        *,
        size: int = 2 * RADIUS + 1,
        function: int = PRODUCT,
        exponents: tuple[float, float, float] = (1.0, 1.0, 1.0),
        gradient: bool,
    ) -> None:
        rows, columns = x.shape
        shape = (3, rows + 2 * RADIUS, columns + 2 * RADIUS)
        taps = window_taps(size).astype(x.dtype)
        maps = np.zeros(shape, x.dtype) if gradient else _NONE.astype(x.dtype)
        c1, c2 = stabilizers(data_range)
        alpha, beta, gamma = (float(one) for one in exponents)
        self._frames = (x, y, taps, float(data_range))
        self._maps = maps
        self._count = (rows - 2 * RADIUS) * (columns - 2 * RADIUS)
        terms = (c1, c2, function, alpha, beta, gamma, FLOOR)
        self.mean = float(kernels.window_sum(*self._frames, *terms, maps)) / self._count

    def add_gradient(self, scale: float, out: Frame) -> None:
        """Add the mean's gradient with respect to ``y``, times a number, to an array."""
        kernels.add_gradient(*self._frames, self._maps, float(scale) / self._count, out)
