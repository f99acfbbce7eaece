"""The Python face of x264: parameters, and an encoder that takes quantizer offsets."""

from ssimrdo.x264.encoder import (
    MACROBLOCK,
    PRESETS,
    Encoder,
    EncoderParameters,
    Packet,
    macroblock_grid,
    x264_build,
)

__all__ = [
    "MACROBLOCK",
    "PRESETS",
    "Encoder",
    "EncoderParameters",
    "Packet",
    "macroblock_grid",
    "x264_build",
]
