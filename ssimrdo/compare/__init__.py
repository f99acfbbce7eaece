"""Comparison of encoders on CT series: curves, BD-rates, speed and reports."""

from ssimrdo.compare.comparison import CompareSettings, Comparison, compare

__all__ = ["CompareSettings", "Comparison", "compare"]
