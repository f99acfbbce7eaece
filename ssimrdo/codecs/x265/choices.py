"""Defaults that the command line shows without loading x265."""

from __future__ import annotations

from typing import Final

STRENGTH: Final = 0.25
"""Share s of the theoretical quantizer offset that pays: less than in H.264, as blocks of 64x64
samples share the mean of their offsets."""
