"""The frame rate that a stream states, apart from the clock that it was encoded on.

Encoders are told :data:`ssimrdo.frames.CLOCK_FPS`; FFmpeg's bitstream filters write what the user
wants into the parameter sets afterwards. Containers keep times of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final

import av
from av.bitstream import BitStreamFilterContext

from ssimrdo.frames import CLOCK_FPS

_TICKS_PER_FRAME: Final = {"h264": 2, "hevc": 1}
"""Of syntaxes that state a rate: H.264 counts fields."""


def rate_writer(syntax: str, fps: Fraction) -> Callable[[bytes], bytes]:
    """Return a function that writes a frame rate into the parameter sets of packets.

    Parameters
    ----------
    syntax : str
        FFmpeg's name of the raw stream that the packets make.
    fps : Fraction
        Frames per second.

    Returns
    -------
    callable
        Takes bytes of whole NAL units, parameter sets ahead of what needs them, and returns them
        with the rate. It returns them as they are where they state the rate already, or none.
    """
    ticks = _TICKS_PER_FRAME.get(syntax)
    if ticks is None or fps == CLOCK_FPS:
        return _unchanged
    metadata = BitStreamFilterContext(f"{syntax}_metadata=tick_rate={ticks * fps}", syntax)

    def write(data: bytes) -> bytes:
        if not data:
            return data
        return b"".join(bytes(packet) for packet in metadata.filter(av.Packet(data)))

    return write


def _unchanged(data: bytes) -> bytes:
    return data
