"""The Python face of x264: parameters, and an encoder that takes quantizer offsets."""

from ssimrdo.x264.encoder import (
    MACROBLOCK,
    Encoder,
    EncoderParameters,
    Options,
    Packet,
    macroblock_grid,
    x264_build,
)

__all__ = [
    "MACROBLOCK",
    "Encoder",
    "EncoderParameters",
    "Options",
    "Packet",
    "macroblock_grid",
    "x264_build",
]
