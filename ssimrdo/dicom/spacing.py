"""Steps between slices: missing slices, and steps that are not even."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.errors import InputError

SAME_POSITION_MM: Final = 1e-3
"""Slices nearer to each other than this along the normal share a position."""

_GAP: Final = 1.5
"""How many usual steps a step takes from which on slices are missing in it."""

# A step is as usual within 5 %, or within what positions lose that are rounded to 0.1 mm.
_UNEVEN: Final = 0.05
_ROUNDING_MM: Final = 0.101
_MOST_UNEVEN: Final = 0.25

# Where more steps than this are wide, these are no gaps, but another step.
_MOST_GAPS: Final = 0.25
_MOST_LISTED: Final = 5


@dataclass(frozen=True, slots=True)
class Gap:
    """A step between slices in which others are missing.

    Parameters
    ----------
    after : int
        The slice before it, from 1.
    mm : float
        Its width.
    missing : int
        How many slices would fill it.
    """

    after: int
    mm: float
    missing: int


@dataclass(frozen=True, slots=True)
class Spacing:
    """The steps between the slices of a series, along their normal.

    Parameters
    ----------
    step_mm : float, optional
        The usual one, their median; None for fewer than two positions.
    smallest_mm, largest_mm : float, optional
        The extremes.
    gaps : tuple of Gap
        Where slices are missing.
    uneven : int
        How many other steps are not as usual.
    repeated : int
        Slices that share their position with one before them.
    """

    step_mm: float | None = None
    smallest_mm: float | None = None
    largest_mm: float | None = None
    gaps: tuple[Gap, ...] = ()
    uneven: int = 0
    repeated: int = 0

    @property
    def missing(self) -> int:
        """How many slices are missing."""
        return sum(gap.missing for gap in self.gaps)

    @property
    def regular(self) -> bool:
        """Whether no slice is missing and all steps are as usual."""
        return not (self.gaps or self.uneven)

    def texts(self) -> dict[str, str]:
        """Return what to warn of, a sentence by its code; empty where the steps are regular."""
        found = {}
        if self.gaps:
            listed = ", ".join(
                f"{gap.mm:.4g} mm after slice {gap.after}" for gap in self.gaps[:_MOST_LISTED]
            )
            more = len(self.gaps) - _MOST_LISTED
            listed += f" and {more} more" if more > 0 else ""
            noun = "slice is" if self.missing == 1 else "slices are"
            found[MISSING] = (
                f"{self.missing} {noun} missing: the step is {self.step_mm:.4g} mm, but {listed}"
            )
        if self.uneven:
            found[UNEVEN] = (
                f"the steps between slices differ: {self.smallest_mm:.4g} to "
                f"{self.largest_mm:.4g} mm, {self.step_mm:.4g} mm in the middle"
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "step_mm": self.step_mm,
            "smallest_mm": self.smallest_mm,
            "largest_mm": self.largest_mm,
            "regular": self.regular,
            "missing": self.missing,
            "gaps": [
                {"after": gap.after, "mm": gap.mm, "missing": gap.missing} for gap in self.gaps
            ],
            "uneven": self.uneven,
            "repeated": self.repeated,
        }


MISSING: Final = "missing_slices"
UNEVEN: Final = "uneven_spacing"
REPEATED: Final = "repeated_positions"


def spacing_of(along_mm: Sequence[float] | None) -> Spacing:
    """Return the steps between slices.

    Parameters
    ----------
    along_mm : sequence of float, optional
        Position of every slice along their normal, in any order; None where it is not known.
    """
    if along_mm is None or len(along_mm) < 2:
        return Spacing()
    along = np.asarray(along_mm, np.float64)
    ordered = np.sort(along if along[0] <= along[-1] else -along)
    steps = np.diff(ordered)
    is_step = steps > SAME_POSITION_MM
    after = np.flatnonzero(is_step) + 1
    steps = steps[is_step]
    repeated = int(is_step.size - steps.size)
    if not steps.size:
        return Spacing(repeated=repeated)
    usual = median(steps)
    wide = steps > _GAP * usual
    if wide.sum() > max(1, _MOST_GAPS * steps.size):
        wide[:] = False
    allowed = min(max(_UNEVEN * usual, _ROUNDING_MM), _MOST_UNEVEN * usual)
    uneven = ~wide & (np.abs(steps - usual) > allowed)
    return Spacing(
        step_mm=_rounded(usual),
        smallest_mm=_rounded(steps.min()),
        largest_mm=_rounded(steps.max()),
        gaps=tuple(_gap(after, steps, int(index), usual) for index in np.flatnonzero(wide)),
        uneven=int(uneven.sum()),
        repeated=repeated,
    )


def median(values: NDArray[np.float64]) -> float:
    """Return the median of one or more numbers.

    NumPy's own imports what takes longer than reading ten headers.
    """
    in_order, half = np.sort(values), values.size // 2
    return float(in_order[half] + in_order[~half]) / 2


def check_regular(spacing: Spacing, name: str) -> None:
    """Refuse a series of which slices are missing, or whose steps differ.

    Parameters
    ----------
    spacing : Spacing
        Of the series.
    name : str
        What the message calls it.

    Raises
    ------
    InputError
        If it is not regular.
    """
    for text in spacing.texts().values():
        raise InputError(
            f"{name}: {text}", remedy="look for the slices, or take it as it is without {strict}"
        )


def _gap(after: NDArray[Any], steps: NDArray[Any], index: int, usual: float) -> Gap:
    step = float(steps[index])
    return Gap(int(after[index]), _rounded(step), max(round(step / usual) - 1, 1))


def _rounded(mm: float) -> float:
    return round(float(mm), 6)
