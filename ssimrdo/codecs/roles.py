"""What part a frame has in the prediction of others; needs nothing to import."""

from __future__ import annotations

from enum import Enum


class Role(Enum):
    """What part a frame has in the prediction of others."""

    KEY = "key"
    """Refers to none; decoding can start here."""
    FORWARD = "forward"
    """Refers to frames before it; all others rest on these and on key frames."""
    REFERENCE = "reference"
    """Refers to both sides and is referred to."""
    DISPOSABLE = "disposable"
    """Refers to both sides; none refers to it."""
