"""Bjøntegaard deltas between rate-quality curves, and their summary over many series."""

from ssimrdo.evaluate.bd import (
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
    ssim_db,
)
from ssimrdo.evaluate.statistics import Summary, summarize

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
    "ssim_db",
    "summarize",
]
