"""The terms that SSIM and its relatives are made of.

References
----------
.. [1] Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment: from
   error visibility to structural similarity", IEEE Trans. Image Process. 13(4), 2004.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics import kernels


def stabilizers(data_range: float) -> tuple[float, float]:
    """Return C1 = (0.01 L)² and C2 = (0.03 L)² for a data range L, in its squared units [1]_."""
    return (0.01 * data_range) ** 2, (0.03 * data_range) ** 2


def ssim_components(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the luminance term and the contrast-structure term at every window.

    With C3 = C2/2 the product of contrast and structure is
    ``(2 cov(x, y) + C2) / (var(x) + var(y) + C2)`` [1]_. Windows are 11x11 Gaussians, σ = 1.5.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames from 0 to L, such as full-range luma, of at least 11x11 samples.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.

    Returns
    -------
    luminance, contrast_structure : ndarray of shape (rows - 10, columns - 10), float32
        Terms of the windows that lie inside the frame.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional or are smaller than a window.
    """
    side = 2 * kernels.RADIUS + 1
    if x.ndim != 2 or x.shape != y.shape or min(x.shape) < side:
        raise ValueError(
            f"SSIM takes two frames of one shape, at least {side}x{side}: "
            f"got {x.shape} and {y.shape}"
        )
    c1, c2 = stabilizers(data_range)
    shape = (x.shape[0] - side + 1, x.shape[1] - side + 1)
    luminance = np.empty(shape, np.float32)
    contrast_structure = np.empty(shape, np.float32)
    kernels.ssim_components(
        np.ascontiguousarray(x),
        np.ascontiguousarray(y),
        kernels.gaussian_taps(),
        np.float32(c1),
        np.float32(c2),
        np.float32(data_range / 2),
        luminance,
        contrast_structure,
    )
    return luminance, contrast_structure
