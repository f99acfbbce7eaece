"""Comparison of encoders on CT series: curves, BD-rates, speed and reports."""

from ssimrdo.comparison.results import ComparisonReport
from ssimrdo.comparison.run import Comparison, compare
from ssimrdo.comparison.settings import Candidate, CompareSettings

__all__ = ["Candidate", "CompareSettings", "Comparison", "ComparisonReport", "compare"]
