"""Codecs by the name that a person asks for; needs nothing to import.

What is made of a name is in :mod:`ssimrdo.codecs.named`.
"""

from __future__ import annotations

from typing import Final

H264: Final = "h264"
HEVC: Final = "hevc"
AV1: Final = "av1"

CODEC: Final = H264
"""What is encoded to where nothing else is asked for."""

CODECS: Final = (H264, HEVC, AV1)
"""FFmpeg's names of what streams are written in."""
