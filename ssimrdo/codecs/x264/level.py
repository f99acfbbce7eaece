"""Levels of H.264 (ITU-T H.264 A.3): what a decoder has to hold, and who asks for one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Protocol

from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x264.effort import EFFORTS
from ssimrdo.codecs.x264.options import last_value, names_set
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat

_MOST_REFERENCES: Final = 16
_REFERENCES: Final = MappingProxyType(
    {
        **dict.fromkeys(("ultrafast", "superfast", "veryfast"), 1),
        **dict.fromkeys(("faster", "fast"), 2),
        "medium": 3,
        "slow": 5,
        "slower": 8,
        **dict.fromkeys(("veryslow", "placebo"), 16),
    }
)
"""Frames that x264's presets refer to."""


class LimitedRate(Protocol):
    """A level of any codec, by what it says of the rate."""

    @property
    def name(self) -> str:
        """Such as ``4.1``."""
        ...

    @property
    def kbps(self) -> int:
        """1000 bits per second that it allows."""
        ...


@dataclass(frozen=True, slots=True)
class Level:
    """Limits of a level (table A-1), for the High profile.

    Parameters
    ----------
    name : str
        Such as ``4.1``.
    frame_blocks : int
        MaxFS: macroblocks of a frame.
    blocks_per_s : int
        MaxMBPS: macroblocks per second.
    buffer_blocks : int
        MaxDpbMbs: macroblocks of all frames that are kept.
    kbps : int
        MaxBR times cpbBrVclFactor: 1000 bits per second.
    """

    name: str
    frame_blocks: int
    blocks_per_s: int
    buffer_blocks: int
    kbps: int

    def holds(self, frames: FrameFormat) -> bool:
        """Tell whether frames of a format, at its rate, are within the level."""
        rows, columns = frames.grid
        blocks = rows * columns
        # No side is longer than the root of 8 MaxFS (A.3.1).
        return (
            blocks <= self.frame_blocks
            and max(rows, columns) ** 2 <= 8 * self.frame_blocks
            and blocks * frames.fps <= self.blocks_per_s
        )


LEVELS: Final = (
    Level("4.1", 8192, 245_760, 32_768, 62_500),
    Level("4.2", 8704, 522_240, 34_816, 62_500),
)
"""Those that DICOM has transfer syntaxes for, lowest first."""


def level_of(frames: FrameFormat) -> Level | None:
    """Return the lowest of :data:`LEVELS` that holds frames of a format, None if none does."""
    return next((level for level in LEVELS if level.holds(frames)), None)


def at_level(codec: X264, level: Level, frames: FrameFormat) -> X264:
    """Return the codec with its streams marked as of a level, and with no more references.

    Raises
    ------
    InputError
        If the user's parameters contradict it.
    """
    if "level" in names_set(codec.params):
        raise InputError(
            "level is set by the transfer syntax", field="x264_params", remedy="leave it out"
        )
    rows, columns = frames.grid
    most = min(_MOST_REFERENCES, level.buffer_blocks // (rows * columns))
    params = [*codec.params, ("level", level.name)]
    if _references(codec) > most:
        params.append(("ref", f"{most}"))
    return replace(codec, params=tuple(params))


def check_rate(slice_bytes: Sequence[int], level: LimitedRate, frames: FrameFormat) -> None:
    """Check that no second of a stream has more bits than a level allows.

    Raises
    ------
    InputError
        If one has.
    """
    window = max(1, math.ceil(frames.fps))
    total = sum(slice_bytes[:window])
    largest = total
    for index in range(window, len(slice_bytes)):
        total += slice_bytes[index] - slice_bytes[index - window]
        largest = max(largest, total)
    kbps = largest * 8 / 1000 * min(1.0, float(frames.fps))
    if kbps > level.kbps:
        raise InputError(
            f"{kbps:.0f} kbit/s are more than the {level.kbps} of level {level.name}",
            remedy="take a higher {crf} or a lower {fps}",
        )


def _references(codec: X264) -> int:
    given = last_value(codec.params, "ref") or last_value(codec.params, "frameref")
    if given is not None:
        return int(given) if given.isdecimal() else _MOST_REFERENCES
    if codec.effort is not None:
        own = last_value(EFFORTS[codec.effort].options, "ref")
        if own is not None:
            return int(own)
    preset = EFFORTS[codec.effort].preset if codec.effort is not None else codec.preset
    return _REFERENCES.get(preset or "", _MOST_REFERENCES)
