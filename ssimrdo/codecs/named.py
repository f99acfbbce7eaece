"""What stands behind the names of codecs: encoders, and the options that each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from ssimrdo.codecs.av1 import Av1
from ssimrdo.codecs.base import Codec
from ssimrdo.codecs.lavc import has_encoder
from ssimrdo.codecs.names import AV1, CODECS, H264, HEVC
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x265.codec import X265
from ssimrdo.codecs.x265.encoder import lacking as lacking_x265
from ssimrdo.errors import InputError


@dataclass(frozen=True)
class NamedCodec:
    """A codec by name.

    Parameters
    ----------
    title : str
        What people call it.
    kind : type
        Of the codecs that are made.
    options : frozenset of str
        Options of an encode that it takes and others may not.
    make : callable
        Returns the codec of a mapping of these options, and whether it is steered; takes what it
        uses out of the mapping.
    params : str
        Which of the options holds parameters of the library behind it; empty if none does.
    lacking : callable
        Returns what is not installed and how to install it, None where nothing is missing.
    """

    title: str
    kind: type[Codec]
    options: frozenset[str]
    make: Callable[[dict[str, Any], bool], Codec]
    params: str = ""
    lacking: Callable[[], tuple[str, str] | None] = lambda: None

    @property
    def steerable(self) -> bool:
        """Whether it follows an objective."""
        return bool(getattr(self.kind, "steerable", False))

    @property
    def containers(self) -> tuple[str, ...]:
        """FFmpeg's names of the containers that may hold it."""
        return tuple(getattr(self.kind, "containers", ()))


def _lacks_encoder(encoder: str) -> Callable[[], tuple[str, str] | None]:
    def lacking() -> tuple[str, str] | None:
        if has_encoder(encoder):
            return None
        return f"the installed PyAV has no {encoder}", "install a PyAV that has: pip install av"

    return lacking


NAMED: Final[Mapping[str, NamedCodec]] = MappingProxyType(
    {
        H264: NamedCodec(
            "H.264",
            X264,
            frozenset({"effort", "preset", "rdo_strength", "x264_params", "even"}),
            lambda values, steered: X264.from_options(values, steered=steered),
            params="x264_params",
        ),
        HEVC: NamedCodec(
            "HEVC",
            X265,
            frozenset({"effort", "preset", "rdo_strength", "x265_params"}),
            lambda values, steered: X265.from_options(values, steered=steered),
            params="x265_params",
            lacking=lacking_x265,
        ),
        AV1: NamedCodec(
            "AV1",
            Av1,
            frozenset({"effort", "preset"}),
            lambda values, _: Av1.from_options(values),
            lacking=_lacks_encoder("libsvtav1"),
        ),
    }
)
"""By name, in the order of :data:`ssimrdo.codecs.names.CODECS`."""

OPTIONS: Final = frozenset[str]().union(*(one.options for one in NAMED.values()))
"""Options that not every codec takes."""


def named_codec(name: str) -> NamedCodec:
    """Return what stands behind a name.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    try:
        return NAMED[name]
    except KeyError:
        raise InputError(
            f"{name[:40]!r} is unknown", field="codec", remedy=f"use one of {', '.join(CODECS)}"
        ) from None


def codec_of(name: str, values: dict[str, Any], *, steered: bool) -> Codec:
    """Return the codec of a name with its options, which are taken out of ``values``.

    Parameters
    ----------
    name : str
        One of :data:`ssimrdo.codecs.names.CODECS`.
    values : dict
        Options of an encode.
    steered : bool
        Whether it is to follow an objective.

    Raises
    ------
    InputError
        If the codec is unknown or not installed, an option is another codec's, or its value cannot
        be used.
    """
    named = named_codec(name)
    for option in sorted((OPTIONS - named.options) & values.keys()):
        takers = [other for other in CODECS if option in NAMED[other].options]
        raise InputError(
            f"is not an option of {named.title}",
            field=option,
            remedy=f"leave it out, or take {{codec}} {' or '.join(takers)}",
        )
    lacking = named.lacking()
    if lacking is not None:
        missing, remedy = lacking
        raise InputError(f"{name} cannot be encoded: {missing}", field="codec", remedy=remedy)
    return named.make(values, steered)


def name_of(codec: Codec) -> str | None:
    """Return the name that a codec is made of with its options, None where there is no such."""
    kind = type(codec)
    # No option asks for another tuning than the default.
    if getattr(codec, "tune", None) != getattr(kind, "tune", None):
        return None
    return next((name for name, one in NAMED.items() if kind is one.kind), None)
