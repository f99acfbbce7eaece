"""What an encode is asked for, checked once where it is made."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from ssimrdo import defaults
from ssimrdo.dicom.window import Window
from ssimrdo.errors import InputError

MAX_QP = 51
MAX_STRENGTH = 4.0
MAX_THREADS = 128
# Below 1 at 8 bit x264 takes a CRF as lossless, which the High profile does not allow.
MIN_CRF = 1.0

_FPS = re.compile(r"[+-]?(\d{1,9}(\.\d{0,9})?|\.\d{1,9}|\d{1,9}/\d{1,9})", re.ASCII)

_OWN_OPTIONS = {
    "crf": "--crf",
    "qp": "--qp",
    "qp_constant": "--qp",
    "bitrate": "--bitrate",
    "pass": "--bitrate",
    "stats": "--bitrate",
    "threads": "--threads",
    "fps": "--fps",
    "width": "the series",
    "height": "the series",
    "sar": "the series' pixel spacing",
    "crop-rect": "the series",
    "csp": "--bit-depth",
    "input-csp": "--bit-depth",
    "output-csp": "--bit-depth",
    "input-depth": "--bit-depth",
    "output-depth": "--bit-depth",
    "bitdepth": "--bit-depth",
    "fullrange": "the output's full range",
    "range": "the output's full range",
    "annexb": "the output's suffix",
    "repeat-headers": "the output's suffix",
    "global-header": "the output's suffix",
    "preset": "--preset",
    "force-cfr": "--fps",
    "timebase": "--fps",
    "log": "--verbose",
    "log-level": "--verbose",
    "dump-yuv": "the output",
    "qpfile": "--rdo",
    "avcintra-class": "the output's profile",
    "avcintra-flavor": "the output's profile",
}


@dataclass(frozen=True)
class EncodeSettings:
    """How a series is encoded.

    Parameters
    ----------
    crf : float, optional
        x264's constant rate factor, 1 to 51, at 10 bit above 0; 23 when no rate is given.
    qp : int, optional
        Constant quantizer of P-frames, 1 to 51, in place of ``crf``.
    bitrate_kbps : float, optional
        Mean bit rate, reached in two passes, in place of ``crf``.
    min_ssim : float, optional
        Make the smallest file whose slices keep this SSIM, between 0 and 1, in place of ``crf``;
        0.95 where only ``target`` is given. It needs ``rdo="ssim"``.
    target : {"worst", "mean", "p5"}, optional
        Which SSIM ``min_ssim`` is about: the worst slice's, the mean or the 5th percentile over
        slices; ``"worst"`` where only ``min_ssim`` is given.
    effort : str, optional
        How thoroughly x264 searches: one of :data:`ssimrdo.defaults.EFFORTS`, ``"default"``
        unless a preset is given. It needs ``rdo="ssim"``.
    preset : str, optional
        x264's own search instead: one of :data:`ssimrdo.defaults.PRESETS`, ``"medium"`` with
        ``rdo="off"``.
    rdo : {"ssim", "off"}
        ``"ssim"`` steers x264 with quantizer offsets from the SSIM model and turns its
        psychovisual switches off; ``"off"`` is x264 with the same settings.
    rdo_strength : float
        Share s of the theoretical quantizer offset, 0 to 4.
    window : Window, optional
        Window centre and width; the header's own when None.
    bit_depth : {8, 10}
        Bits per luma sample.
    fps : Fraction
        Slices per second.
    threads : int
        x264's threads; 0 takes three per core with an effort and x264's own number with a
        preset.
    x264_params : tuple of (str, str)
        More of x264's parameters; they come last and so win.

    Raises
    ------
    InputError
        If a value is out of range or two values contradict each other.
    """

    crf: float | None = None
    qp: int | None = None
    bitrate_kbps: float | None = None
    min_ssim: float | None = None
    target: str | None = None
    effort: str | None = None
    preset: str | None = None
    rdo: Literal["ssim", "off"] = "ssim"
    rdo_strength: float = defaults.RDO_STRENGTH
    window: Window | None = None
    bit_depth: Literal[8, 10] = defaults.BIT_DEPTH
    fps: Fraction = Fraction(defaults.FPS)
    threads: int = 0
    x264_params: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _check_min_ssim(self)
        rates = (self.crf, self.qp, self.bitrate_kbps, self.min_ssim)
        given = [rate for rate in rates if rate is not None]
        if len(given) > 1:
            raise InputError("--crf, --qp, --bitrate and --min-ssim exclude each other: give one")
        if not given:
            object.__setattr__(self, "crf", defaults.CRF)
        _check_rate(self)
        _check_range("--rdo-strength", self.rdo_strength, 0, MAX_STRENGTH)
        _check_range("--threads", self.threads, 0, MAX_THREADS)
        _check_range("--fps", self.fps, Fraction(1, 100), 1000)
        _check_search(self)
        _check_choice("--rdo", self.rdo, ("ssim", "off"))
        _check_choice("--bit-depth", self.bit_depth, (8, 10))
        _check_x264_params(self)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types."""
        return {
            **dataclasses.asdict(self),
            "fps": str(self.fps),
            "x264_params": ":".join(f"{name}={value}" for name, value in self.x264_params),
        }


def parse_x264_params(text: str) -> tuple[tuple[str, str], ...]:
    """Split ``name=value:name=value`` as x264 and FFmpeg write it; a bare name means on.

    Raises
    ------
    InputError
        If a part has no name.
    """
    pairs = []
    for part in text.split(":") if text else []:
        name, separator, value = part.partition("=")
        name = name.strip()
        if not name or not (name.isascii() and name.isprintable()):
            raise InputError(f"--x264-params: {part!r} is not name=value")
        pairs.append((name.removeprefix("--"), value.strip() if separator else "1"))
    return tuple(pairs)


def parse_fps(text: str) -> Fraction:
    """Read slices per second as ``25``, ``12.5`` or ``30000/1001``.

    Raises
    ------
    InputError
        If the text is no positive number.
    """
    try:
        if not _FPS.fullmatch(text.strip()):
            raise ValueError
        fps = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise InputError(
            f"--fps: {text[:40]!r} is no number or fraction, such as 25 or 25/2"
        ) from None
    return fps.limit_denominator(100_000)


def _check_rate(settings: EncodeSettings) -> None:
    if settings.qp is not None:
        if settings.qp != int(settings.qp):
            raise InputError(f"--qp is a whole number, not {settings.qp}")
        _check_range("--qp", settings.qp, 1, MAX_QP)
    if settings.bitrate_kbps is not None:
        _check_range("--bitrate", settings.bitrate_kbps, 1, 2_000_000)
    if settings.crf is not None:
        if 0 <= settings.crf < MIN_CRF and (settings.bit_depth == 8 or settings.crf == 0):
            raise InputError(
                f"--crf {settings.crf:g} is lossless in x264, which the High profile does not "
                f"allow: use {MIN_CRF:g} or more"
            )
        _check_range("--crf", settings.crf, 0, MAX_QP)


def _check_min_ssim(settings: EncodeSettings) -> None:
    if settings.min_ssim is None and settings.target is None:
        return
    if settings.rdo != "ssim":
        raise InputError("--min-ssim goes with --rdo ssim")
    if settings.min_ssim is None:
        object.__setattr__(settings, "min_ssim", defaults.MIN_SSIM)
    if settings.target is None:
        object.__setattr__(settings, "target", defaults.TARGETS[0])
    _check_choice("--target", settings.target, defaults.TARGETS)
    assert settings.min_ssim is not None
    if not 0 < settings.min_ssim < 1:
        raise InputError(f"--min-ssim {settings.min_ssim} is out of range: above 0 and below 1")


def _check_search(settings: EncodeSettings) -> None:
    if settings.preset is None and settings.effort is None:
        name, value = (
            ("effort", defaults.EFFORT) if settings.rdo == "ssim" else ("preset", defaults.PRESET)
        )
        object.__setattr__(settings, name, value)
    if settings.preset is not None and settings.effort is not None:
        raise InputError("--effort and --preset exclude each other: give one")
    if settings.effort is not None and settings.rdo != "ssim":
        raise InputError("--effort goes with --rdo ssim: give --preset with --rdo off")
    if settings.effort is not None:
        _check_choice("--effort", settings.effort, defaults.EFFORTS)
    if settings.preset is not None:
        _check_choice("--preset", settings.preset, defaults.PRESETS)


def _check_range(
    name: str, value: float | Fraction, low: float | Fraction, high: float | Fraction
) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} {value} is out of range: {float(low):g} to {float(high):g}")


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} {value!r} is unknown: use one of {', '.join(map(str, choices))}")


def _check_x264_params(settings: EncodeSettings) -> None:
    for name, value in settings.x264_params:
        key = spelled_out(name)
        if "\0" in name + value:
            raise InputError(f"--x264-params: {name} has a NUL character")
        if key in _OWN_OPTIONS:
            raise InputError(f"--x264-params: {name} is set by {_OWN_OPTIONS[key]}")
        if settings.rdo == "ssim" and not _keeps_aq_on(key, value):
            raise InputError(
                f"--x264-params: {name}={value} makes x264 ignore the quantizer offsets of "
                "--rdo ssim: take an aq-mode of 1 to 3 and an aq-strength above 0, or --rdo off"
            )


def spelled_out(name: str) -> str:
    """Return a parameter's name as x264 looks it up: with hyphens, without a negation."""
    key = name.replace("_", "-")
    return key[2:].removeprefix("-") if key.startswith("no") else key


def _keeps_aq_on(key: str, value: str) -> bool:
    if key == "aq-mode":
        return value in ("1", "2", "3")
    if key == "aq-strength":
        try:
            return float(value) > 1e-30
        except ValueError:
            return False
    return True
