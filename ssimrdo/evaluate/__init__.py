"""Bjøntegaard deltas between rate-quality curves, and the comparison of encoders by them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    rate_difference,
    ssim_db,
)
from ssimrdo.evaluate.statistics import Summary, summarize

if TYPE_CHECKING:
    from ssimrdo.evaluate.comparison import CompareSettings, Comparison, compare

__all__ = [
    "LOW_OVERLAP",
    "METHODS",
    "MINIMUM_POINTS",
    "SSIM_DB_CEILING",
    "BDResult",
    "CompareSettings",
    "Comparison",
    "EvaluationError",
    "Method",
    "RateQuality",
    "Summary",
    "bd_quality",
    "bd_rate",
    "bjontegaard",
    "compare",
    "rate_difference",
    "ssim_db",
    "summarize",
]


def __getattr__(name: str) -> Any:
    """Import what runs encoders when it is first used; the deltas alone need none of it."""
    if name not in ("CompareSettings", "Comparison", "compare"):
        raise AttributeError(f"module 'ssimrdo.evaluate' has no attribute {name!r}")
    return getattr(import_module("ssimrdo.evaluate.comparison"), name)
