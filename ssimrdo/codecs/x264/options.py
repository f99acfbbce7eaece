"""The user's own x264 parameters: how they are written, and which of them are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ssimrdo.codecs.x264.choices import Options
from ssimrdo.errors import InputError

FIELD: Final = "x264_params"

FRAME_STRUCTURE: Final = frozenset(
    {
        "b-adapt",
        "b-pyramid",
        "bframes",
        "bluray-compat",
        "intra-refresh",
        "min-keyint",
        "open-gop",
        "scenecut",
    }
)
"""With one of these the types of frames are x264's choice."""

_ALIASES: Final = {
    "analyse": "partitions",
    "me-range": "merange",
    "subq": "subme",
    "frameref": "ref",
}

_SET_ELSEWHERE: Final = MappingProxyType(
    {
        **dict.fromkeys(("qp", "qp-constant"), "{qp}"),
        **dict.fromkeys(("bitrate", "pass", "stats"), "{bitrate_kbps}"),
        **dict.fromkeys(("fps", "force-cfr", "timebase"), "{fps}"),
        **dict.fromkeys(("width", "height", "crop-rect"), "the series"),
        **dict.fromkeys(
            ("csp", "input-csp", "output-csp", "input-depth", "output-depth", "bitdepth"),
            "{bit_depth}",
        ),
        **dict.fromkeys(("fullrange", "range"), "the output's full range"),
        **dict.fromkeys(("annexb", "repeat-headers", "global-header"), "the output's suffix"),
        **dict.fromkeys(("log", "log-level"), "{verbose}"),
        **dict.fromkeys(("avcintra-class", "avcintra-flavor"), "the output's profile"),
        "crf": "{crf}",
        "threads": "{threads}",
        "sar": "the series' pixel spacing",
        "preset": "{preset}",
        "dump-yuv": "the output",
        "qpfile": "{rdo}",
    }
)
"""What else sets a parameter."""


def parse_x264_params(text: str, field: str = FIELD) -> Options:
    """Split ``name=value:name=value`` as x264, x265 and FFmpeg write it; a bare name means on.

    Raises
    ------
    InputError
        If a part has no name; the error is about ``field``.
    """
    pairs = []
    for part in text.split(":") if text else []:
        name, separator, value = part.partition("=")
        name = name.strip()
        if not name or not (name.isascii() and name.isprintable()):
            raise InputError(f"{part!r} is not name=value", field=field)
        pairs.append((name.removeprefix("--"), value.strip() if separator else "1"))
    return tuple(pairs)


def format_x264_params(params: Options) -> str:
    """Return parameters as :func:`parse_x264_params` reads them."""
    return ":".join(f"{name}={value}" for name, value in params)


def check_x264_params(params: Options) -> None:
    """Check that parameters are x264's to set; see :func:`check_params`."""
    check_params(params, _SET_ELSEWHERE, field=FIELD)


def check_params(params: Options, set_elsewhere: Mapping[str, str], *, field: str) -> None:
    """Check that parameters are the user's to set.

    Parameters
    ----------
    params : tuple of (str, str)
        Names and values.
    set_elsewhere : mapping of str to str
        What else sets a parameter, by its name.
    field : str
        What errors are about.

    Raises
    ------
    InputError
        If they are no pairs of texts, or one is set by something else.
    """
    if not isinstance(params, tuple) or not all(map(_is_pair, params)):
        raise InputError(f"{params!r:.40} are no pairs of name and value", field=field)
    for name, value in params:
        if "\0" in name + value:
            raise InputError(f"{name} has a NUL character", field=field)
        owner = set_elsewhere.get(spelled_out(name))
        if owner is not None:
            raise InputError(f"{name} is not set here", field=field, remedy=f"it is set by {owner}")


def _is_pair(param: object) -> bool:
    return (
        isinstance(param, tuple)
        and len(param) == 2
        and all(isinstance(text, str) for text in param)
    )


def check_keeps_aq_on(params: Options) -> None:
    """Check that x264 would follow quantizer offsets with these parameters.

    Raises
    ------
    InputError
        If one turns adaptive quantization off.
    """
    for name, value in params:
        if not keeps_aq_on(name, value, modes=("1", "2", "3")):
            raise InputError(
                f"{name}={value} makes x264 ignore quantizer offsets",
                field=FIELD,
                remedy="take an aq-mode of 1 to 3 and an aq-strength above 0, or turn {rdo} off",
            )


def spelled_out(name: str) -> str:
    """Return a parameter's name as x264 looks it up: with hyphens, without a negation."""
    key = name.replace("_", "-")
    return key[2:].removeprefix("-") if key.startswith("no") else key


def names_set(params: Options) -> set[str]:
    """Return the names that parameters set, whatever alias they use."""
    names = [spelled_out(name) for name, _ in params]
    return {_ALIASES.get(name, name) for name in names}


def last_value(params: Options, name: str) -> str | None:
    """Return the value that counts of a parameter, None if it is not set."""
    given = [value for key, value in params if spelled_out(key) == name]
    return given[-1] if given else None


def keeps_aq_on(name: str, value: str, *, modes: Sequence[str]) -> bool:
    """Tell whether a parameter leaves adaptive quantization on, which has these modes."""
    key = spelled_out(name)
    if key == "aq-mode":
        return value in modes
    if key == "aq-strength":
        try:
            return float(value) > 1e-30
        except ValueError:
            return False
    return True
