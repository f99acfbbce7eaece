"""Reading of CT series from DICOM files."""

from __future__ import annotations

from ssimrdo.dicom.grey import NAMED_WINDOWS, Window, apply_window, parse_window
from ssimrdo.dicom.read.find import SearchResult, Series, find_series
from ssimrdo.dicom.read.header import BadFile, SkippedFile, SliceHeader
from ssimrdo.dicom.read.load import load_hu
from ssimrdo.dicom.read.select import open_series, select_series
from ssimrdo.dicom.volume import Geometry, Volume, geometry_of, load_volume

__all__ = [
    "NAMED_WINDOWS",
    "BadFile",
    "Geometry",
    "SearchResult",
    "Series",
    "SkippedFile",
    "SliceHeader",
    "Volume",
    "Window",
    "apply_window",
    "find_series",
    "geometry_of",
    "load_hu",
    "load_volume",
    "open_series",
    "parse_window",
    "select_series",
]
