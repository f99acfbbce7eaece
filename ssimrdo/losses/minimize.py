"""Losses as SciPy's minimisers take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def for_minimize(
    loss: Callable[..., tuple[float, NDArray[Any]]], x: NDArray[Any], **options: Any
) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
    """Return a loss as a function of a vector, for ``scipy.optimize.minimize(..., jac=True)``.

    Parameters
    ----------
    loss : callable
        Of this package, such as :func:`one_minus_ssim`.
    x : ndarray of shape (rows, columns)
        Reference frame.
    **options
        Of the loss, such as ``data_range``.

    Returns
    -------
    callable
        Takes the samples of a distorted frame, a vector, and returns its loss and the gradient, a
        vector too. A vector of doubles, as SciPy makes them, makes it compute in doubles.
    """

    def function(vector: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = loss(x, vector.reshape(x.shape), **options)
        return value, np.asarray(gradient, np.float64).ravel()

    return function
