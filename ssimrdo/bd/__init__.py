"""Bjøntegaard deltas between rate-quality curves; needs NumPy and SciPy alone."""

from ssimrdo.bd.deltas import (
    LOW_OVERLAP,
    METHODS,
    MINIMUM_POINTS,
    SSIM_DB_CEILING,
    BDResult,
    EvaluationError,
    Method,
    RateQuality,
    bd_quality,
    bd_rate,
    bjontegaard,
    rate_difference,
    ssim_db,
)
from ssimrdo.bd.statistics import Summary, summarize

__all__ = [
    "LOW_OVERLAP",
    "METHODS",
    "MINIMUM_POINTS",
    "SSIM_DB_CEILING",
    "BDResult",
    "EvaluationError",
    "Method",
    "RateQuality",
    "Summary",
    "bd_quality",
    "bd_rate",
    "bjontegaard",
    "rate_difference",
    "ssim_db",
    "summarize",
]
