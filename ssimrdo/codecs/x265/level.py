"""Levels of HEVC (ITU-T H.265 A.4): what a decoder has to hold, and how streams keep to one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from ssimrdo.codecs.x264.options import names_set
from ssimrdo.codecs.x265.codec import X265
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat


@dataclass(frozen=True, slots=True)
class Level:
    """Limits of a level in the main tier (tables A.8 and A.9).

    Parameters
    ----------
    name : str
        Such as ``4.1``.
    frame_samples : int
        MaxLumaPs: luma samples of a frame.
    samples_per_s : int
        MaxLumaSr: luma samples per second.
    kbps : int
        MaxBR: 1000 bits per second.
    """

    name: str
    frame_samples: int
    samples_per_s: int
    kbps: int

    def holds(self, frames: FrameFormat) -> bool:
        """Tell whether frames of a format, at its rate, are within the level."""
        coded = frames.padded(8)
        samples = coded.rows * coded.columns
        # No side is longer than the root of 8 MaxLumaPs (A.4.1).
        return (
            samples <= self.frame_samples
            and max(coded.shape) ** 2 <= 8 * self.frame_samples
            and samples * frames.fps <= self.samples_per_s
        )


LEVELS: Final = (
    Level("4.1", 2_228_224, 133_693_440, 20_000),
    Level("5.1", 8_912_896, 534_773_760, 40_000),
)
"""Those that streams for DICOM are marked with: its transfer syntax is for level 5.1, which takes
what is below."""


def level_of(frames: FrameFormat) -> Level | None:
    """Return the lowest of :data:`LEVELS` that holds frames of a format, None if none does."""
    return next((level for level in LEVELS if level.holds(frames)), None)


def at_level(codec: X265, level: Level, frames: FrameFormat) -> X265:
    """Return the codec with its streams marked as of a level.

    Raises
    ------
    InputError
        If the user's parameters contradict it.
    """
    del frames
    if names_set(codec.params) & {"level", "level-idc", "high-tier"}:
        raise InputError(
            "level is set by the transfer syntax", field="x265_params", remedy="leave it out"
        )
    return replace(codec, params=(("level-idc", level.name), *codec.params))
