"""Measuring slices against those that they were made from, whoever made them."""

from __future__ import annotations

from ssimrdo.measurement.loop import MeasuredSlice, measure
from ssimrdo.measurement.results import Caution, FailedSlice, Measurement, SliceRow
from ssimrdo.measurement.sides import Side, open_side

__all__ = [
    "Caution",
    "FailedSlice",
    "MeasuredSlice",
    "Measurement",
    "Side",
    "SliceRow",
    "measure",
    "open_side",
]
