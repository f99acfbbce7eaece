"""Quality indices of frames, their registry, and the Numba kernels beneath."""

from ssimrdo.metrics.components import ssim_components, stabilizers
from ssimrdo.metrics.registry import (
    FramePair,
    QualityIndex,
    get,
    measure,
    names,
    register,
)
from ssimrdo.metrics.similarity import (
    ALPHA,
    BETA,
    SSIM,
    WEIGHTED_SSIM,
    ssim,
    ssim_map,
    weighted_ssim,
    weighted_ssim_map,
)

# isort: split
# Tables list the indices in the order of these.
from ssimrdo.metrics.multiscale import MS_SSIM, SCALE_WEIGHTS, ms_ssim

# isort: split
from ssimrdo.metrics.error import PSNR, PSNR_CEILING_DB, psnr_db

__all__ = [
    "ALPHA",
    "BETA",
    "MS_SSIM",
    "PSNR",
    "PSNR_CEILING_DB",
    "SCALE_WEIGHTS",
    "SSIM",
    "WEIGHTED_SSIM",
    "FramePair",
    "QualityIndex",
    "get",
    "measure",
    "ms_ssim",
    "names",
    "psnr_db",
    "register",
    "ssim",
    "ssim_components",
    "ssim_map",
    "stabilizers",
    "weighted_ssim",
    "weighted_ssim_map",
]
