"""The seam between the model and encoders: what a codec is told, and what it gives.

The model hands over λ_i / λ on the grid of 16x16 macroblocks and learns of a frame's role from the
codec. Each codec turns that into its own units. A codec is an object with the members of
:class:`Codec`; everything that encodes goes through :func:`ssimrdo.encoding.passes.run_pass`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.roles import Role
from ssimrdo.errors import InputError
from ssimrdo.frames import CLOCK_FPS, FrameFormat, block_grid

Mode: TypeAlias = Literal["crf", "qp", "bitrate"]
"""Kinds of rate control: constant quality, constant quantizer, mean bit rate."""


@dataclass(frozen=True, slots=True)
class ConstantQuality:
    """A rate factor on the codec's own scale, CRF in most; the rate follows from the content."""

    crf: float
    mode: ClassVar[Mode] = "crf"


@dataclass(frozen=True, slots=True)
class ConstantQuantizer:
    """The quantizer of the frames that all others rest on."""

    qp: int
    mode: ClassVar[Mode] = "qp"

    def __post_init__(self) -> None:
        if isinstance(self.qp, bool) or not isinstance(self.qp, int):
            raise InputError(f"{self.qp!r:.40} is not a whole number", field="qp")


@dataclass(frozen=True, slots=True)
class MeanBitrate:
    """A mean rate in 1000 bits per second."""

    kbps: float
    mode: ClassVar[Mode] = "bitrate"


RateControl: TypeAlias = ConstantQuality | ConstantQuantizer | MeanBitrate


def rate_control(mode: Mode, point: float) -> RateControl:
    """Return the rate control of a mode at a point of its scale."""
    if mode == "qp":
        return ConstantQuantizer(int(point))
    return ConstantQuality(point) if mode == "crf" else MeanBitrate(point)


def on_clock(rate: RateControl, fps: Fraction) -> RateControl:
    """Return the rate control that gives a slice on the encoders' clock the bits it has at ``fps``.

    Parameters
    ----------
    rate : RateControl
        At ``fps``.
    fps : Fraction
        Slices per second in the file.
    """
    if not isinstance(rate, MeanBitrate) or fps == CLOCK_FPS:
        return rate
    return MeanBitrate(max(1.0, rate.kbps * float(CLOCK_FPS / fps)))


def point_of(rate: RateControl) -> float:
    """Return where on its scale a rate control is: CRF, QP or kbit/s."""
    if isinstance(rate, ConstantQuality):
        return rate.crf
    return rate.qp if isinstance(rate, ConstantQuantizer) else rate.kbps


def check_number(value: Any, *, field: str) -> None:
    """Check that a value is an int or a float.

    Raises
    ------
    InputError
        If it is not; the error is about ``field``.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{value!r:.40} is not a number", field=field)


@dataclass(frozen=True, slots=True)
class QualityScale:
    """The scale of a codec's rate control.

    Parameters
    ----------
    low, high : float
        Ends, both included; a lower number is better unless ``qp_per_step`` is negative.
    step : float
        Least difference that tells.
    default : float
        Where to begin.
    log_rate_slope : float
        Slope of the logarithm of the rate over this scale, on typical content.
    qp_per_step : float
        How many steps of a quantizer that doubles every six a step of this scale is.
    whole : bool
        Whether only whole numbers are taken.
    lossless_below : float, optional
        0 and what lies between 0 and this number is lossless, and not on the scale.
    matched : bool
        Whether a number means the quality that it means in x264.
    """

    low: float
    high: float
    step: float
    default: float
    log_rate_slope: float = -math.log(2) / 6
    qp_per_step: float = 1.0
    whole: bool = False
    lossless_below: float | None = None
    matched: bool = False

    def check(self, point: float, *, field: str) -> None:
        """Check that a point is on the scale.

        Raises
        ------
        InputError
            If it is not; the error is about ``field``.
        """
        check_number(point, field=field)
        if self.whole and not float(point).is_integer():
            raise InputError(f"{point} is not a whole number", field=field)
        if self.lossless_below is not None and (point == 0 or 0 < point < self.lossless_below):
            raise InputError(
                f"{point:g} is lossless, which the profile does not allow",
                field=field,
                remedy=f"use {self.low:g} or more",
            )
        if not self.low <= point <= self.high:
            raise InputError(
                f"{point:g} is out of range",
                field=field,
                remedy=f"use {self.low:g} to {self.high:g}",
            )


@dataclass(frozen=True)
class Steering:
    """What a codec is told about one frame.

    Parameters
    ----------
    lagrange_ratio : ndarray of the format's grid, float32, optional
        λ_i / λ of every macroblock; None leaves all to the codec.
    role : Role, optional
        The frame's role where the codec has a plan of its own; None where it decides as it goes.
    shift : float
        What is added to the whole frame's quantizer, in steps of the codec's quality scale.
    """

    lagrange_ratio: NDArray[np.float32] | None = None
    role: Role | None = None
    shift: float = 0.0


@dataclass(frozen=True)
class Packet:
    """One encoded frame.

    Parameters
    ----------
    data : bytes
        In the codec's raw syntax.
    pts, dts : int
        Presentation and decoding time in frames; the first ``dts`` may be negative.
    keyframe : bool
        Whether decoding can start here.
    frame_type : str
        What the codec calls it, such as ``IDR``, ``P`` or ``B``; empty if it does not tell.
    reconstruction : ndarray of shape (rows, columns), uint8 or uint16, optional
        The luma that a decoder shows; None where the codec does not give it and the packet has to
        be decoded.
    """

    data: bytes
    pts: int
    dts: int
    keyframe: bool
    frame_type: str = ""
    reconstruction: NDArray[Any] | None = None


@dataclass(frozen=True)
class StreamSettings:
    """What a session is opened with.

    Parameters
    ----------
    format : FrameFormat
        Of the frames that it gets, on the clock and with sides that the codec takes.
    rate : RateControl
        Rate control.
    steered : bool
        Whether frames come with Lagrange ratios.
    raw : bool
        Whether the packets are the file, without a container that keeps parameter sets apart.
    threads : int
        Threads; 0 leaves the number to the codec.
    pass_number : int
        Which of the codec's passes, from 1.
    passes : int
        How many there are.
    stats : Path, optional
        File that carries what one pass tells the next; there are two passes or more.
    """

    format: FrameFormat
    rate: RateControl
    steered: bool = False
    raw: bool = False
    threads: int = 0
    pass_number: int = 1
    passes: int = 1
    stats: Path | None = None


class Session(Protocol):
    """An open encoder; a context manager that closes it."""

    @property
    def headers(self) -> bytes:
        """Parameter sets ahead of the first packet; empty where packets bring their own."""
        ...

    @property
    def settings(self) -> str:
        """All settings in effect, as the codec records them; may be empty."""
        ...

    def encode(self, luma: NDArray[Any], steering: Steering, index: int) -> Iterable[Packet]:
        """Take the frame at a place in presentation order; return the packets that come out.

        Raises
        ------
        EncoderError
            If the encoder fails.
        """
        ...

    def flush(self) -> Iterable[Packet]:
        """Return the packets that are still inside."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


class Codec(Protocol):
    """An encoder with its options."""

    @property
    def name(self) -> str:
        """One word, such as ``x264``."""
        ...

    @property
    def label(self) -> str:
        """Name and options in short, for legends."""
        ...

    @property
    def syntax(self) -> str:
        """FFmpeg's name of the raw stream that headers and packets make: ``h264``, ``hevc``, ..."""
        ...

    @property
    def containers(self) -> tuple[str, ...]:
        """FFmpeg's names of the containers that may hold it; the syntax's own is the raw stream."""
        ...

    @property
    def depths(self) -> tuple[int, ...]:
        """Bits per sample that it takes."""
        ...

    @property
    def sides(self) -> tuple[int, int]:
        """Least and largest side of a frame that it takes, in samples."""
        ...

    @property
    def steerable(self) -> bool:
        """Whether it follows Lagrange ratios."""
        ...

    def options(self) -> Mapping[str, Any]:
        """Return its own options as JSON types, by the names that Python and manifests have."""
        ...

    def check(self, *, steered: bool) -> None:
        """Check that its options go with being steered, or with being left alone.

        Raises
        ------
        InputError
            If they do not.
        """
        ...

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of a mode.

        Raises
        ------
        InputError
            If the codec has no such mode.
        """
        ...

    def passes(self, rate: RateControl) -> int:
        """Return how many passes a rate control takes."""
        ...

    def role(self, index: int) -> Role | None:
        """Return the role of the frame at a place in presentation order, None if that is open."""
        ...

    def open(self, stream: StreamSettings) -> Session:
        """Open a session.

        Raises
        ------
        InputError
            If an option is unknown or out of range.
        EncoderError
            If the encoder refuses its options together, or cannot be opened.
        """
        ...

    def describe(self, stream: StreamSettings) -> str:
        """Return all settings of a session for a reader; with version and frames they fix it."""
        ...

    @property
    def version(self) -> str:
        """Version of the encoder and of what stands between it and us."""
        ...


class Closing:
    """What is closed at the end of a ``with`` block."""

    def close(self) -> None:
        """Let go of what is open; more calls do nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class UnsteeredCodec:
    """What codecs that follow no objective have in common."""

    name: ClassVar[str]
    steerable: ClassVar[bool] = False

    def options(self) -> Mapping[str, Any]:
        """Return the fields of the codec, if it is a dataclass."""
        return dict(vars(self))

    def check(self, *, steered: bool) -> None:
        """Refuse to be steered."""
        if steered:
            raise InputError(
                f"{self.name} follows no objective", field="rdo", remedy="turn {rdo} off"
            )

    def passes(self, rate: RateControl) -> int:
        """Return 1."""
        del rate
        return 1

    def role(self, index: int) -> Role | None:
        """Return None: the codec decides as it goes."""
        del index
        return None


def is_codec(thing: object) -> bool:
    """Tell whether something can be used as a codec; no property of it is asked for."""
    return not isinstance(thing, type) and all(
        callable(getattr(thing, name, None))
        for name in ("check", "describe", "open", "options", "passes", "role", "scale")
    )


def check_samples(luma: NDArray[Any], shape: tuple[int, int], bit_depth: int) -> None:
    """Check luma before it is handed to native code.

    Parameters
    ----------
    luma : ndarray
        One frame.
    shape : tuple of int
        Rows and columns that the encoder takes.
    bit_depth : int
        8 for uint8, else uint16.

    Raises
    ------
    ValueError
        If it is of another shape or dtype, or above the peak.
    """
    dtype = np.dtype(np.uint8 if bit_depth == 8 else np.uint16)
    if luma.shape != shape or luma.dtype != dtype:
        raise ValueError(f"luma is {luma.shape} {luma.dtype}, the encoder takes {shape} {dtype}")
    peak = (1 << bit_depth) - 1
    # x264 would end the process. 8 bits cannot be above it.
    if bit_depth > 8 and luma.max() > peak:
        raise ValueError(f"luma is up to {luma.max()}, above {peak}")


def check_offsets(offsets: NDArray[Any], shape: tuple[int, int]) -> None:
    """Check quantizer offsets of a frame of a shape before they are handed to native code.

    Raises
    ------
    ValueError
        If they are not one finite float32 per macroblock.
    """
    grid = block_grid(shape)
    if offsets.shape != grid or offsets.dtype != np.float32:
        raise ValueError(
            f"offsets are {offsets.shape} {offsets.dtype}, the encoder takes {grid} float32"
        )
    if not np.isfinite(offsets).all():
        raise ValueError("offsets must be finite")


FFMPEG_SAMPLES = 1 << 28
FFMPEG_MARGIN = 128
"""FFmpeg takes pictures with (columns + margin) (rows + margin) below that many samples."""

LARGEST_BLOCK = 16
"""Codecs may code whole blocks of this side, of which the rest is cropped."""


def check_format(codec: Codec, shown: FrameFormat, what: str) -> None:
    """Check that a codec takes frames of a format.

    Parameters
    ----------
    codec : Codec
        The codec.
    shown : FrameFormat
        Format of the frames before any padding.
    what : str
        What the message names, such as a path.

    Raises
    ------
    InputError
        If it does not.
    """
    low, high = codec.sides
    if min(shown.shape) < low or max(shown.shape) > high:
        raise InputError(
            f"{what}: slices of {shown.columns}x{shown.rows} cannot be encoded with {codec.name}: "
            f"sides are {low} to {high}"
        )
    coded = shown.padded(LARGEST_BLOCK)
    if (coded.columns + FFMPEG_MARGIN) * (coded.rows + FFMPEG_MARGIN) >= FFMPEG_SAMPLES:
        raise InputError(
            f"{what}: slices of {shown.columns}x{shown.rows} are too large for FFmpeg, which muxes "
            f"and decodes fewer than {FFMPEG_SAMPLES >> 20} million samples"
        )
    if shown.bit_depth not in codec.depths:
        raise InputError(
            f"{codec.name} takes no {shown.bit_depth} bit",
            field="bit_depth",
            remedy=f"use one of {', '.join(map(str, codec.depths))}",
        )
