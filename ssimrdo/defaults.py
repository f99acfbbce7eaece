"""Defaults and choices that the command line shows without loading the encoder."""

from __future__ import annotations

from typing import Final

CRF: Final = 23.0
"""x264's constant rate factor where no rate is asked for."""

MIN_SSIM: Final = 0.95
"""The SSIM to keep where only its target is given."""

TARGETS: Final = ("worst", "mean", "p5")
"""Over slices: the lowest SSIM, the mean, the 5th percentile; the first one by default."""

RDO_STRENGTH: Final = 0.7
"""Share s of the theoretical QP offset that pays: distortion saturates and propagates."""

PRESET: Final = "medium"
FPS: Final = "25"
BIT_DEPTH: Final = 8

PRESETS: Final = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)
"""x264's presets, fastest first."""

EFFORT: Final = "default"
EFFORTS: Final = ("fast", "default", "high", "max")
"""Rungs of :data:`ssimrdo.encoding.effort.EFFORTS`, fastest first."""
