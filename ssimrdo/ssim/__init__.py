"""Structural similarity: Numba kernels and the indices built on them."""

from ssimrdo.ssim.index import (
    ALPHA,
    BETA,
    PSNR_CEILING_DB,
    SliceQuality,
    luma_range,
    psnr_db,
    slice_quality,
    ssim,
    ssim_components,
    ssim_map,
    stabilizers,
    weighted_ssim,
    weighted_ssim_map,
)
from ssimrdo.ssim.multiscale import SCALE_WEIGHTS, ms_ssim

__all__ = [
    "ALPHA",
    "BETA",
    "PSNR_CEILING_DB",
    "SCALE_WEIGHTS",
    "SliceQuality",
    "luma_range",
    "ms_ssim",
    "psnr_db",
    "slice_quality",
    "ssim",
    "ssim_components",
    "ssim_map",
    "stabilizers",
    "weighted_ssim",
    "weighted_ssim_map",
]
