"""The terms that SSIM and its relatives are made of.

References
----------
.. [1] Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment: from
   error visibility to structural similarity", IEEE Trans. Image Process. 13(4), 2004.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics import kernels
from ssimrdo.metrics.inputs import check_pair, check_range, contiguous

WINDOW: Final = 2 * kernels.RADIUS + 1
"""Side of SSIM's window in samples."""


def stabilizers(data_range: float) -> tuple[float, float]:
    """Return C1 = (0.01 L)² and C2 = (0.03 L)² for a data range L, in its squared units [1]_.

    Raises
    ------
    ValueError
        If the data range is not above 0.
    """
    check_range(data_range, title="SSIM")
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
        If the frames differ in shape, are not two-dimensional, are smaller than a window, or have
        NaN or infinities, or the data range is not above 0.
    """
    check_pair(x, y, title="SSIM", side=WINDOW)
    c1, c2 = stabilizers(data_range)
    shape = (x.shape[0] - WINDOW + 1, x.shape[1] - WINDOW + 1)
    luminance = np.empty(shape, np.float32)
    contrast_structure = np.empty(shape, np.float32)
    kernels.ssim_components(
        contiguous(x),
        contiguous(y),
        kernels.gaussian_taps(),
        np.float32(c1),
        np.float32(c2),
        np.float32(data_range / 2),
        luminance,
        contrast_structure,
    )
    return luminance, contrast_structure


def ssim_terms(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return the terms for luminance, contrast and structure at every window [1]_.

    ``l = (2 µx µy + C1) / (µx² + µy² + C1)``, ``c = (2 σx σy + C2) / (σx² + σy² + C2)`` and
    ``s = (cov(x, y) + C3) / (σx σy + C3)`` with C3 = C2/2, so that SSIM is ``l c s``. For frames
    that are nowhere negative l and c lie above 0; s lies from -1 to 1. None exceeds 1.

    Parameters
    ----------
    x, y, data_range
        As for :func:`ssim_components`.

    Returns
    -------
    luminance, contrast, structure : ndarray of shape (rows - 10, columns - 10), float32
        Terms of the windows that lie inside the frame.

    Raises
    ------
    ValueError
        As :func:`ssim_components`.
    """
    luminance, _ = ssim_components(x, y, data_range=data_range)
    return luminance, *contrast_and_structure(x, y, data_range=data_range)


def contrast_and_structure(
    x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the terms for contrast and structure alone; see :func:`ssim_terms`."""
    check_pair(x, y, title="SSIM", side=WINDOW)
    shape = (x.shape[0] - WINDOW + 1, x.shape[1] - WINDOW + 1)
    contrast, structure = np.empty(shape, np.float32), np.empty(shape, np.float32)
    taps = kernels.gaussian_taps().astype(np.float64)
    taps /= 2 * taps.sum() - taps[-1]
    kernels.contrast_and_structure(
        contiguous(x),
        contiguous(y),
        taps,
        float(stabilizers(data_range)[1]),
        float(data_range / 2),
        contrast,
        structure,
    )
    return contrast, structure
