"""One noisy slice of the phantom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ssimrdo.phantom.anatomy import AIR_HU, anatomy_hu
from ssimrdo.phantom.noise import fbp_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssimrdo.phantom.settings import PhantomSettings


def reconstruction_circle(size: int) -> NDArray[np.bool_]:
    """Return which pixels a CT reconstructs: the circle that touches the sides of the image.

    Parameters
    ----------
    size : int
        Rows and columns.

    Returns
    -------
    ndarray of bool, shape (size, size)
        True inside the circle.
    """
    offset = np.arange(size) - (size - 1) / 2
    inside: NDArray[np.bool_] = offset[:, None] ** 2 + offset**2 <= (size / 2) ** 2
    return inside


def phantom_slice_hu(index: int, settings: PhantomSettings) -> NDArray[np.float32]:
    """Return one slice of the phantom, noise included.

    Every slice has a random stream of its own, made from the seed and the slice number: slices
    may be made in any order and any number of them.

    Parameters
    ----------
    index : int
        Slice number from 0, feet to head; may lie beyond ``settings.slices``.
    settings : PhantomSettings
        Size, spacing, seed and noise.

    Returns
    -------
    ndarray of float32, shape (size, size)
        HU; air (-1000 HU) outside the circular field of view.

    Raises
    ------
    ValueError
        If `index` is negative.
    """
    clean = anatomy_hu(index, settings)
    rng = np.random.default_rng([settings.seed, 2, index])
    noise = fbp_noise(clean, settings.pixel_mm, settings.noise_hu, rng)
    circle = reconstruction_circle(settings.size)
    return np.where(circle, clean + noise, np.float32(AIR_HU)).astype(np.float32)
