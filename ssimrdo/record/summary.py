"""A quality index over the slices of a series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from ssimrdo.metrics import QualityIndex

EXEMPT_SHARE: Final = 0.05
"""Share of the slices that may be worse than a 5th percentile."""


@dataclass(frozen=True, slots=True)
class SliceSummary:
    """A quality index over the slices of a series.

    Parameters
    ----------
    mean : float
        Mean over slices.
    worst : float
        Value of the worst slice.
    higher_is_better : bool
        Direction of the index.
    p5 : float, optional
        What 95 % of the slices keep: no more than 5 % of them are worse.
    worst_number : int, optional
        Which slice is the worst, from 1; of several the first.
    """

    mean: float
    worst: float
    higher_is_better: bool = True
    p5: float | None = None
    worst_number: int | None = None

    @classmethod
    def of(
        cls, values: Iterable[float], index: QualityIndex, numbers: Sequence[int] | None = None
    ) -> Self:
        """Return the summary of one or more values.

        Parameters
        ----------
        values : iterable of float
            The index of each slice.
        index : QualityIndex
            Which it is.
        numbers : sequence of int, optional
            Which slices they are of, from 1; of all by default.
        """
        found = list(values)
        worst = index.worst(found)
        place = found.index(worst)
        # From the worst on.
        ranked = sorted(found, reverse=not index.higher_is_better)
        return cls(
            sum(found) / len(found),
            worst,
            index.higher_is_better,
            ranked[int(EXEMPT_SHARE * len(found))],
            place + 1 if numbers is None else numbers[place],
        )

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_dict` or :meth:`with_places` was made from."""
        higher_is_better = "min" in record
        worst = record["min" if higher_is_better else "max"]
        number = record.get("worst_slice_number")
        return cls(record["mean"], worst, higher_is_better, record.get("p5"), number)

    @property
    def min(self) -> float:
        """The worst slice's value where higher is better."""
        if not self.higher_is_better:
            raise AttributeError("lower is better here: see worst")
        return self.worst

    def as_dict(self) -> dict[str, float]:
        """Return the summary as JSON types: ``mean``, and ``min`` or ``max`` for the worst."""
        return {"mean": self.mean, "min" if self.higher_is_better else "max": self.worst}

    def with_places(self) -> dict[str, float | None]:
        """Return what :meth:`as_dict` does, with ``worst_slice_number`` and ``p5`` besides."""
        return {**self.as_dict(), "worst_slice_number": self.worst_number, "p5": self.p5}
