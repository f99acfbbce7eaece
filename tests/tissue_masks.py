"""Areas of a slice, found with SciPy in doubles from their definitions in docs/quality.md."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


def windowed_moments(x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and variance in 11x11 Gaussian windows, in doubles."""
    x = x.astype(np.float64)
    mean = ndimage.gaussian_filter(x, 1.5, radius=5)
    return mean, ndimage.gaussian_filter(x * x, 1.5, radius=5) - mean**2


def largest_filled(mask: Mask) -> Mask:
    """Return the largest component and what has it on three sides of four."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return np.zeros_like(mask)
    component = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    sides = sum(
        np.flip(np.logical_or.accumulate(np.flip(component, axis), axis), axis).astype(int)
        + np.logical_or.accumulate(component, axis)
        for axis in (0, 1)
    )
    return np.asarray(sides >= 3)


def masks(luma: NDArray[Any], hu: NDArray[Any] | None, peak: int) -> dict[str, Mask]:
    """Return the areas of a slice by name.

    Parameters
    ----------
    luma : ndarray of shape (rows, columns)
        Grey levels, not inverted.
    hu : ndarray of the same shape, optional
        What the grey levels mean.
    peak : int
        Largest luma.
    """
    x, level = luma.astype(np.float64), peak / 255
    _, variance = windowed_moments(x)
    inside = (luma > 0) & (luma < peak)
    body = largest_filled((luma > 0) & (True if hu is None else hu > -500))
    lung = np.zeros_like(body)
    if hu is not None:
        # Smoothing and a linear window may be swapped.
        around = ndimage.gaussian_filter(hu.astype(np.float64), 1.5, radius=5)
        lung = body & (around >= -950) & (around <= -500) if hu.min() < -500 else lung
    soft = body & ~lung if hu is None else body & (around > -500)
    return {
        "body": body,
        "edge": np.hypot(ndimage.sobel(x, 0), ndimage.sobel(x, 1)) / 8 > 25 * level,
        "dense": (ndimage.white_tophat(luma, size=9) > 40 * level) & (luma > 60 * level),
        "flat": soft & (variance < 150 * level**2) & inside,
        "lung": lung,
        "unclipped": ndimage.binary_erosion(inside, np.ones((11, 11)), border_value=1),
    }
