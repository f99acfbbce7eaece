"""Reading of CT series from DICOM files."""

from __future__ import annotations

from ssimrdo.dicom.find import SearchResult, Series, find_series
from ssimrdo.dicom.header import BadFile, SkippedFile, SliceHeader
from ssimrdo.dicom.load import load_hu
from ssimrdo.dicom.select import open_series, select_series
from ssimrdo.dicom.window import NAMED_WINDOWS, Window, apply_window, parse_window

__all__ = [
    "NAMED_WINDOWS",
    "BadFile",
    "SearchResult",
    "Series",
    "SkippedFile",
    "SliceHeader",
    "Window",
    "apply_window",
    "find_series",
    "load_hu",
    "open_series",
    "parse_window",
    "select_series",
]
