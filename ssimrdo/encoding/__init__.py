"""Encoding of a series: settings, the pipeline and its result."""

from ssimrdo.encoding.pipeline import encode
from ssimrdo.encoding.result import EncodeResult, SearchInfo, Seconds, Summary, WindowUsed, X264Info
from ssimrdo.encoding.settings import EncodeSettings, parse_fps, parse_x264_params

__all__ = [
    "EncodeResult",
    "EncodeSettings",
    "SearchInfo",
    "Seconds",
    "Summary",
    "WindowUsed",
    "X264Info",
    "encode",
    "parse_fps",
    "parse_x264_params",
]
