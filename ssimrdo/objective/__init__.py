"""Objectives: how much a squared error costs in every macroblock, and the Lagrangian from it."""

from ssimrdo.objective.base import OFF, Objective, get, lagrange_ratio, names, register
from ssimrdo.objective.ssim_mse import (
    SSIM,
    effective_samples,
    reference_theta,
    theta,
    window_samples,
)
from ssimrdo.objective.statistics import BlockStatistics, block_statistics

__all__ = [
    "OFF",
    "SSIM",
    "BlockStatistics",
    "Objective",
    "block_statistics",
    "effective_samples",
    "get",
    "lagrange_ratio",
    "names",
    "reference_theta",
    "register",
    "theta",
    "window_samples",
]
