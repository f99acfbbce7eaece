"""Errors by tissue over the slices of a series, and what to be warned of; docs/quality.md explains.

Errors are in HU where grey levels are linear in HU, and otherwise in grey levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self

from ssimrdo.dicom.grey import Window, linear_ends
from ssimrdo.dicom.spacing import MISSING, REPEATED, UNEVEN, Spacing
from ssimrdo.metrics import SSIM
from ssimrdo.metrics.tissue import SSIM_AREAS, Area, ErrorSummary, GreyScale, TissueErrors
from ssimrdo.notebook import html_table
from ssimrdo.record.summary import SliceSummary

HU: Final = "HU"
GREY_LEVELS: Final = "grey levels"

AREA_NAMES: Final[Mapping[Area, str]] = MappingProxyType(
    {
        Area.BODY: "body",
        Area.EDGE: "edges",
        Area.DENSE: "small dense structures",
        Area.FLAT: "flat soft tissue",
        Area.LUNG: "lung",
        Area.UNCLIPPED: "unclipped",
    }
)
"""What people call them."""

MOST_CLIPPED: Final = 0.5
"""Share of the body that a window may clip without a warning."""

LEAST_SSIM: Final = 0.9
"""SSIM inside the body of the worst slice, below which there is a warning."""

MOST_ERROR: Final = 0.25
"""Share of the window's width that no error in the body may exceed without a warning."""


def grey_scale(window: Window | None, peak: int, *, inverted: bool = False) -> GreyScale | None:
    """Return what luma means in HU, None where it is not linear in HU or no HU are known.

    Parameters
    ----------
    window : Window, optional
        What luma was made with; None where luma was given.
    peak : int
        Largest luma.
    inverted : bool
        Whether the lowest HU are shown white.
    """
    ends = None if window is None else linear_ends(window)
    if ends is None:
        return None
    low, high = ends
    scale = GreyScale(low, (high - low) / peak)
    return scale.negative(peak) if inverted else scale


@dataclass(frozen=True)
class TissueSummary:
    """Errors by tissue over the slices of a series.

    Parameters
    ----------
    unit : str
        Of errors: :data:`HU` or :data:`GREY_LEVELS`.
    span : float
        What lies between black and white, in that unit.
    errors : mapping of Area to ErrorSummary or None
        Errors of all slices together, None where an area is empty.
    ssim : mapping of Area to SliceSummary or None
        SSIM of the windows centred in an area, over the slices that have enough of it; None
        where none has.
    noise_kept : float, optional
        Variance of the decoded flat soft tissue over that of the source's.
    clipped_share : float, optional
        Share of the body's samples that the window clips.
    """

    unit: str
    span: float
    errors: Mapping[Area, ErrorSummary | None]
    ssim: Mapping[Area, SliceSummary | None]
    noise_kept: float | None
    clipped_share: float | None

    @classmethod
    def of(
        cls,
        counted: TissueErrors,
        ssim: Mapping[Area, Sequence[float | None]],
        scale: GreyScale | None,
    ) -> Self:
        """Return the summary of a series.

        Parameters
        ----------
        counted : TissueErrors
            Of all slices together.
        ssim : mapping of Area to sequence of float or None
            SSIM in an area of every slice, in their order.
        scale : GreyScale, optional
            What luma means.
        """
        peak = (counted.counts.shape[1] - 1) // 2
        found = {area: counted.errors(area) for area in Area}
        if scale is not None:
            step = scale.hu_per_level
            found = {area: one and one.scaled(step) for area, one in found.items()}
        return cls(
            unit=GREY_LEVELS if scale is None else HU,
            span=float(peak) if scale is None else peak * abs(scale.hu_per_level),
            errors=found,
            ssim={area: _over_slices(ssim[area]) for area in SSIM_AREAS},
            noise_kept=counted.noise_kept,
            clipped_share=counted.clipped_share,
        )

    def psnr(self, area: Area) -> float | None:
        """Return the PSNR of all slices together in an area, in decibels; None where it is empty.

        ``20 log10(span / RMSE)``, at most 100.
        """
        errors = self.errors[area]
        return None if errors is None else errors.psnr(self.span)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types, as docs/json.md describes them."""
        return {
            "unit": self.unit,
            "span": self.span,
            "errors": {area.value: self._errors(area) for area in Area},
            "noise_kept": self.noise_kept,
            "ssim": {area.value: (one and one.with_places()) for area, one in self.ssim.items()},
            "clipped_share": self.clipped_share,
        }

    def html(self) -> str:
        """Return the errors as a small table for notebooks."""
        rows = [
            (AREA_NAMES[area], f"{one.rmse:.1f}", f"{one.bias:+.1f}", f"{one.maximum:.0f}")
            for area, one in self.errors.items()
            if one is not None
        ]
        return html_table(f"Errors, {self.unit}", ("", "RMSE", "bias", "largest"), rows)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_dict` was made from."""
        return cls(
            unit=record["unit"],
            span=record["span"],
            errors={area: _read_errors(record["errors"][area.value]) for area in Area},
            ssim={area: _read_ssim(record["ssim"][area.value]) for area in SSIM_AREAS},
            noise_kept=record["noise_kept"],
            clipped_share=record["clipped_share"],
        )

    def _errors(self, area: Area) -> dict[str, float] | None:
        errors, psnr = self.errors[area], self.psnr(area)
        if errors is None or psnr is None:
            return None
        return {
            "samples": errors.samples,
            "rmse": errors.rmse,
            "bias": errors.bias,
            "p99": errors.p99,
            "max": errors.maximum,
            "psnr": psnr,
        }


def _over_slices(values: Sequence[float | None]) -> SliceSummary | None:
    known = {index: value for index, value in enumerate(values) if value is not None}
    return SliceSummary.of(known.values(), SSIM, numbers=[i + 1 for i in known]) if known else None


def _read_errors(record: Mapping[str, Any] | None) -> ErrorSummary | None:
    if record is None:
        return None
    return ErrorSummary(*(record[key] for key in ("samples", "rmse", "bias", "p99", "max")))


def _read_ssim(record: Mapping[str, Any] | None) -> SliceSummary | None:
    return None if record is None else SliceSummary.from_dict(record)


@dataclass(frozen=True, slots=True)
class QualityWarning:
    """What is wrong with an encode.

    Parameters
    ----------
    code : str
        For programs.
    text : str
        A sentence for people.
    """

    code: str
    text: str


UNLIKE_NEIGHBOURS: Final = "unlike_neighbours"
"""Code of the warning of slices that may be damaged."""

QUALITY_CODES: Final = frozenset(("window_clips_body", "low_ssim_in_body", "large_error"))
"""Codes of the warnings that follow from what was measured."""

WARNING_TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "window_clips_body": "the window clips more than half of the body",
        "low_ssim_in_body": f"SSIM inside the body below {LEAST_SSIM:g} in the worst slice",
        "large_error": "an error inside the body above a quarter of the window's width",
        UNLIKE_NEIGHBOURS: "slices unlike those around them, which may be damaged",
        MISSING: "missing slices",
        UNEVEN: "uneven steps between slices",
        REPEATED: "slices that lie where others lie",
    }
)
"""What warnings mean, by code."""


def quality_warnings(
    tissue: TissueSummary, window: Window | None = None
) -> tuple[QualityWarning, ...]:
    """Return what to warn of: much of the body clipped, a bad slice, a large error.

    Parameters
    ----------
    tissue : TissueSummary
        Errors by tissue.
    window : Window, optional
        What the frames were made with.
    """
    found = []
    width = tissue.span if window is None or tissue.unit != HU else window.width
    clipped, ssim, errors = tissue.clipped_share, tissue.ssim[Area.BODY], tissue.errors[Area.BODY]
    if clipped is not None and clipped > MOST_CLIPPED:
        found.append(
            QualityWarning(
                "window_clips_body",
                f"the window clips {100 * clipped:.0f} % of the body: its HU are lost there",
            )
        )
    if ssim is not None and ssim.worst < LEAST_SSIM:
        found.append(
            QualityWarning(
                "low_ssim_in_body",
                f"SSIM inside the body is {ssim.worst:.3f} in slice {ssim.worst_number}, the "
                f"worst: it is below {LEAST_SSIM:g}",
            )
        )
    if errors is not None and errors.maximum > MOST_ERROR * width:
        found.append(
            QualityWarning(
                "large_error",
                f"the largest error inside the body is {errors.maximum:.0f} {tissue.unit}, more "
                f"than a quarter of the {width:g} from black to white",
            )
        )
    return tuple(found)


def unlike_warnings(numbers: Sequence[int]) -> tuple[QualityWarning, ...]:
    """Return the warning of slices whose HU are implausible between those around them.

    Parameters
    ----------
    numbers : sequence of int
        Of these slices, from 1; empty if there are none.
    """
    if not numbers:
        return ()
    listed = ", ".join(map(str, numbers[:_MOST_LISTED]))
    more = f" and {len(numbers) - _MOST_LISTED} more" if len(numbers) > _MOST_LISTED else ""
    text = f"not like the slices around them, and perhaps damaged: slice {listed}{more}"
    return (QualityWarning(UNLIKE_NEIGHBOURS, text),)


def spacing_warnings(spacing: Spacing) -> tuple[QualityWarning, ...]:
    """Return the warnings of missing slices, uneven steps and slices in one place."""
    texts = dict(spacing.texts())
    if spacing.repeated:
        what = "slice lies" if spacing.repeated == 1 else "slices lie"
        texts[REPEATED] = (
            f"{spacing.repeated} {what} where another does: phases one behind another, or repeats"
        )
    return tuple(QualityWarning(code, text) for code, text in texts.items())


_MOST_LISTED: Final = 5
