"""Quality indices of frames, their registry, and the Numba kernels beneath."""

from ssimrdo.metrics.components import ssim_components, ssim_terms, stabilizers
from ssimrdo.metrics.registry import (
    FramePair,
    QualityIndex,
    get,
    measure,
    names,
    register,
    usual_names,
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
from ssimrdo.metrics.terms import CONTRAST, LUMINANCE, STRUCTURE

# isort: split
from ssimrdo.metrics.inverse import INVERSE_SSIM, inverse_ssim, inverse_ssim_map

# isort: split
from ssimrdo.metrics.pooling import (
    DISTORTION_WEIGHTED,
    MINIMUM,
    PERCENTILE,
    distortion_weighted_mean,
    minimum,
    percentile,
)

# isort: split
from ssimrdo.metrics.information_weighted import IW_SSIM, iw_ssim

# isort: split
from ssimrdo.metrics.edge_preserving import EDGE_SSIM, edge_ssim, edge_ssim_map

# isort: split
from ssimrdo.metrics.level_weighted import LWSSIM, lwssim, lwssim_map

# isort: split
from ssimrdo.metrics.complex_wavelet import CW_SSIM, cw_ssim

# isort: split
from ssimrdo.metrics.gradient import GMSD, gmsd, gmsd_map

# isort: split
from ssimrdo.metrics.haar import HAARPSI, HAARPSI_MED, haarpsi, haarpsi_map

# isort: split
from ssimrdo.metrics.visual_information import VIFP, vifp

# isort: split
from ssimrdo.metrics.features import FSIM, fsim, fsim_map, phase_congruency

# isort: split
from ssimrdo.metrics.error import (
    MAX_ERROR,
    MSE,
    PSNR,
    PSNR_CEILING_DB,
    max_error,
    mse,
    psnr_db,
)

# isort: split
from ssimrdo.metrics.noise import (
    NOISE_FREQUENCY,
    NOISE_POWER,
    NoiseSpectrum,
    noise_frequency,
    noise_power,
    noise_power_spectrum,
)

# isort: split
from ssimrdo.metrics.sharpness import (
    EDGE_SHARPNESS,
    Edge,
    EdgeSpread,
    edge_sharpness,
    edge_spread,
    find_edges,
)

__all__ = [
    "ALPHA",
    "BETA",
    "CONTRAST",
    "CW_SSIM",
    "DISTORTION_WEIGHTED",
    "EDGE_SHARPNESS",
    "EDGE_SSIM",
    "FSIM",
    "GMSD",
    "HAARPSI",
    "HAARPSI_MED",
    "INVERSE_SSIM",
    "IW_SSIM",
    "LUMINANCE",
    "LWSSIM",
    "MAX_ERROR",
    "MINIMUM",
    "MSE",
    "MS_SSIM",
    "NOISE_FREQUENCY",
    "NOISE_POWER",
    "PERCENTILE",
    "PSNR",
    "PSNR_CEILING_DB",
    "SCALE_WEIGHTS",
    "SSIM",
    "STRUCTURE",
    "VIFP",
    "WEIGHTED_SSIM",
    "Edge",
    "EdgeSpread",
    "FramePair",
    "NoiseSpectrum",
    "QualityIndex",
    "cw_ssim",
    "distortion_weighted_mean",
    "edge_sharpness",
    "edge_spread",
    "edge_ssim",
    "edge_ssim_map",
    "find_edges",
    "fsim",
    "fsim_map",
    "get",
    "gmsd",
    "gmsd_map",
    "haarpsi",
    "haarpsi_map",
    "inverse_ssim",
    "inverse_ssim_map",
    "iw_ssim",
    "lwssim",
    "lwssim_map",
    "max_error",
    "measure",
    "minimum",
    "ms_ssim",
    "mse",
    "names",
    "noise_frequency",
    "noise_power",
    "noise_power_spectrum",
    "percentile",
    "phase_congruency",
    "psnr_db",
    "register",
    "ssim",
    "ssim_components",
    "ssim_map",
    "ssim_terms",
    "stabilizers",
    "usual_names",
    "vifp",
    "weighted_ssim",
    "weighted_ssim_map",
]
