"""Bjøntegaard deltas between rate-quality curves; needs NumPy and SciPy alone."""

from ssimrdo.bd.deltas import (
    LEAST_OVERLAP,
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
from ssimrdo.bd.statistics import ENOUGH_SERIES, Spread, Summary, summarize

__all__ = [
    "ENOUGH_SERIES",
    "LEAST_OVERLAP",
    "LOW_OVERLAP",
    "METHODS",
    "MINIMUM_POINTS",
    "SSIM_DB_CEILING",
    "BDResult",
    "EvaluationError",
    "Method",
    "RateQuality",
    "Spread",
    "Summary",
    "bd_quality",
    "bd_rate",
    "bjontegaard",
    "rate_difference",
    "ssim_db",
    "summarize",
]
