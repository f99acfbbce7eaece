"""What came of a measurement: a row for every slice, their summary, and what to be warned of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ssimrdo import metrics
from ssimrdo.dicom import Window
from ssimrdo.measurement.trust import Trust
from ssimrdo.metrics import QualityIndex
from ssimrdo.notebook import data_frame, html_list, html_table
from ssimrdo.record.summary import SliceSummary
from ssimrdo.record.tissue import HU, TissueSummary

if TYPE_CHECKING:
    import pandas

_SQUARED: Final = "²"
_LEVELS: Final = "levels"


@dataclass(frozen=True)
class SliceRow:
    """What was measured of a slice.

    Parameters
    ----------
    number : int
        Which slice, from 1.
    values : mapping of str to float or None
        The indices by name; None where one is not defined.
    rmse, max_error : float, optional
        Root mean squared and largest error in the unit of errors; None where the region is empty.
    ssim : float, optional
        Mean SSIM, which warnings go by; None where frames are smaller than its window, or the
        region has none.
    ssim_body, max_error_body : float, optional
        SSIM and largest error inside the body; None without a body.
    trust : Trust, optional
        What SSIM says little of.
    """

    number: int
    values: Mapping[str, float | None]
    rmse: float | None
    max_error: float | None
    ssim: float | None = None
    ssim_body: float | None = None
    max_error_body: float | None = None
    trust: Trust | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the row as JSON types, flat as the columns of a table."""
        trust = self.trust
        return {
            "slice": self.number,
            **self.values,
            "rmse": self.rmse,
            "largest_error": self.max_error,
            "ssim_body": self.ssim_body,
            "max_error_body": self.max_error_body,
            "unstable_share": trust and trust.unstable_share,
            "insensitive_share": trust and trust.insensitive_share,
            "hidden_error_share": trust and trust.hidden_error_share,
        }


@dataclass(frozen=True, slots=True)
class FailedSlice:
    """A slice that could not be measured.

    Parameters
    ----------
    number : int
        Which slice, from 1.
    side : {"reference", "distorted"}
        Which side it is damaged on.
    reason : str
        What is wrong; neither a path nor text of a header.
    where : str
        Its file or frame, for messages alone.
    """

    number: int
    side: str
    reason: str
    where: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {"slice": self.number, "side": self.side, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Caution:
    """What is to be kept in mind with these numbers.

    Parameters
    ----------
    code : str
        For programs.
    text : str
        A sentence for people.
    share : float, optional
        The share that it is about.
    slices : tuple of int
        Numbers of the slices that it is about, from 1; empty for all.
    """

    code: str
    text: str
    share: float | None = None
    slices: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "code": self.code,
            "text": self.text,
            "share": self.share,
            "slices": list(self.slices),
        }


@dataclass(frozen=True)
class Measurement:
    """A measurement of one side against another.

    Parameters
    ----------
    reference, distorted : str
        What the sides are called: the paths that the user gave, or such as "the reference volume".
    rows, columns, bits : int
        Size of the slices, and bits that hold the levels that were measured.
    indices : tuple of str
        Names of the indices.
    rows_by_slice : tuple of SliceRow
        One for every slice that could be measured.
    summary : mapping of str to SliceSummary or None
        Each index, and ``rmse`` and ``largest_error``, over the slices; None where no slice has it.
    tissue : TissueSummary, optional
        Errors by tissue; None for frames smaller than SSIM's window.
    warnings : tuple of Caution
        What to be warned of.
    failures : tuple of FailedSlice
        Slices that could not be measured.
    unit : str
        Of errors: ``HU`` or ``grey levels``.
    data_range : float
        L, from black to white in that unit.
    unit_per_level : float
        What a level, which indices were taken of, is in that unit.
    matched_by : {"position", "order"}
        What slices were matched by.
    window : Window, optional
        The window that black and white are of.
    window_source : str, optional
        Where it comes from.
    region : str, optional
        The region; None for whole slices.
    boxed : tuple of str
        Indices that were taken of the rectangle around the region.
    notes : tuple of str
        What else is to be told.
    """

    reference: str
    distorted: str
    rows: int
    columns: int
    indices: tuple[str, ...]
    slices: tuple[SliceRow, ...]
    summary: Mapping[str, SliceSummary | None]
    tissue: TissueSummary | None
    warnings: tuple[Caution, ...]
    failures: tuple[FailedSlice, ...]
    unit: str
    data_range: float
    unit_per_level: float
    matched_by: str
    window: Window | None = None
    window_source: str | None = None
    region: str | None = None
    boxed: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)

    def _repr_html_(self) -> str:
        rows = []
        for name, one in self.summary.items():
            unit, digits = unit_of(name, self.unit), decimals_of(name)
            if one is None:
                rows.append((title_of(name), "–", "–", "–"))
                continue
            mean, worst = (f"{value:.{digits}f} {unit}".strip() for value in (one.mean, one.worst))
            rows.append((title_of(name), mean, worst, f"{one.worst_number}"))
        heads = ("", "mean", "worst", "worst slice")
        caption = f"{len(self.slices)} of {len(self.slices) + len(self.failures)} slices"
        tissue = "" if self.tissue is None else self.tissue.html()
        warnings = html_list(warning.text for warning in self.warnings)
        return html_table(caption, heads, rows) + tissue + warnings

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a data frame with a row for each slice that could be measured.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        return data_frame(row.as_dict() for row in self.slices)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types, as docs/json.md describes them."""
        return {
            "reference": self.reference,
            "distorted": self.distorted,
            "width": self.columns,
            "height": self.rows,
            "matched_by": self.matched_by,
            "window": self.window and self.window.as_dict(),
            "window_source": self.window_source,
            "data_range": self.data_range,
            "unit": self.unit,
            "region": self.region,
            "boxed": list(self.boxed),
            "indices": {name: _index_dict(name, self.unit) for name in self.indices},
            "summary": {
                name: (one and {**one.with_places(), "unit": unit_of(name, self.unit)})
                for name, one in self.summary.items()
            },
            "tissue": self.tissue and self.tissue.as_dict(),
            "warnings": [one.as_dict() for one in self.warnings],
            "slices": [row.as_dict() for row in self.slices],
            "failures": [one.as_dict() for one in self.failures],
        }


def _index_dict(name: str, unit: str) -> dict[str, Any]:
    index = metrics.get(name)
    return {
        "title": index.title,
        "unit": unit_of(name, unit),
        "higher_is_better": index.higher_is_better,
    }


ERROR_TITLES: Final = {"rmse": "RMSE", "largest_error": "Largest error"}
"""Columns that are no index of the registry."""


def unit_of(name: str, unit: str) -> str:
    """Return the unit of a column, where that of errors is ``unit``; empty for a plain number."""
    if name in ERROR_TITLES:
        return unit
    own = metrics.get(name).unit
    if not own.startswith(_LEVELS):
        return own
    if unit == HU:
        return own.replace(_LEVELS, HU)
    return f"squared {unit}" if own.endswith(_SQUARED) else unit


def in_unit(index: QualityIndex, value: float, unit_per_level: float) -> float:
    """Return the value of an index of levels in the unit of errors; others stay."""
    if not index.unit.startswith(_LEVELS):
        return value
    return value * (unit_per_level**2 if index.unit.endswith(_SQUARED) else unit_per_level)


def title_of(name: str) -> str:
    """Return what people call a column."""
    return ERROR_TITLES.get(name) or metrics.get(name).title


def decimals_of(name: str) -> int:
    """Return the decimals that a column is shown with."""
    if name in ERROR_TITLES:
        return 1
    index = metrics.get(name)
    if not index.unit.startswith(_LEVELS):
        return index.decimals
    return 2 if index.unit.endswith(_SQUARED) else 1


def summary_of(
    rows: Sequence[SliceRow], indices: Sequence[QualityIndex]
) -> dict[str, SliceSummary | None]:
    """Return every column over the slices that have it."""
    found: dict[str, SliceSummary | None] = {}
    for index in indices:
        values = [(row.number, row.values[index.name]) for row in rows]
        found[index.name] = _over(values, index)
    lower = metrics.get("max_error")
    found["rmse"] = _over([(row.number, row.rmse) for row in rows], lower)
    found["largest_error"] = _over([(row.number, row.max_error) for row in rows], lower)
    return found


def _over(values: Sequence[tuple[int, float | None]], index: QualityIndex) -> SliceSummary | None:
    known = [(number, value) for number, value in values if value is not None]
    if not known:
        return None
    return SliceSummary.of(
        [value for _, value in known], index, numbers=[number for number, _ in known]
    )


def columns_of(measurement: Measurement) -> Iterator[str]:
    """Yield the names of the columns of a row, but the slice's number, in their order."""
    yield from measurement.indices
    yield "rmse"
    # The index says the same.
    if "max_error" not in measurement.indices:
        yield "largest_error"
