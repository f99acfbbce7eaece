"""x264 as a codec: its options, its quality scales, and sessions that follow the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
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
from ssimrdo.codecs.x264.effort import EFFORTS, Effort, role_at
from ssimrdo.codecs.x264.encoder import (
    MAX_SIDE,
    Encoder,
    EncoderParameters,
    x264_build,
    x264_settings,
)
from ssimrdo.codecs.x264.options import (
    FIELD,
    check_keeps_aq_on,
    check_x264_params,
    format_x264_params,
)
from ssimrdo.codecs.x264.parameters import (
    encoder_parameters,
    has_plan,
    keyframe_interval,
    search_of,
)
from ssimrdo.codecs.x264.steering import quantizer_offsets
from ssimrdo.errors import InputError

MIN_SIDE: Final = 16

MIN_CRF: Final = 1.0
"""Below 1 at 8 bit x264 takes a CRF as lossless, which the High profile does not allow."""

CRF_STEP: Final = 0.01

QP: Final = 27

MAX_KBPS: Final = 2_000_000

FRAME_TYPES: Final = MappingProxyType(
    {
        Role.KEY: "IDR",
        Role.FORWARD: "P",
        Role.REFERENCE: "BREF",
        Role.DISPOSABLE: "B",
    }
)
"""What x264 calls frames of each role."""

_VARIANTS: Final = MappingProxyType({Role.REFERENCE: 1, Role.DISPOSABLE: 2})


@dataclass(frozen=True)
class X264:
    """x264 with its search, what the model's offsets are scaled by, and the user's parameters.

    Parameters
    ----------
    effort : str, optional
        One of :data:`ssimrdo.codecs.x264.effort.EFFORTS`; ``"default"`` unless a preset is given.
    preset : str, optional
        x264's own search instead: one of :data:`ssimrdo.codecs.x264.choices.PRESETS`.
    tune : str, optional
        One of x264's tunings.
    strength : float
        Share s of the theoretical quantizer offset, 0 to 4.
    params : tuple of (str, str)
        More of x264's parameters; they come last and so win.
    even : bool
        Whether slices of an effort get more even quality than x264 gives frames of different types,
        for a little more rate; a preset leaves it to x264.

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
    even: bool = True

    name = "x264"
    syntax = "h264"
    containers = ("mp4", "matroska", "h264")
    depths = (8, 10)
    sides = (MIN_SIDE, MAX_SIDE)
    steerable = True

    def __post_init__(self) -> None:
        effort = chosen_effort(self.effort, self.preset, efforts=EFFORTS, presets=PRESETS)
        object.__setattr__(self, "effort", effort)
        check_tuning(self.tune, self.strength)
        check_x264_params(self.params)
        if not isinstance(self.even, bool):
            raise InputError(f"{self.even!r:.40} is neither true nor false", field="even")

    @property
    def label(self) -> str:
        """Name and search."""
        search = self.preset or f"effort={self.effort}"
        return f"x264 {search}" + (f" --tune {self.tune}" if self.tune else "")

    @property
    def version(self) -> str:
        """Build and version of the library."""
        return f"x264 {x264_build()}"

    @cached_property
    def _search(self) -> Effort:
        return search_of(self.effort, self.preset or "", self.params)

    @classmethod
    def from_options(cls, values: dict[str, Any], *, steered: bool) -> Self:
        """Return the codec of options, which are taken out of ``values``.

        Parameters
        ----------
        values : dict
            May have ``effort``, ``preset``, ``rdo_strength``, ``x264_params`` and ``even``.
        steered : bool
            Without steering x264's own default preset holds instead of an effort.

        Raises
        ------
        InputError
            As the class.
        """
        effort, preset = values.pop("effort", None), values.pop("preset", None)
        if not steered and effort is None and preset is None:
            preset = PRESET
        strength, params = values.pop("rdo_strength", STRENGTH), values.pop("x264_params", ())
        even = values.pop("even", True)
        return cls(effort, preset, strength=strength, params=params, even=even)

    def options(self) -> Mapping[str, Any]:
        """Return the options that :meth:`from_options` takes."""
        return {
            "effort": self.effort,
            "preset": self.preset,
            "rdo_strength": self.strength,
            "x264_params": format_x264_params(self.params),
            "even": self.even,
        }

    def check(self, *, steered: bool) -> None:
        """Refuse an effort without steering, and parameters that would make x264 ignore it."""
        if steered:
            check_keeps_aq_on(self.params)
        elif self.effort is not None:
            raise InputError(
                "needs an objective", field="effort", remedy="give {preset} with {rdo} off"
            )

    def scale(self, mode: Mode, bit_depth: int) -> QualityScale:
        """Return the scale of a mode; at 10 bit only a CRF of 0 is lossless."""
        if mode == "qp":
            return QualityScale(1, MAX_QP, step=1, default=QP, whole=True, lossless_below=1)
        if mode == "crf":
            low = MIN_CRF if bit_depth == 8 else CRF_STEP
            return QualityScale(low, MAX_QP, step=CRF_STEP, default=CRF, lossless_below=low)
        return QualityScale(1, MAX_KBPS, step=1, default=1000, log_rate_slope=1e-3)

    def passes(self, rate: RateControl) -> int:
        """Return 2 for a mean bit rate, else 1."""
        return 2 if rate.mode == "bitrate" else 1

    def role(self, index: int) -> Role | None:
        """Return the role of a frame where the search has a plan of frame types."""
        if not has_plan(self._search):
            return None
        return role_at(index, keyframe_interval(self.params))

    def parameters(self, stream: StreamSettings) -> EncoderParameters:
        """Return what x264 is opened with for a stream."""
        self.check(steered=stream.steered)
        return encoder_parameters(
            stream,
            self._search,
            is_effort=self.effort is not None,
            tune=self.tune,
            params=self.params,
        )

    def open(self, stream: StreamSettings) -> X264Session:
        """Open x264."""
        with about_params(self.params, FIELD):
            return X264Session(self, stream)

    def describe(self, stream: StreamSettings) -> str:
        """Return x264's options in the order in which they are applied."""
        parameters = self.parameters(stream)
        words = [f"preset={parameters.preset}", *([f"tune={self.tune}"] if self.tune else [])]
        words += [f"{name}={value}" for name, value in parameters.options if name != "stats"]
        for kind, variant in zip(("BREF", "B"), parameters.variants, strict=False):
            words.append(f"({kind}: {' '.join(f'{name}={value}' for name, value in variant)})")
        if stream.steered:
            words.append(f"rdo-strength={self.strength:g}")
            if has_plan(self._search):
                words.append(f"even={int(self.even)}")
        return f"x264 {' '.join(words)}"


class X264Session(Closing):
    """An open x264; see :class:`ssimrdo.codecs.base.Session`."""

    def __init__(self, codec: X264, stream: StreamSettings) -> None:
        self._strength, self._even = codec.strength, codec.even
        self._format = stream.format
        self._encoder = Encoder(codec.parameters(stream))
        self.headers = self._encoder.headers()

    @property
    def settings(self) -> str:
        """All settings, as x264 records them in the stream."""
        return x264_settings(self.headers)

    def encode(self, luma: NDArray[Any], steering: Steering, index: int) -> Iterator[Packet]:
        """Take one frame; yield the packet that comes out, if one does."""
        role = steering.role
        packet = self._encoder.encode(
            luma,
            quantizer_offsets(
                self._format.shown(luma),
                steering,
                strength=self._strength,
                even=self._even,
                data_range=self._format.peak,
            ),
            pts=index,
            frame_type=None if role is None else FRAME_TYPES[role],
            variant=0 if role is None else _VARIANTS.get(role, 0),
        )
        if packet is not None:
            yield packet

    def flush(self) -> Iterator[Packet]:
        """Yield the packets that x264 still holds."""
        yield from self._encoder.flush()

    def close(self) -> None:
        """Close x264."""
        self._encoder.close()
