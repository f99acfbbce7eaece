"""Losses of the SSIM family with their gradients, for optimisation in NumPy and PyTorch.

The functions here take arrays and return a loss and its gradient. :mod:`ssimrdo.losses.torch` has
the same for tensors; it is imported by who needs it alone.
"""

from ssimrdo.losses.complex_wavelet import one_minus_cw_ssim
from ssimrdo.losses.level_weighted import one_minus_lwssim
from ssimrdo.losses.minimize import for_minimize
from ssimrdo.losses.multiscale import one_minus_ms_ssim
from ssimrdo.losses.structural import (
    one_minus_ssim,
    one_minus_weighted_ssim,
    reciprocal_ssim,
)

__all__ = [
    "for_minimize",
    "one_minus_cw_ssim",
    "one_minus_lwssim",
    "one_minus_ms_ssim",
    "one_minus_ssim",
    "one_minus_weighted_ssim",
    "reciprocal_ssim",
]
