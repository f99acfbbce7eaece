"""What is compared, and how: checked once where it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final, TypeAlias, get_args

from ssimrdo import metrics
from ssimrdo.bd.deltas import MINIMUM_POINTS
from ssimrdo.codecs.base import Codec, Mode, is_codec, rate_control
from ssimrdo.codecs.named import named_codec
from ssimrdo.codecs.names import CODEC
from ssimrdo.codecs.x264.choices import PRESET
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.dicom import Window
from ssimrdo.encoding.options import BIT_DEPTH, FPS, RDO
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import InputError
from ssimrdo.metrics import QualityIndex
from ssimrdo.objective import OFF, Objective

MODES: Final[tuple[Mode, ...]] = get_args(Mode)

DEFAULT_POINTS: Final = MappingProxyType({"crf": (18, 23, 28, 33), "qp": (22, 27, 32, 37)})

MAX_JOBS: Final = 64


@dataclass(frozen=True)
class Candidate:
    """A codec with what it is steered for, to be compared.

    Parameters
    ----------
    codec : Codec
        The encoder with its options.
    objective : Objective, optional
        What its bits are spent for; None leaves all to it.
    name : str
        What the comparison calls it; by default the codec's name, with the objective's behind a
        plus sign if there is one.
    """

    codec: Codec
    objective: Objective | None = None
    name: str = ""


Named: TypeAlias = "str | Codec | Candidate"
"""An encoder by name, as the command line has it, or as an object."""


@dataclass(frozen=True)
class CompareSettings:
    """What is compared, and how.

    Parameters
    ----------
    mode : {"crf", "qp", "bitrate"}
        Rate control of all encoders.
    points : tuple of float
        At least four, on x264's scale or in kbit/s; see :mod:`ssimrdo.comparison.points`.
        Empty for the mode's default.
    preset : str
        Preset of x264, and of x265 as ``x265-ssim`` and ``x265-untuned``, where an anchor's name
        carries none.
    anchors : tuple of str, Codec or Candidate
        Names as in :data:`ssimrdo.comparison.encoders.ANCHORS`, or codecs; the first is the
        reference.
    tests : tuple of str, Codec or Candidate, optional
        Variants of ssimrdo, such as ``ssim,strength=0.3``, or codecs; None is what an encode does:
        the default objective, or ``off`` where the codec follows none.
    codec : {"h264", "hevc", "av1"}
        What tests encode to that name no codec.
    metrics : tuple of str
        Names of quality indices; by default all that are registered and not special.
    window : Window, optional
        Window; each header's own when None.
    fps : Fraction
        Slices per second.
    bit_depth : int
        Bits per luma sample.
    protect : tuple of Window, optional
        Windows that slices will be looked at through, for which objectives spend bits in place of
        the frames as they are; None is what an encode does: lung, soft tissue and bone for the
        whole range of HU, else none.
    slices : int, optional
        Take only so many slices of each series, from the first on.
    threads : int
        Threads of every encoder; 0 leaves the number to each.
    jobs : int
        Encodes at a time; with more than one, times are those of a loaded machine.

    Raises
    ------
    InputError
        If a value is out of range or given twice; the error names the field.
    """

    mode: Mode = "crf"
    points: tuple[float, ...] = ()
    preset: str = PRESET
    anchors: tuple[Named, ...] = ("x264",)
    tests: tuple[Named, ...] | None = None
    codec: str = CODEC
    metrics: tuple[str, ...] = field(default_factory=metrics.usual_names)
    window: Window | None = None
    fps: Fraction = Fraction(FPS)
    bit_depth: int = BIT_DEPTH
    protect: tuple[Window, ...] | None = None
    slices: int | None = None
    threads: int = 0
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(
                f"{self.mode!r} is unknown", field="mode", remedy=f"use one of {', '.join(MODES)}"
            )
        if not self.points:
            if self.mode not in DEFAULT_POINTS:
                raise InputError(
                    f"{self.mode} has no points of its own",
                    field="mode",
                    remedy="give four or more {points} in kbit/s",
                )
            object.__setattr__(self, "points", DEFAULT_POINTS[self.mode])
        _check_points(self.mode, self.points, self.bit_depth)
        named_codec(self.codec)
        if not self.anchors:
            raise InputError("at least one is needed, as the reference", field="anchors")
        if not self.metrics:
            raise InputError("at least one is needed", field="metrics")
        _check_encoders("anchors", self.anchors)
        _check_encoders("tests", self.tested)
        object.__setattr__(self, "metrics", tuple(map(_index_name, self.metrics)))
        for name, values in (
            ("anchors", self.anchors),
            ("tests", self.tested),
            ("metrics", self.metrics),
        ):
            _check_different(name, values)
        if not isinstance(self.window, Window | None):
            raise InputError(
                f"{self.window!r:.40} is not a window",
                field="window",
                remedy="give what ssimrdo.parse_window makes of it",
            )
        # These are checked as for one encode.
        self._encode_settings()
        if self.slices is not None and self.slices < 1:
            raise InputError(
                f"{self.slices} is out of range", field="slices", remedy="use 1 or more"
            )
        if not 1 <= self.jobs <= MAX_JOBS:
            raise InputError(
                f"{self.jobs} is out of range", field="jobs", remedy=f"use 1 to {MAX_JOBS}"
            )

    def _encode_settings(self) -> EncodeSettings:
        return EncodeSettings(
            rate_control(self.mode, self.points[0]),
            None,
            X264(preset=self.preset),
            window=self.window,
            bit_depth=self.bit_depth,
            fps=self.fps,
            threads=self.threads,
            protect=self.protect,
        )

    @property
    def tested(self) -> tuple[Named, ...]:
        """Variants of ssimrdo and codecs that are compared."""
        if self.tests is not None:
            return self.tests
        return (RDO if named_codec(self.codec).steerable else OFF,)

    @property
    def protected(self) -> tuple[Window, ...]:
        """Windows that objectives spend bits for, beside the frames' own."""
        return self._encode_settings().protected

    @property
    def indices(self) -> tuple[QualityIndex, ...]:
        """The quality indices."""
        return tuple(map(metrics.get, self.metrics))


def _check_points(mode: Mode, points: Sequence[float], bit_depth: int) -> None:
    if len(points) < MINIMUM_POINTS:
        raise InputError(
            f"{len(points)} given, but a curve needs at least {MINIMUM_POINTS}", field="points"
        )
    scale = X264(preset=PRESET).scale(mode, bit_depth)
    for index, point in enumerate(points):
        scale.check(point, field="points")
        if point in points[:index]:
            raise InputError(f"{point:g} is given twice", field="points")


def _check_encoders(name: str, encoders: Sequence[Any]) -> None:
    for one in encoders:
        codec = one.codec if isinstance(one, Candidate) else one
        if not isinstance(one, str) and not is_codec(codec):
            raise InputError(f"{one!r:.60} is neither a name nor a codec", field=name)


def _check_different(name: str, values: Sequence[object]) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise InputError(f"{value} is given twice", field=name)


def _index_name(name: str) -> str:
    try:
        return metrics.get(name).name
    except InputError as error:
        raise InputError(error.reason, field="metrics", remedy=error.remedy) from None
