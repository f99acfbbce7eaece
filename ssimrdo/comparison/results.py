"""What a comparison found, as frozen dataclasses; JSON is made and read at the border alone.

``report.json`` is :meth:`ComparisonReport.to_json`. What is undefined is None here and null there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from ssimrdo.bd.statistics import Spread
from ssimrdo.codecs.base import Mode
from ssimrdo.errors import InputError
from ssimrdo.html.text import metric_name, percent
from ssimrdo.notebook import data_frame, html_list, html_table
from ssimrdo.record.result import WindowUsed
from ssimrdo.record.summary import SliceSummary
from ssimrdo.record.tissue import TissueSummary

if TYPE_CHECKING:
    import pandas

Json: TypeAlias = dict[str, Any]
"""An object of JSON."""

EncoderRole: TypeAlias = Literal["reference", "anchor", "test"]
"""What an encoder is compared as."""

Timing: TypeAlias = Literal["alone", "loaded", "mixed"]
"""``loaded`` if other encodes or measurements ran during one, ``mixed`` if some times are from the
cache and of another run, otherwise ``alone``: only these compare well."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What encodes were timed on.

    Parameters
    ----------
    cpu : str
        The processor's name; of several machines all names, with "or" between them.
    cores : int or str
        Processors that could be used; of machines that differ such as ``4 or 8``.
    """

    cpu: str
    cores: int | str

    def to_json(self) -> Json:
        """Return it as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from."""
        return cls(record["cpu"], record["cores"])


@dataclass(frozen=True, slots=True)
class EncodeCounts:
    """How many encodes a comparison made, and found in the cache."""

    made: int = 0
    cached: int = 0

    def to_json(self) -> Json:
        """Return it as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from."""
        return cls(record["made"], record["cached"])


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """One encoder of a comparison.

    Parameters
    ----------
    name : str
        As the user wrote it; keys of curves, deltas and summaries.
    role : {"reference", "anchor", "test"}
        What it is compared as.
    label : str
        Name and options for legends.
    settings : str
        All settings for a reader; what differs from point to point is called POINT, and what
        differs from series to series has all its values.
    build : str
        Version of the encoder.
    strength : float, optional
        Share of the theoretical quantizer offset, where offsets are given.
    points : tuple of float
        On the encoder's own scale, or kbit/s.
    objective : str, optional
        Name of what its bits are spent for, where it is steered.
    """

    name: str
    role: EncoderRole
    label: str
    settings: str
    build: str
    strength: float | None
    points: tuple[float, ...]
    objective: str | None = None

    def to_json(self) -> Json:
        """Return it as JSON types."""
        return {**dataclasses.asdict(self), "points": [plain(point) for point in self.points]}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from."""
        keys = ("name", "role", "label", "settings", "build", "strength")
        values = {key: record[key] for key in keys}
        return cls(**values, points=tuple(record["points"]), objective=record.get("objective"))


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One encode of one series.

    Parameters
    ----------
    point : float
        On the encoder's own scale, or kbit/s.
    kbps : float
        Bit rate in kbit/s.
    bytes : int
        Coded pictures and parameter sets; see :mod:`ssimrdo.comparison.payload`.
    seconds : float
        Wall time of the encode.
    quality : mapping of str to SliceSummary
        Each index over the slices.
    per_slice : mapping of str to tuple of float
        Each index of every slice.
    tissue : TissueSummary, optional
        Errors by tissue.
    classes : mapping of str to float
        Quality in each class that the series has; see :mod:`ssimrdo.comparison.classes`.
    """

    point: float
    kbps: float
    bytes: int
    seconds: float
    quality: Mapping[str, SliceSummary]
    per_slice: Mapping[str, tuple[float, ...]]
    tissue: TissueSummary | None = None
    classes: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return it as JSON types."""
        return {
            "point": plain(self.point),
            "kbps": self.kbps,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "quality": {name: one.as_dict() for name, one in self.quality.items()},
            "tissue": self.tissue and self.tissue.as_dict(),
            "classes": dict(self.classes),
            "per_slice": {name: list(values) for name, values in self.per_slice.items()},
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from; values of single slices may be missing."""
        tissue = record.get("tissue")
        return cls(
            point=record["point"],
            kbps=record["kbps"],
            bytes=record["bytes"],
            seconds=record["seconds"],
            quality={name: SliceSummary.from_dict(one) for name, one in record["quality"].items()},
            per_slice={name: tuple(v) for name, v in record.get("per_slice", {}).items()},
            tissue=None if tissue is None else TissueSummary.from_dict(tissue),
            classes=dict(record.get("classes", {})),
        )


Curve: TypeAlias = tuple[RatePoint, ...]
"""The encodes of one series by one encoder, in the order of its points."""


@dataclass(frozen=True, slots=True)
class CurveDelta:
    """One encoder's curve of one index against the reference's.

    Parameters
    ----------
    rate_percent : float, optional
        BD-rate in percent; negative is a saving.
    rate_kbps : float, optional
        Mean difference of the bit rates over the qualities that both curves reach, in kbit/s.
    quality : float, optional
        Mean difference of the index over the bit rates that both curves reach, in its own unit.
    overlap : float, optional
        Share of the qualities that either curve reaches which both do.
    reason : str, optional
        Why a number is undefined.
    warnings : tuple of str
        Why a number should be taken with care.
    """

    rate_percent: float | None
    rate_kbps: float | None
    quality: float | None
    overlap: float | None
    reason: str | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """Return it as JSON types."""
        return {**dataclasses.asdict(self), "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from."""
        values = {one.name: record[one.name] for one in dataclasses.fields(cls)}
        return cls(**{**values, "warnings": tuple(record["warnings"])})


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """What a comparison found on one series.

    Parameters
    ----------
    name : str
        What the comparison calls it.
    slices, width, height : int, optional
        Number and size of the slices; these and what follows are None where the series failed.
    window : WindowUsed, optional
        The window the luma was made with.
    left_out : int, optional
        Files of the folder that are not in it.
    window_source : str, optional
        Where the window comes from.
    error : str, optional
        Why it failed.
    curves : mapping of str to tuple of RatePoint
        By encoder.
    bd : mapping of str to mapping of str to CurveDelta
        By encoder but the reference, then by delta.
    speed : mapping of str to float
        How many times as fast as the reference each encoder is: the median over the points, so
        that one disturbed encode does not count.
    classes : mapping of str to mapping of str to CurveDelta
        By encoder but the reference, then by class of quality; see
        :mod:`ssimrdo.comparison.classes`.
    """

    name: str
    slices: int | None = None
    width: int | None = None
    height: int | None = None
    window: WindowUsed | None = None
    left_out: int | None = None
    error: str | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    bd: Mapping[str, Mapping[str, CurveDelta]] = field(default_factory=dict)
    speed: Mapping[str, float] = field(default_factory=dict)
    window_source: str | None = None
    classes: Mapping[str, Mapping[str, CurveDelta]] = field(default_factory=dict)

    def to_json(self) -> Json:
        """Return it as JSON types."""
        return {
            "name": self.name,
            "slices": self.slices,
            "width": self.width,
            "height": self.height,
            "window": self.window and dataclasses.asdict(self.window),
            "window_source": self.window_source,
            "left_out": self.left_out,
            "error": self.error,
            "curves": {
                name: [point.to_json() for point in curve] for name, curve in self.curves.items()
            },
            "bd": _deltas(self.bd),
            "classes": _deltas(self.classes),
            "speed": dict(self.speed),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from."""
        window = record["window"]
        return cls(
            name=record["name"],
            slices=record["slices"],
            width=record["width"],
            height=record["height"],
            window=window and WindowUsed(window["center"], window["width"]),
            left_out=record["left_out"],
            error=record["error"],
            curves={
                name: tuple(map(RatePoint.from_json, curve))
                for name, curve in record["curves"].items()
            },
            bd=_read_deltas(record["bd"]),
            speed=dict(record["speed"]),
            window_source=record.get("window_source"),
            classes=_read_deltas(record.get("classes", {})),
        )


def _deltas(deltas: Mapping[str, Mapping[str, CurveDelta]]) -> Json:
    return {
        name: {delta: one.to_json() for delta, one in found.items()}
        for name, found in deltas.items()
    }


def _read_deltas(record: Mapping[str, Any]) -> dict[str, dict[str, CurveDelta]]:
    return {
        name: {delta: CurveDelta.from_json(one) for delta, one in found.items()}
        for name, found in record.items()
    }


@dataclass(frozen=True, slots=True)
class SeriesSpread:
    """A number over the series.

    Parameters
    ----------
    mean, median, worst : float, optional
        Over the series that define it.
    low, high : float, optional
        Bootstrap confidence interval of the mean, 95 %; of fewer than five series their range.
    count, excluded : int
        Series that define the number, and those that do not.
    spread : {"interval", "range"}
        Which of the two ``low`` and ``high`` are.
    """

    mean: float | None
    median: float | None
    worst: float | None
    low: float | None
    high: float | None
    count: int
    excluded: int
    spread: Spread = "interval"

    def to_json(self) -> Json:
        """Return it as JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from; other keys are not looked at."""
        # Reports of earlier versions have intervals alone.
        record = {"spread": "interval", **record}
        return cls(**{one.name: record[one.name] for one in dataclasses.fields(cls)})


@dataclass(frozen=True, slots=True)
class DeltaSummary:
    """One delta of one encoder over the series.

    Parameters
    ----------
    rate_percent, kbps, quality : SeriesSpread
        Of the numbers of :class:`CurveDelta`.
    """

    rate_percent: SeriesSpread
    kbps: SeriesSpread
    quality: SeriesSpread

    def to_json(self) -> Json:
        """Return it as JSON types; the BD-rate's keys stand beside the two others."""
        return {
            **self.rate_percent.to_json(),
            "kbps": self.kbps.to_json(),
            "quality": self.quality.to_json(),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from."""
        read = SeriesSpread.from_json
        return cls(read(record), read(record["kbps"]), read(record["quality"]))


@dataclass(frozen=True, slots=True)
class EncoderSummary:
    """One encoder against the reference over all series.

    Parameters
    ----------
    deltas : mapping of str to DeltaSummary
        By delta.
    speed : float
        How many times as fast as the reference: the geometric mean over the series.
    """

    deltas: Mapping[str, DeltaSummary]
    speed: float

    def to_json(self) -> Json:
        """Return it as JSON types; the speed stands beside the deltas."""
        return {**{name: one.to_json() for name, one in self.deltas.items()}, "speed": self.speed}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from."""
        deltas = {name: one for name, one in record.items() if name != "speed"}
        return cls(
            {name: DeltaSummary.from_json(one) for name, one in deltas.items()}, record["speed"]
        )


@dataclass(frozen=True, slots=True)
class ClassWarning:
    """An encoder that gains in SSIM and loses in a class of quality.

    Parameters
    ----------
    series, encoder : str
        Which series and encoder.
    classes : tuple of str
        Where it loses.
    text : str
        A sentence that says so.
    code : str
        For programs.
    """

    series: str
    encoder: str
    classes: tuple[str, ...]
    text: str
    code: str = "gains_ssim_loses_class"

    def to_json(self) -> Json:
        """Return it as JSON types."""
        return {**dataclasses.asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from."""
        return cls(
            record["series"],
            record["encoder"],
            tuple(record["classes"]),
            record["text"],
            record["code"],
        )


@dataclass(frozen=True)
class ComparisonReport:
    """All that a comparison found.

    Parameters
    ----------
    version : str
        Of ssimrdo.
    date : datetime
        When it was finished, with its time zone.
    command : str
        What it was made with, without folders.
    mode : {"crf", "qp", "bitrate"}
        Rate control of all encoders.
    preset : str
        Preset of x264, and of x265 as ``x265-ssim`` and ``x265-untuned``, where an encoder's name
        carries none.
    fps : Fraction
        Slices per second.
    bit_depth : int
        Bits per luma sample.
    versions : mapping of str to str
        Versions of all that the numbers may depend on.
    machine : MachineFacts
        What encodes were timed on.
    timing : {"alone", "loaded", "mixed"}
        See :data:`Timing`.
    encodes : EncodeCounts
        How many were made.
    metrics : tuple of str
        Names of the quality indices.
    encoders : tuple of EncoderFacts
        The reference first.
    series : tuple of SeriesResult
        In the order in which they were given.
    summary : mapping of str to EncoderSummary
        By encoder but the reference.
    classes : mapping of str to mapping of str to SeriesSpread
        BD-rates over the series, by encoder but the reference, then by class of quality.
    warnings : tuple of ClassWarning
        Where an encoder gains in SSIM and loses in a class.
    """

    version: str
    date: datetime
    command: str
    mode: Mode
    preset: str
    fps: Fraction
    bit_depth: int
    versions: Mapping[str, str]
    machine: MachineFacts
    timing: Timing
    encodes: EncodeCounts
    metrics: tuple[str, ...]
    encoders: tuple[EncoderFacts, ...]
    series: tuple[SeriesResult, ...]
    summary: Mapping[str, EncoderSummary]
    classes: Mapping[str, Mapping[str, SeriesSpread]] = field(default_factory=dict)
    warnings: tuple[ClassWarning, ...] = ()

    @property
    def reference(self) -> EncoderFacts:
        """The encoder that all others are compared with."""
        return self.encoders[0]

    @property
    def others(self) -> tuple[EncoderFacts, ...]:
        """All encoders but the reference."""
        return self.encoders[1:]

    @property
    def compared(self) -> tuple[SeriesResult, ...]:
        """The series that did not fail."""
        return tuple(one for one in self.series if one.error is None)

    @property
    def deltas(self) -> tuple[str, ...]:
        """What curves are compared by: the indices, and those with a scale in dB in it as well."""
        known = (summary.deltas for summary in self.summary.values())
        return tuple(next(known, dict.fromkeys(self.metrics)))

    def _repr_html_(self) -> str:
        heads = ("", *map(metric_name, self.deltas), "encode time")
        rows = []
        for encoder in self.others:
            summary = self.summary[encoder.name]
            rates = (percent(summary.deltas[delta].rate_percent.mean) for delta in self.deltas)
            rows.append((encoder.label, *rates, f"{1 / summary.speed:.2f} ×"))
        compared = f"{len(self.compared)} of {len(self.series)} series"
        caption = f"BD-rate against {self.reference.label}, {compared}; negative is a saving"
        warnings = html_list(warning.text for warning in self.warnings)
        return html_table(caption, heads, rows) + warnings

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a data frame with a row for each encode: the points of all curves.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        return data_frame(
            {
                "series": one.name,
                "encoder": encoder,
                "point": point.point,
                "kbps": point.kbps,
                "bytes": point.bytes,
                "seconds": point.seconds,
                **{f"{name}_mean": each.mean for name, each in point.quality.items()},
                **{f"{name}_worst": each.worst for name, each in point.quality.items()},
            }
            for one in self.compared
            for encoder, curve in one.curves.items()
            for point in curve
        )

    def to_json(self) -> Json:
        """Return the report as JSON types."""
        return {
            "version": self.version,
            "date": self.date.isoformat(timespec="seconds"),
            "command": self.command,
            "mode": self.mode,
            "preset": self.preset,
            "fps": str(self.fps),
            "bit_depth": self.bit_depth,
            "versions": dict(self.versions),
            "machine": self.machine.to_json(),
            "timing": self.timing,
            "encodes": self.encodes.to_json(),
            "metrics": list(self.metrics),
            "encoders": _list(self.encoders),
            "series": _list(self.series),
            "summary": {name: one.to_json() for name, one in self.summary.items()},
            "classes": {
                name: {key: one.to_json() for key, one in spreads.items()}
                for name, spreads in self.classes.items()
            },
            "warnings": [warning.to_json() for warning in self.warnings],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from; keys that are not known are not looked at.

        Raises
        ------
        InputError
            If it is no report of a comparison.
        """
        try:
            return cls(
                version=record["version"],
                date=datetime.fromisoformat(record["date"]),
                command=record["command"],
                mode=record["mode"],
                preset=record["preset"],
                fps=Fraction(record["fps"]),
                bit_depth=record["bit_depth"],
                versions=dict(record["versions"]),
                machine=MachineFacts.from_json(record["machine"]),
                timing=record["timing"],
                encodes=EncodeCounts.from_json(record["encodes"]),
                metrics=tuple(record["metrics"]),
                encoders=tuple(map(EncoderFacts.from_json, record["encoders"])),
                series=tuple(map(SeriesResult.from_json, record["series"])),
                summary={
                    name: EncoderSummary.from_json(one) for name, one in record["summary"].items()
                },
                classes={
                    name: {key: SeriesSpread.from_json(one) for key, one in spreads.items()}
                    for name, spreads in record.get("classes", {}).items()
                },
                warnings=tuple(map(ClassWarning.from_json, record.get("warnings", ()))),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"no report of a comparison: {type(error).__name__}") from error


def plain(point: float) -> float | int:
    """Return a point as people write it: a whole number without a decimal point."""
    return int(point) if point == int(point) else point


def _list(items: Iterable[EncoderFacts | SeriesResult]) -> list[Json]:
    return [item.to_json() for item in items]
