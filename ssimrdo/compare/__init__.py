"""Comparison of encoders on CT series: curves, BD-rates, speed and reports."""

from ssimrdo.compare.comparison import Comparison, compare
from ssimrdo.compare.results import ComparisonReport
from ssimrdo.compare.settings import Candidate, CompareSettings

__all__ = ["Candidate", "CompareSettings", "Comparison", "ComparisonReport", "compare"]
