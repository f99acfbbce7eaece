"""The SSIM-MSE model, the Lagrange multiplier and the quantizer offsets."""

from ssimrdo.rdo.model import (
    BlockMaps,
    BlockStatistics,
    block_maps,
    block_statistics,
    effective_samples,
    lagrange_ratio,
    qp_offset,
    quantizer_offsets,
    reference_offset,
    reference_theta,
    theta,
    window_samples,
)

__all__ = [
    "BlockMaps",
    "BlockStatistics",
    "block_maps",
    "block_statistics",
    "effective_samples",
    "lagrange_ratio",
    "qp_offset",
    "quantizer_offsets",
    "reference_offset",
    "reference_theta",
    "theta",
    "window_samples",
]
