"""From a video file back to a CT series."""

from __future__ import annotations

from ssimrdo.decoding.decode import DecodeResult, decode
from ssimrdo.decoding.view import view

__all__ = ["DecodeResult", "decode", "view"]
