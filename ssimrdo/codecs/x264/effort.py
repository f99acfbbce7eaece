"""The ladder of efforts: how thoroughly x264 searches, and in which frames.

CT is not video: a slice moves little, but its noise makes motion search miss the best match, and
half of the slices are referred to by none. Search therefore goes by frame type. Groups of pictures
have a fixed pattern, ``P b R b P``, which x264's own decision arrives at on CT as well; P- and
I-frames, on which all others rest, get the rung's full search, the B-frames that are referred to
(R) and the others (b) as much of it as the rung's time allows. Deblocking and MB-tree stay x264's.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ssimrdo.codecs.roles import Role
from ssimrdo.codecs.x264.choices import Options

KEYFRAME_INTERVAL: Final = 250
"""x264's default."""

MINI_GOP: Final = (Role.DISPOSABLE, Role.REFERENCE, Role.DISPOSABLE, Role.FORWARD)


@dataclass(frozen=True)
class Effort:
    """One rung: a preset and what is changed in it.

    Parameters
    ----------
    preset : str
        x264's preset the options start from.
    options : tuple of (str, str)
        Options of the encoder; P- and I-frames get no others.
    referenced : tuple of (str, str)
        On top, for B-frames that others refer to.
    disposable : tuple of (str, str)
        On top, for the other B-frames.
    """

    preset: str
    options: Options
    referenced: Options = ()
    disposable: Options = ()


_CT: Final[Options] = (
    # Frame types are given, so none has to be decided.
    ("b-adapt", "0"),
    ("bframes", "3"),
    ("b-pyramid", "normal"),
    ("scenecut", "0"),
    # There is no chroma to search in.
    ("chroma-me", "0"),
    # Single small coefficients are flat tissue.
    ("dct-decimate", "0"),
    ("trellis", "2"),
)

_THOROUGH: Final[Options] = (
    *_CT,
    ("ref", "5"),
    ("subme", "10"),
    ("partitions", "all"),
    ("me", "esa"),
)

_SINGLE: Final = ("ref", "1")
_QUICK: Final[Options] = (_SINGLE, ("me", "hex"), ("trellis", "1"))
_LIGHT: Final[Options] = (_SINGLE, ("subme", "9"), ("trellis", "1"))

# Once a variant has taken x264 out of exhaustive search or narrowed its range, x264 does not go
# back, so rungs with it search for motion alike in all frames.
EFFORTS: Final = MappingProxyType(
    {
        "fast": Effort("medium", (*_CT, ("me", "umh")), _QUICK, _QUICK),
        "default": Effort("medium", (*_THOROUGH, ("merange", "8")), _LIGHT, _LIGHT),
        "high": Effort("medium", (*_THOROUGH, ("merange", "8")), (_SINGLE,), _LIGHT),
        "max": Effort("medium", (*_THOROUGH, ("merange", "16")), (_SINGLE,), (_SINGLE,)),
    }
)
"""Rungs by name, fastest first; docs/method.md has the measurements behind them."""


def role_at(index: int, keyframe_interval: int = KEYFRAME_INTERVAL) -> Role:
    """Return the role of the frame at a place in presentation order.

    Parameters
    ----------
    index : int
        From 0 on.
    keyframe_interval : int
        Frames from one keyframe to the next.
    """
    place = index % keyframe_interval
    if place == 0:
        return Role.KEY
    # What comes before a keyframe cannot refer to it.
    if place == keyframe_interval - 1:
        return Role.FORWARD
    return MINI_GOP[(place - 1) % len(MINI_GOP)]
