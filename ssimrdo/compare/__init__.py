"""Comparison of encoders on CT series: curves, BD-rates, speed and reports."""
