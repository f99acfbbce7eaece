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

# isort: split
# Messages list the objectives in the order of these.
from ssimrdo.objective.balanced import BALANCED
from ssimrdo.objective.edge import EDGE

# isort: split
from ssimrdo.objective.body import BODY

__all__ = [
    "BALANCED",
    "BODY",
    "EDGE",
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
