"""x265 as a codec: its options, its quality scales, and sessions that follow the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from numpy.typing import NDArray

from ssimrdo.codecs.base import (
    Closing,
    Mode,
    Packet,
    QualityScale,
    RateControl,
    Steering,
    StreamSettings,
)
from ssimrdo.codecs.roles import Role
from ssimrdo.codecs.search import about_params, check_tuning, chosen_effort
from ssimrdo.codecs.x264.choices import (
    CRF,
    MAX_QP,
    PRESET,
    PRESETS,
    STRENGTH,
    Options,
)
from ssimrdo.codecs.x264.options import format_x264_params
from ssimrdo.codecs.x265.effort import EFFORTS, Effort
from ssimrdo.codecs.x265.encoder import (
    DEPTHS,
    MAX_SIDE,
    MIN_SIDE,
    Encoder,
    EncoderParameters,
    x265_version,
)
from ssimrdo.codecs.x265.options import FIELD, check_follows_offsets, check_x265_params
from ssimrdo.codecs.x265.parameters import encoder_parameters, quantizer_unit
from ssimrdo.codecs.x265.steering import unit_offsets
from ssimrdo.errors import InputError

CRF_STEP: Final = 0.01

QP: Final = 27

MAX_KBPS: Final = 2_000_000


@dataclass(frozen=True)
class X265:
    """x265 with its search, what the model's offsets are scaled by, and the user's parameters.

    Parameters
    ----------
    effort : str, optional
        One of :data:`ssimrdo.codecs.x265.effort.EFFORTS`; ``"default"`` unless a preset is given.
    preset : str, optional
        x265's own search instead: one of :data:`ssimrdo.codecs.x264.choices.PRESETS`.
    tune : str, optional
        One of x265's tunings.
    strength : float
        Share s of the theoretical quantizer offset, 0 to 4.
    params : tuple of (str, str)
        More of x265's parameters; they come last and so win.

    Raises
    ------
    InputError
        If a value is unknown or out of range, or two contradict each other.
    """

    effort: str | None = None
    preset: str | None = None
    tune: str | None = None
    strength: float = STRENGTH
    params: Options = ()

    name = "x265"
    syntax = "hevc"
    containers = ("mp4", "matroska", "hevc")
    depths = DEPTHS
    sides = (MIN_SIDE, MAX_SIDE)
    steerable = True

    def __post_init__(self) -> None:
        effort = chosen_effort(self.effort, self.preset, efforts=EFFORTS, presets=PRESETS)
        object.__setattr__(self, "effort", effort)
        check_tuning(self.tune, self.strength)
        check_x265_params(self.params)

    @property
    def label(self) -> str:
        """Name and search."""
        search = self.preset or f"effort={self.effort}"
        return f"x265 {search}" + (f" --tune {self.tune}" if self.tune else "")

    @property
    def version(self) -> str:
        """Build and version of the library."""
        return f"x265 {x265_version()}"

    @property
    def _search(self) -> Effort:
        return Effort(self.preset or "") if self.effort is None else EFFORTS[self.effort]

    @classmethod
    def from_options(cls, values: dict[str, Any], *, steered: bool) -> Self:
        """Return the codec of options, which are taken out of ``values``.

        Parameters
        ----------
        values : dict
            May have ``effort``, ``preset``, ``rdo_strength`` and ``x265_params``.
        steered : bool
            Without steering x265's own default preset holds instead of an effort.

        Raises
        ------
        InputError
            As the class.
        """
        effort, preset = values.pop("effort", None), values.pop("preset", None)
        if not steered and effort is None and preset is None:
            preset = PRESET
        strength, params = values.pop("rdo_strength", STRENGTH), values.pop("x265_params", ())
        return cls(effort, preset, strength=strength, params=params)

    def options(self) -> Mapping[str, Any]:
        """Return the options that :meth:`from_options` takes."""
        return {
            "effort": self.effort,
            "preset": self.preset,
            "rdo_strength": self.strength,
            "x265_params": format_x264_params(self.params),
        }

    def check(self, *, steered: bool) -> None:
        """Refuse an effort without steering, and parameters that would make x265 ignore it."""
        if steered:
            check_follows_offsets(self.params)
        elif self.effort is not None:
            raise InputError(
                "needs an objective", field="effort", remedy="give {preset} with {rdo} off"
            )

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of a mode."""
        del bit_depth
        if mode == "qp":
            return QualityScale(1, MAX_QP, step=1, default=QP, whole=True, lossless_below=1)
        if mode == "crf":
            return QualityScale(
                1, MAX_QP, step=CRF_STEP, default=CRF, lossless_below=1, matched=True
            )
        return QualityScale(1, MAX_KBPS, step=1, default=1000, log_rate_slope=1e-3)

    def passes(self, rate: RateControl) -> int:
        """Return 2 for a mean bit rate, else 1."""
        return 2 if rate.mode == "bitrate" else 1

    def role(self, index: int) -> Role | None:
        """Return None: x265 decides as it goes."""
        del index
        return None

    def parameters(self, stream: StreamSettings) -> EncoderParameters:
        """Return what x265 is opened with for a stream."""
        self.check(steered=stream.steered)
        return encoder_parameters(stream, self._search, tune=self.tune, params=self.params)

    def open(self, stream: StreamSettings) -> X265Session:
        """Open x265."""
        with about_params(self.params, FIELD):
            return X265Session(self, stream)

    def describe(self, stream: StreamSettings) -> str:
        """Return x265's options in the order in which they are applied."""
        parameters = self.parameters(stream)
        words = [f"preset={parameters.preset}", *([f"tune={self.tune}"] if self.tune else [])]
        words += [f"{name}={value}" for name, value in parameters.options if name != "stats"]
        if stream.steered:
            words.append(f"rdo-strength={self.strength:g}")
        return f"x265 {' '.join(words)}"


class X265Session(Closing):
    """An open x265; see :class:`ssimrdo.codecs.base.Session`."""

    def __init__(self, codec: X265, stream: StreamSettings) -> None:
        self._strength = codec.strength
        self._format = stream.format
        parameters = codec.parameters(stream)
        self._encoder = Encoder(parameters)
        self._unit = quantizer_unit(parameters.options)
        self.headers = b"" if stream.raw else self._encoder.headers()
        self.settings = codec.describe(stream)

    def encode(self, luma: NDArray[Any], steering: Steering, index: int) -> Iterator[Packet]:
        """Take one frame; yield the packet that comes out, if one does."""
        offsets = unit_offsets(
            self._format.shown(luma),
            steering,
            strength=self._strength,
            unit=self._unit,
            data_range=self._format.peak,
        )
        packet = self._encoder.encode(luma, offsets, pts=index)
        if packet is not None:
            yield packet

    def flush(self) -> Iterator[Packet]:
        """Yield the packets that x265 still holds."""
        yield from self._encoder.flush()

    def close(self) -> None:
        """Close x265."""
        self._encoder.close()
