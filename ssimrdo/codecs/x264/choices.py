"""Names and defaults that the command line shows without loading x264."""

from __future__ import annotations

from typing import Final, TypeAlias

Options: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values as ``x264_param_parse`` takes them."""

PRESET: Final = "medium"
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
"""One of :data:`ssimrdo.codecs.x264.effort.EFFORTS`."""

STRENGTH: Final = 0.72
"""Share s of the theoretical quantizer offset that pays: distortion saturates and propagates."""

MAX_STRENGTH: Final = 4.0

CRF: Final = 23.0
"""x264's own default."""

MAX_QP: Final = 51
