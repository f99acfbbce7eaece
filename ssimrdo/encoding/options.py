"""The options of an encode, each defined once: for Python, the command line and manifests."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ssimrdo.codecs.names import CODEC, CODECS
from ssimrdo.codecs.x264.choices import CRF, EFFORT, PRESETS, STRENGTH, Options
from ssimrdo.codecs.x264.effort import EFFORTS
from ssimrdo.codecs.x264.options import parse_x264_params
from ssimrdo.errors import InputError

if TYPE_CHECKING:
    from ssimrdo.dicom.grey import Window

FLOOR: Final = ("ssim", 0.95)
"""The index and the value to keep where nothing but what it is about is given."""

OVER: Final = ("worst", "mean", "p5")
"""Over slices: the worst one, the mean, what 95 % of the slices keep; the first by default."""

RDO: Final = "balanced"
"""Name of an objective of :mod:`ssimrdo.objective`."""

FPS: Final = "25"
BIT_DEPTH: Final = 8
WIDE_BIT_DEPTH: Final = 10
"""Of the whole range of HU."""
MAX_THREADS: Final = 128

_FPS = re.compile(r"[+-]?(\d{1,9}(\.\d{0,9})?|\.\d{1,9}|\d{1,9}/\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Option:
    """One option of an encode.

    Parameters
    ----------
    name : str
        Keyword in Python.
    read : callable
        Makes the value of what a person wrote or a script gave; raises ValueError, whose text says
        what is wrong, or InputError.
    metavar : str
        What stands for the value in usage messages; empty for a flag, which stands for yes.
    help : str
        What it does, in one or two sentences; other options stand in braces.
    default : str
        What holds without it, as a person would write or describe it.
    column : str
        Name in manifests and, with hyphens, on the command line, if it is another one.
    aliases : tuple of str
        Other names there.
    """

    name: str
    read: Callable[[Any], Any]
    metavar: str
    help: str
    default: str = ""
    column: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def external(self) -> str:
        """Name in manifests; on the command line with hyphens."""
        return self.column or self.name

    @property
    def flag(self) -> str:
        """Name on the command line."""
        return "--" + self.external.replace("_", "-")

    def value(self, given: Any) -> Any:
        """Return the value of what was given.

        Raises
        ------
        InputError
            If it cannot be one; the error is about this option.
        """
        try:
            return self.read(given)
        except InputError as error:
            if error.field is not None:
                raise
            raise InputError(error.reason, field=self.name, remedy=error.remedy) from None
        except ValueError as error:
            raise InputError(str(error), field=self.name) from None


def read_number(given: Any) -> float:
    """Return a finite number.

    Raises
    ------
    ValueError
        If it is none.
    """
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{_shown(given)} is not a number")
    return number


def read_whole_number(given: Any) -> int:
    """Return a whole number; errors as :func:`read_number`."""
    number = read_number(given)
    if not number.is_integer():
        raise ValueError(f"{_shown(given)} is not a whole number")
    return int(number)


def read_flag(given: Any) -> bool:
    """Return a truth value, from a text such as ``yes`` or ``no`` too."""
    if isinstance(given, bool):
        return given
    text = "" if isinstance(given, dict | list) else str(given).lower()
    for value, texts in ((True, ("yes", "true", "on", "1")), (False, ("no", "false", "off", "0"))):
        if text in texts:
            return value
    raise ValueError(f"{_shown(given)} is neither yes nor no")


def read_text(given: Any) -> str:
    """Return a text without NUL.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(given, str) or "\0" in given:
        raise ValueError(f"{_shown(given)} is not text")
    return given


def read_fps(given: Any) -> Fraction:
    """Return slices per second of a number or a text such as ``25``, ``12.5`` or ``30000/1001``.

    Raises
    ------
    ValueError
        If it is no positive number.
    """
    if isinstance(given, Fraction):
        return given
    if not isinstance(given, str):
        return Fraction(read_number(given)).limit_denominator(100_000)
    text = given.strip()
    try:
        if not _FPS.fullmatch(text):
            raise ValueError
        return Fraction(text).limit_denominator(100_000)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text[:40]!r} is not a number or fraction, such as 25 or 25/2") from None


def read_window(given: Any) -> Window | None:
    """Return a window, or None for the header's own.

    Raises
    ------
    ValueError, InputError
        If it is none.
    """
    from ssimrdo.dicom.grey import Window, parse_window

    if given is None or isinstance(given, Window):
        return given
    return parse_window(read_text(given))


def read_windows(given: Any) -> tuple[Window, ...]:
    """Return windows of a text with commas, or of an iterable; none of ``none``.

    Raises
    ------
    ValueError, InputError
        If one is none, or the header's own.
    """
    parts = given.split(",") if isinstance(given, str) else given
    try:
        windows = [read_window(part) for part in parts if part != "none"]
    except TypeError:
        raise ValueError(f"{_shown(given)} is not a list of windows") from None
    found = tuple(window for window in windows if window is not None)
    if len(found) < len(windows):
        raise ValueError("auto is not one window; name it")
    return tuple(dict.fromkeys(found))


def read_floor(given: Any) -> tuple[str, float]:
    """Return index and value of ``ssim=0.95`` or of such a pair.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if isinstance(given, tuple) and len(given) == 2:
        return read_text(given[0]), read_number(given[1])
    name, equals, value = read_text(given).partition("=")
    if not equals or not name.strip():
        raise ValueError(f"{given[:40]!r} is not INDEX=VALUE, such as ssim=0.95")
    return name.strip().replace("-", "_"), read_number(value)


def read_codec(given: Any) -> Any:
    """Return the name of a codec; anything but a text, such as a codec itself, as it is.

    Raises
    ------
    InputError
        If no codec is called so.
    """
    if not isinstance(given, str):
        return given
    name = given.strip()
    if name not in CODECS:
        raise InputError(f"{name[:40]!r} is unknown", remedy=f"use one of {', '.join(CODECS)}")
    return name


def read_preset(given: Any) -> str:
    """Return the name of a preset; a number is one, too.

    Raises
    ------
    ValueError
        If it is neither.
    """
    is_number = isinstance(given, int) and not isinstance(given, bool)
    return f"{given}" if is_number else read_text(given)


def read_names(given: Any) -> tuple[str, ...]:
    """Return names of a text with commas, or of an iterable.

    Raises
    ------
    ValueError
        If it is neither.
    """
    parts = given.split(",") if isinstance(given, str) else given
    try:
        return tuple(read_text(part).strip() for part in parts)
    except TypeError:
        raise ValueError(f"{_shown(given)} is not a list of names") from None


def read_x265_params(given: Any) -> Options:
    """Return x265's parameters; values and errors as :func:`read_x264_params`."""
    return read_x264_params(given, "x265_params")


def read_x264_params(given: Any, field: str = "x264_params") -> Options:
    """Return x264's parameters of a text, a mapping or pairs.

    Raises
    ------
    ValueError, InputError
        If it is neither.
    """
    if isinstance(given, str):
        return parse_x264_params(given, field)
    try:
        pairs = [tuple(pair) for pair in (given.items() if isinstance(given, Mapping) else given)]
    except TypeError:
        pairs = [()]
    if not all(len(pair) == 2 for pair in pairs):
        raise ValueError(f"{_shown(given)} is neither text nor pairs")
    return tuple((read_text(name), str(value)) for name, value in pairs)


def _shown(given: Any) -> str:
    return repr(given[:40]) if isinstance(given, str) else repr(given)[:40]


OPTIONS: Final = (
    Option(
        "codec",
        read_codec,
        "|".join(CODECS),
        "Codec of the video: H.264 plays everywhere, HEVC and AV1 take less space. File suffixes, "
        "efforts and presets depend on it.",
        CODEC,
    ),
    Option(
        "crf",
        read_number,
        "F",
        "Constant rate factor, 1 to 51, in AV1 8 to 42; lower is better. It means the same quality "
        "in all codecs.",
        f"{CRF:g}",
    ),
    Option(
        "qp",
        read_whole_number,
        "N",
        "Constant quantizer of P-frames, 1 to 51; in AV1 1 to 63.",
    ),
    Option(
        "bitrate_kbps",
        read_number,
        "KBPS",
        "Mean bit rate in kbit/s, in two passes; in AV1 in one.",
        column="bitrate",
    ),
    Option(
        "min_ssim",
        read_number,
        "S",
        "Find the smallest file whose worst slice keeps this SSIM, such as 0.95; short for "
        "{min} ssim=S.",
        f"{FLOOR[1]:g} with {{over}}",
    ),
    Option(
        "min",
        read_floor,
        "INDEX=VALUE",
        "Find the smallest file whose slices keep this quality, such as ssim=0.95 or psnr=40.",
    ),
    Option(
        "over",
        read_text,
        "|".join(OVER),
        "What {min} keeps: the quality of the worst slice, the mean, or the 5th percentile.",
        OVER[0],
        aliases=("target",),
    ),
    Option(
        "effort",
        read_text,
        "|".join(EFFORTS),
        "How hard to search: more effort takes longer, and the same quality takes less space.",
        EFFORT,
    ),
    Option(
        "preset",
        read_preset,
        "NAME",
        "The encoder's own preset in place of an effort: of x264 and x265 from "
        f"{PRESETS[0]} to {PRESETS[-1]}, of SVT-AV1 from 13 to 0.",
    ),
    Option(
        "rdo",
        read_text,
        "NAME|off",
        "What bits are spent on: balanced (SSIM and HU together), ssim, edge, body, or off for the "
        "plain encoder, as in AV1.",
        RDO,
    ),
    Option(
        "rdo_strength",
        read_number,
        "S",
        "Share of the theoretical QP offset, 0 to 4.",
        f"{STRENGTH:g}",
    ),
    Option(
        "even",
        read_flag,
        "yes|no",
        "With an effort: even out the quality from slice to slice; costs less than one percent of "
        "bit rate.",
        "yes",
    ),
    Option(
        "window",
        read_window,
        "NAME|CENTRE/WIDTH|auto",
        "Window to show: a name such as lung or bone, centre and width in HU such as 40/400, auto "
        "for the header's own, or full for all HU, to be shown in any window later.",
        "auto",
    ),
    Option(
        "protect",
        read_windows,
        "NAME,NAME|none",
        "Windows in which the slices will be viewed: bits go to what these show.",
        "lung, soft-tissue and bone with {window} full, else none",
    ),
    Option(
        "bit_depth",
        read_whole_number,
        "8|10",
        f"Bits per sample; many players do not show H.264 with 10. {{window}} full takes "
        f"{WIDE_BIT_DEPTH} unless told otherwise.",
        f"{BIT_DEPTH}",
    ),
    Option("fps", read_fps, "F", "Slices per second.", FPS),
    Option(
        "threads",
        read_whole_number,
        "N",
        "Threads of the encoder; the bytes of the file depend on them a little.",
        "three per core; x264's own choice with {preset}; 1 in a batch",
    ),
    Option(
        "x264_params",
        read_x264_params,
        "K=V:K=V",
        "Further parameters of x264; they override all others.",
    ),
    Option(
        "x265_params",
        read_x265_params,
        "K=V:K=V",
        "Further parameters of x265, with {codec} hevc.",
    ),
    Option(
        "measure",
        read_names,
        "NAME,NAME",
        "Quality indices to measure in addition to SSIM, weighted SSIM and PSNR, such as ms_ssim.",
    ),
    Option(
        "padding",
        read_text,
        "darkest|air",
        "How padding around the image is shown: black whatever the window, or as air.",
        "darkest",
    ),
    Option(
        "strict",
        read_flag,
        "",
        "Refuse a series with missing or unevenly spaced slices.",
    ),
)
"""All options, in the order of usage messages."""

BY_NAME: Final = MappingProxyType({option.name: option for option in OPTIONS})

RATES: Final = ("crf", "qp", "bitrate_kbps", "min_ssim", "min")
"""Options that exclude each other; ``over`` alone asks for a floor as well."""
