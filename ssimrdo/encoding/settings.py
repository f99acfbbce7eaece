"""What an encode is asked for, checked once where it is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, Self, TypeAlias

from ssimrdo import metrics, objective
from ssimrdo.codecs.base import (
    Codec,
    ConstantQuality,
    ConstantQuantizer,
    MeanBitrate,
    RateControl,
    check_number,
    is_codec,
    point_of,
)
from ssimrdo.codecs.named import OPTIONS as CODEC_OPTIONS
from ssimrdo.codecs.named import codec_of, name_of, named_codec
from ssimrdo.codecs.names import CODEC
from ssimrdo.codecs.x264.choices import CRF
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.dicom.grey import WIDE, Window
from ssimrdo.dicom.padding import PADDING, PADDINGS
from ssimrdo.encoding.options import (
    BIT_DEPTH,
    BY_NAME,
    FLOOR,
    FPS,
    MAX_THREADS,
    OVER,
    RATES,
    RDO,
    WIDE_BIT_DEPTH,
)
from ssimrdo.encoding.views import PROTECTED
from ssimrdo.errors import InputError
from ssimrdo.objective import OFF, Objective

RATE_FIELDS: Final = {"crf": "crf", "qp": "qp", "bitrate": "bitrate_kbps"}
"""Options by mode of rate control."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The smallest encode whose slices keep a quality.

    Parameters
    ----------
    index : str
        Name of a quality index.
    value : float
        What to keep.
    over : {"worst", "mean", "p5"}
        Over slices: the worst one's quality, the mean, or what 95 % of them keep.
    option : {"min", "min_ssim", "over"}
        The option that asks for it, which errors name.

    Raises
    ------
    InputError
        If a name is unknown or the value out of the index's range.
    """

    index: str = FLOOR[0]
    value: float = FLOOR[1]
    over: str = OVER[0]
    option: str = field(default="min", compare=False, repr=False)

    def __post_init__(self) -> None:
        found = _index(self.index, field=self.option)
        object.__setattr__(self, "index", found.name)
        if self.over not in OVER:
            raise InputError(
                f"{self.over!r} is unknown", field="over", remedy=f"use one of {', '.join(OVER)}"
            )
        check_number(self.value, field=self.option)
        if not found.low < self.value < found.high:
            raise InputError(
                f"{self.value} is out of range for {found.title}",
                field=self.option,
                remedy=f"above {found.low:g} and below {found.high:g}",
            )


Rate: TypeAlias = RateControl | Floor
"""What decides about the size of an encode."""


def _default_objective() -> Objective:
    return objective.get(RDO)


def _default_rate() -> Rate:
    return ConstantQuality(CRF)


@dataclass(frozen=True)
class EncodeSettings:
    """How a series is encoded; :meth:`of` makes them from options as the command line has them.

    Parameters
    ----------
    rate : ConstantQuality, ConstantQuantizer, MeanBitrate or Floor
        What decides about the size; CRF 23 by default.
    objective : Objective, optional
        What bits are spent for; None leaves all to the codec.
    codec : Codec
        The encoder with its own options; x264 at the default effort.
    window : Window, optional
        Window centre and width; the header's own when None.
    bit_depth : int
        Bits per luma sample.
    fps : Fraction
        Slices per second.
    threads : int
        Threads; 0 leaves the number to the codec.
    protect : tuple of Window, optional
        Windows that the frames will be looked at through, for which bits are spent in place of the
        frames as they are; None is lung, soft tissue and bone for the whole range of HU, else none.
    measure : tuple of str
        Quality indices that are measured beside those that every encode measures.
    padding : {"darkest", "air"}
        How padding of slices is shown: as the darkest grey of the window, or as air.
    strict : bool
        Refuse series of which slices are missing, or whose slices lie unevenly.

    Raises
    ------
    InputError
        If a value is of a wrong type or out of range, or two contradict each other; the error
        names the field.
    """

    rate: Rate = field(default_factory=_default_rate)
    objective: Objective | None = field(default_factory=_default_objective)
    codec: Codec = field(default_factory=X264)
    window: Window | None = None
    bit_depth: int = BIT_DEPTH
    fps: Fraction = Fraction(FPS)
    threads: int = 0
    protect: tuple[Window, ...] | None = None
    measure: tuple[str, ...] = ()
    padding: str = PADDING
    strict: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        if self.bit_depth not in self.codec.depths:
            raise InputError(
                f"{self.bit_depth!r} is unknown",
                field="bit_depth",
                remedy=f"use one of {', '.join(map(str, self.codec.depths))}",
            )
        if isinstance(self.rate, Floor):
            # What is searched.
            self.codec.scale("crf", self.bit_depth)
        else:
            mode = self.rate.mode
            scale = self.codec.scale(mode, self.bit_depth)
            scale.check(point_of(self.rate), field=RATE_FIELDS[mode])
        if not 0 <= self.threads <= MAX_THREADS:
            raise InputError(
                f"{self.threads} is out of range", field="threads", remedy=f"use 0 to {MAX_THREADS}"
            )
        if not Fraction(1, 100) <= self.fps <= 1000:
            raise InputError(f"{self.fps} is out of range", field="fps", remedy="use 0.01 to 1000")
        self.codec.check(steered=self.steered)
        measured = tuple(_index(name, field="measure").name for name in self.measure)
        object.__setattr__(self, "measure", measured)

    @classmethod
    def of(cls, **options: Any) -> Self:
        """Return the settings of options, as in :data:`ssimrdo.encoding.options.OPTIONS`.

        Values may be what a person would write, such as ``window="lung"``. Options that are None
        are as if they were not given. ``codec`` takes a codec too, in place of its options.

        Raises
        ------
        InputError
            If an option is unknown or its value cannot be used.
        """
        given = {name: value for name, value in options.items() if value is not None}
        for name in given:
            if name not in BY_NAME:
                raise InputError(
                    f"{name[:40]!r} is not an option", remedy=f"use some of {', '.join(BY_NAME)}"
                )
        values = {name: BY_NAME[name].value(value) for name, value in given.items()}
        values.setdefault("bit_depth", _usual_depth(values.get("window")))
        codec = values.pop("codec", CODEC)
        rdo = values.pop("rdo", RDO if _is_steerable(codec) else OFF)
        rate = _rate(values)
        if isinstance(codec, str):
            codec = codec_of(codec, values, steered=rdo != OFF)
        own = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in own:
                raise InputError(
                    f"is not an option of {codec.name}", field=name, remedy="leave it out"
                )
        return cls(
            rate=rate, objective=None if rdo == OFF else objective.get(rdo), codec=codec, **values
        )

    def changed(self, options: Mapping[str, Any]) -> EncodeSettings:
        """Return settings in which some options take the place of those that they exclude.

        Parameters
        ----------
        options : mapping
            As :meth:`of` takes them.

        Raises
        ------
        InputError
            As :meth:`of`.
        """
        kept = self.as_options()
        given = {name: value for name, value in options.items() if value is not None}
        if any(name in given for name in ("min", "min_ssim")):
            kept = {name: value for name, value in kept.items() if name not in RATES}
        elif any(name in given for name in RATES):
            kept = {name: value for name, value in kept.items() if name not in (*RATES, "over")}
        elif "over" in given and not isinstance(self.rate, Floor):
            kept = {name: value for name, value in kept.items() if name not in RATES}
        if "codec" in given and given["codec"] != kept.get("codec", CODEC):
            kept = self._for_another_codec(kept, given["codec"])
        if "window" in given and self.bit_depth == _usual_depth(self.window):
            # As a window has it where no depth is given.
            kept.pop("bit_depth", None)
        if "effort" in given or "preset" in given:
            kept = {name: value for name, value in kept.items() if name not in ("effort", "preset")}
        steerable = _is_steerable(given.get("codec", kept.get("codec", CODEC)))
        if given.get("rdo") == OFF and steerable:
            # Its efforts need an objective.
            kept.pop("effort", None)
        if kept.get("rdo") == OFF and "rdo" in given and given["rdo"] != OFF:
            kept.pop("preset", None)
        return EncodeSettings.of(**{**kept, **given})

    def as_options(self) -> dict[str, Any]:
        """Return the options that :meth:`of` makes these settings from."""
        options: dict[str, Any] = {"rdo": self.objective.name if self.objective else OFF}
        if isinstance(self.rate, Floor):
            options |= _floor_options(self.rate)
        else:
            options[RATE_FIELDS[self.rate.mode]] = point_of(self.rate)
        name = name_of(self.codec)
        options["codec"] = self.codec if name is None else None if name == CODEC else name
        options |= {} if name is None else self.codec.options()
        names = ("window", "bit_depth", "fps", "threads", "protect")
        others = {name: getattr(self, name) for name in names}
        options |= others | {"measure": self.measure or None, "strict": self.strict or None}
        options["padding"] = self.padding if self.padding != PADDING else None
        return {name: value for name, value in options.items() if value is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types, by option; ``min`` only where it is no SSIM."""
        floor = self.rate if isinstance(self.rate, Floor) else None
        is_ssim = floor is not None and floor.index == FLOOR[0]
        rate = None if isinstance(self.rate, Floor) else self.rate
        point = {None if rate is None else rate.mode: rate and point_of(rate)}
        record: dict[str, Any] = {
            "crf": point.get("crf"),
            "qp": point.get("qp"),
            "bitrate_kbps": point.get("bitrate"),
            "min_ssim": floor.value if floor and is_ssim else None,
            "target": floor.over if floor else None,
            "rdo": self.objective.name if self.objective else OFF,
            "window": self.window and self.window.as_dict(),
            "bit_depth": self.bit_depth,
            "fps": str(self.fps),
            "threads": self.threads,
            "padding": self.padding,
            **self.codec.options(),
        }
        if floor is not None and not is_ssim:
            record["min"] = f"{floor.index}={floor.value:.15g}"
        if self.protect is not None:
            record["protect"] = [window.as_dict() for window in self.protect]
        if self.measure:
            record["measure"] = list(self.measure)
        if self.strict:
            record["strict"] = True
        name = name_of(self.codec)
        if name != CODEC:
            record["codec"] = name or self.codec.label
        return record

    def _for_another_codec(self, options: Mapping[str, Any], codec: Any) -> dict[str, Any]:
        """Return those of these settings' options that another codec takes as well."""
        taken = named_codec(codec).options if isinstance(codec, str) else frozenset()
        # Presets and strengths are each encoder's own.
        lost = {"codec", "preset", "rdo_strength", *(CODEC_OPTIONS - taken)}
        if _is_steerable(codec) != self.codec.steerable:
            lost.add("rdo")
        return {name: value for name, value in options.items() if name not in lost}

    @property
    def protected(self) -> tuple[Window, ...]:
        """Windows that the frames will be looked at through, beside their own."""
        if self.protect is not None:
            return self.protect
        is_wide = self.window is not None and self.window.function == WIDE
        return PROTECTED if is_wide else ()

    @property
    def steered(self) -> bool:
        """Whether the codec is told Lagrange multipliers."""
        return self.objective is not None

    @property
    def indices(self) -> tuple[metrics.QualityIndex, ...]:
        """The quality indices that an encode measures, each once."""
        names = [name for name in metrics.names() if metrics.get(name).everyday]
        if isinstance(self.rate, Floor):
            names.append(self.rate.index)
        return tuple(metrics.get(name) for name in dict.fromkeys((*names, *self.measure)))


def _usual_depth(window: Window | None) -> int:
    """Return the bits per sample that a window has where no depth is given."""
    return WIDE_BIT_DEPTH if window is not None and window.function == WIDE else BIT_DEPTH


def _index(name: Any, *, field: str) -> metrics.QualityIndex:
    try:
        return metrics.get(name)
    except InputError as error:
        raise InputError(error.reason, field=field, remedy=error.remedy) from None


def _check_types(settings: EncodeSettings) -> None:
    kinds: tuple[tuple[str, Any, str], ...] = (
        ("rate", ConstantQuality | ConstantQuantizer | MeanBitrate | Floor, "a rate control"),
        ("objective", Objective | None, "an objective"),
        ("window", Window | None, "a window"),
        ("bit_depth", int, "a whole number"),
        ("fps", Fraction, "a fraction"),
        ("threads", int, "a whole number"),
        ("protect", tuple | None, "a tuple of windows"),
        ("measure", tuple, "a tuple of names"),
    )
    for name, kind, what in kinds:
        value = getattr(settings, name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{value!r:.60} is not {what}", field=name)
    if not all(isinstance(window, Window) for window in settings.protect or ()):
        raise InputError(f"{settings.protect!r:.60} are not windows", field="protect")
    if settings.padding not in PADDINGS:
        raise InputError(
            f"{settings.padding!r:.60} is unknown",
            field="padding",
            remedy=f"use one of {', '.join(PADDINGS)}",
        )
    if not isinstance(settings.strict, bool):
        raise InputError(f"{settings.strict!r:.60} is neither yes nor no", field="strict")
    _check_codec(settings.codec)


def _is_steerable(codec: Any) -> bool:
    if isinstance(codec, str):
        return named_codec(codec).steerable
    _check_codec(codec)
    return bool(codec.steerable)


def _check_codec(codec: object) -> None:
    if not is_codec(codec):
        raise InputError(f"{codec!r:.60} is not a codec", field="codec")


def _rate(values: dict[str, Any]) -> Rate:
    """Take the options of rate control out of values and return what they ask for."""
    given = [name for name in RATES if name in values]
    if len(given) > 1:
        raise InputError(
            "there is another rate beside it",
            field=given[1],
            remedy=f"give one of {', '.join(f'{{{name}}}' for name in RATES)}",
        )
    over = values.pop("over", None)
    point: Any = values.pop(given[0]) if given else None
    asked = given[0] if given else None if over is None else "over"
    if asked in ("min", "min_ssim", "over"):
        index, value = {"min": point, "min_ssim": (FLOOR[0], point), "over": FLOOR}[asked]
        return Floor(index, value, OVER[0] if over is None else over, asked)
    if over is not None:
        raise InputError(
            "goes with a quality to keep", field="over", remedy="give {min} or leave it out"
        )
    if not given:
        return ConstantQuality(CRF)
    if given[0] == "qp":
        return ConstantQuantizer(point)
    return ConstantQuality(point) if given[0] == "crf" else MeanBitrate(point)


def _floor_options(floor: Floor) -> dict[str, Any]:
    quality = (floor.index, floor.value)
    if floor.option == "over" and quality == FLOOR:
        return {"over": floor.over}
    if floor.option == "min_ssim" and floor.index == FLOOR[0]:
        return {"min_ssim": floor.value, "over": floor.over}
    return {"min": quality, "over": floor.over}
