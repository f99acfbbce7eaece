"""The HTML report of a comparison: one file, nothing loaded from elsewhere."""

from ssimrdo.comparison.report.page import TIMING_NOTES, write_html
from ssimrdo.comparison.report.viewer import MAX_SLICES, ShownEncode, Viewer, make_viewer

__all__ = ["MAX_SLICES", "TIMING_NOTES", "ShownEncode", "Viewer", "make_viewer", "write_html"]
