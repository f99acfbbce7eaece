"""The smallest encode whose slices keep a quality: one CRF for all of them, then shifts for each.

The logarithm of an index's loss is close to a straight line over CRF, such as that of
``1/SSIM - 1``, as ``1/SSIM - 1 ∝ MSE ∝ 2^(QP / 3)``. The search interpolates on it. CRF stands for
a number on the codec's quality scale, whatever the codec calls it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.base import QualityScale
from ssimrdo.errors import InputError
from ssimrdo.metrics import QualityIndex

MAX_CRF_ENCODES: Final = 8
MAX_FLOOR_ENCODES: Final = 8

SLACK: Final = 0.05
"""Quality above the goal that is as good as none, as the CRF that it is worth."""

MARGIN: Final = 0.2
"""By how much more than estimated a slice is raised, in steps of the scale; encodes scatter that
much. It grows by a quarter with each encode, because one of many slices often falls short by
chance."""

WORTHWHILE: Final = 0.995
"""Share of the bytes that one more encode has to come below for another one to follow."""

RAISED_SHARE: Final = 0.9
"""Share of the slices that are raised: the CRF of all is that which suffices for the others."""

MAX_RISE: Final = 6.0
"""The CRF of a file with raised slices is at most this far above the one that needs none; further
apart, slices that are raised lose what those they refer to no longer have."""

EXEMPT_SHARE: Final = {"worst": 0.0, "p5": 0.05}
"""Share of the slices that may be worse than the goal; a mean has no floor."""


@dataclass(frozen=True)
class Goal:
    """What the search is after.

    Parameters
    ----------
    index : QualityIndex
        What is to be kept.
    value : float
        How much of it.
    over : {"worst", "mean", "p5"}
        Over slices: the worst one, the mean, or what 95 % of them keep.
    scale : QualityScale
        What is searched.
    option : str
        The option that asks for it, which errors name.
    """

    index: QualityIndex
    value: float
    over: str
    scale: QualityScale
    option: str = "min"

    @property
    def slope(self) -> float:
        """Slope of the logarithm of the loss over the scale, in theory."""
        return self.index.loss_per_qp * self.scale.qp_per_step

    @property
    def title(self) -> str:
        """What the value is of, in words."""
        name = self.index.title
        return {
            "worst": f"worst slice's {name}",
            "mean": f"mean {name}",
            "p5": f"{name} that 95 % of the slices keep",
        }[self.over]

    def quality(self, values: NDArray[Any]) -> float:
        """Return the value over slices that the goal looks at."""
        if self.over == "mean":
            return float(values.mean())
        ranked = np.sort(values * self.index.sign)
        return float(ranked[exempt_slices(len(values), self.over)]) * self.index.sign

    def reached(self, value: float) -> bool:
        """Tell whether a value over slices is as good as asked for."""
        return value * self.index.sign >= self.value * self.index.sign

    def log_loss(self, values: NDArray[Any] | float) -> Any:
        """Return the logarithm of the loss, which grows with the scale."""
        return self.index.log_loss(values)

    def rounded(self, crf: float) -> float:
        """Return the nearest number that the scale takes."""
        low, high, step = self.scale.low, self.scale.high, self.scale.step
        if not low < crf < high:
            return min(max(crf, low), high)
        digits = max(0, math.ceil(-math.log10(step))) + 1
        # Steps count from the low end, which the scale takes, as the codec may round between them.
        return round(min(low + round((crf - low) / step) * step, high), digits)


@dataclass(frozen=True)
class Trial:
    """One encode of the search.

    Parameters
    ----------
    crf : float
        CRF of all slices.
    shifts : ndarray of shape (slices,), optional
        What was added to the quantizer of each slice, in steps of the scale.
    values : ndarray of shape (slices,)
        Quality of each slice.
    payload_bytes : int
        Size of the video without its container.
    """

    crf: float
    shifts: NDArray[np.float64] | None
    values: NDArray[np.float64]
    payload_bytes: int

    @property
    def raised(self) -> int:
        """Number of slices with a finer quantizer than the CRF gives."""
        return 0 if self.shifts is None else int((self.shifts < 0).sum())


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Parameters
    ----------
    best : Trial
        The smallest encode that reaches the goal.
    plain : Trial
        The one that does so with a CRF alone.
    encodes : int
        How many it took.
    """

    best: Trial
    plain: Trial
    encodes: int


Encode = Callable[[float, "NDArray[np.float64] | None", int], Trial]
"""Encodes at a CRF with shifts per slice; the number tells how many encodes may be left."""


def find_smallest(encode: Encode, goal: Goal, *, may_raise: bool = True) -> Found:
    """Return the smallest encode that reaches a quality.

    Parameters
    ----------
    encode : callable
        See :data:`Encode`.
    goal : Goal
        What is to be kept.
    may_raise : bool
        Whether slices can be given quantizers of their own.

    Raises
    ------
    InputError
        If not even the lowest CRF reaches it, or a higher one is better.
    """
    if goal.scale.qp_per_step < 0:
        raise InputError(
            "there is no search on a scale whose higher numbers are better",
            field=goal.option,
            remedy="give a {crf}",
        )
    raises = may_raise and goal.over in EXEMPT_SHARE
    most_after = MAX_FLOOR_ENCODES if raises else 0
    trials: list[Trial] = []
    crf: float | None = goal.scale.default
    while crf is not None and len(trials) < MAX_CRF_ENCODES:
        trials.append(encode(crf, None, MAX_CRF_ENCODES - len(trials) + most_after))
        crf = next_crf([(trial.crf, goal.quality(trial.values)) for trial in trials], goal)
    reaching = [trial for trial in trials if goal.reached(goal.quality(trial.values))]
    if not reaching:
        raise _out_of_reach(trials, goal)
    plain = min(reaching, key=lambda trial: trial.payload_bytes)
    raised = _raise_slices(encode, trials, plain, goal) if raises else []
    reaching = [plain, *(trial for trial in raised if goal.reached(goal.quality(trial.values)))]
    best = min(reaching, key=lambda trial: trial.payload_bytes)
    return Found(best, plain, len(trials) + len(raised))


def _out_of_reach(trials: Sequence[Trial], goal: Goal) -> InputError:
    qualities = [goal.quality(trial.values) for trial in trials]
    best = max(qualities, key=lambda value: value * goal.index.sign)
    return InputError(
        f"{goal.index.title} {goal.value:g} cannot be reached: the {goal.title} is "
        f"{best:.{goal.index.decimals + 1}f} at CRF {goal.scale.low:g}, the lowest",
        field=goal.option,
        remedy="ask for less",
    )


def exempt_slices(slices: int, over: str) -> int:
    """Return how many slices may be worse than a floor: never more than their share."""
    return int(EXEMPT_SHARE[over] * slices)


def next_crf(points: Sequence[tuple[float, float]], goal: Goal) -> float | None:
    """Return the CRF to try next, or None where the search is over.

    Parameters
    ----------
    points : sequence of (float, float)
        CRFs tried and the quality that each gave, at least one.
    goal : Goal
        What is to be kept.

    Returns
    -------
    float or None
        On the scale. None once the highest CRF that keeps the goal is within :data:`SLACK` or a
        step, or where the goal lies beyond the scale.
    """
    slope, least = goal.slope, max(2 * SLACK, goal.scale.step)
    reaching = [point for point in points if goal.reached(point[1])]
    low = max(reaching, default=None)
    high = min(
        (p for p in points if not goal.reached(p[1]) and (low is None or p > low)), default=None
    )
    wanted = float(goal.log_loss(goal.value)) - slope * SLACK / 2
    if low is not None and wanted - goal.log_loss(low[1]) <= slope * SLACK / 2:
        return None
    if low is not None and high is not None:
        width = high[0] - low[0]
        # Steps are rounded, so neighbours are not exactly one apart.
        if width <= max(2 * SLACK, 1.5 * goal.scale.step):
            return None
        below, above = float(goal.log_loss(low[1])), float(goal.log_loss(high[1]))
        share = (wanted - below) / (above - below)
        # Near an end of the range, a step that does not count on the line being straight.
        between = low[0] + min(max(share, 0.1), 0.9) * width
        # A coarse scale would round to an end.
        return goal.rounded(min(max(between, low[0] + goal.scale.step), high[0] - goal.scale.step))
    near = low or high
    assert near is not None, "there is a point"
    if near[0] == (goal.scale.low if low is None else goal.scale.high):
        return None
    step = (wanted - float(goal.log_loss(near[1]))) / _slope_at(near, points, goal)
    if low is None:
        give_up_guessing = len(points) >= MAX_CRF_ENCODES // 2
        step = -math.inf if give_up_guessing else min(step, -least)
    else:
        step = max(step, least)
    return goal.rounded(near[0] + step)


def _slope_at(
    near: tuple[float, float], points: Sequence[tuple[float, float]], goal: Goal
) -> float:
    others = [point for point in points if point[0] != near[0]]
    if not others:
        return goal.slope
    other = min(others, key=lambda point: abs(point[0] - near[0]))
    rise = float(goal.log_loss(near[1]) - goal.log_loss(other[1]))
    return float(_plausible(rise / (near[0] - other[0]), goal))


def _plausible(slope: Any, goal: Goal) -> Any:
    return np.clip(slope, goal.slope / 3, goal.slope * 2)


def needed_crfs(
    crfs: NDArray[Any], values: NDArray[Any], goal: Goal
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the CRF at which each slice would have the goal's quality.

    Parameters
    ----------
    crfs : ndarray of shape (encodes,)
        CRFs that were tried, all different.
    values : ndarray of shape (encodes, slices)
        Quality of the slices at each.
    goal : Goal
        What is to be kept.

    Returns
    -------
    needed : ndarray of shape (slices,)
        CRFs, which may lie outside the scale.
    slopes : ndarray of shape (slices,)
        Slope of the logarithm of the loss over CRF there.
    """
    order = np.argsort(crfs)
    crfs, errors = np.asarray(crfs, float)[order], goal.log_loss(values[order])
    wanted = goal.log_loss(goal.value)
    if len(crfs) == 1:
        slopes = np.full(errors.shape[1], goal.slope)
        return crfs[0] + (wanted - errors[0]) / slopes, slopes
    upper = np.clip((errors < wanted).sum(axis=0), 1, len(crfs) - 1)
    columns = np.arange(errors.shape[1])
    rise = errors[upper, columns] - errors[upper - 1, columns]
    slopes = _plausible(rise / (crfs[upper] - crfs[upper - 1]), goal)
    nearer = np.argmin(np.abs(errors - wanted), axis=0)
    return crfs[nearer] + (wanted - errors[nearer, columns]) / slopes, slopes


def corrected_shifts(
    shifts: NDArray[Any],
    spare: NDArray[Any],
    exempt: int,
    margin: float = MARGIN,
    most: float = math.inf,
) -> NDArray[np.float64]:
    """Return better shifts: finer for slices below the goal, coarser for those far above.

    Parameters
    ----------
    shifts : ndarray of shape (slices,)
        Shifts of the last encode, at most 0.
    spare : ndarray of shape (slices,)
        By how many steps of the scale each slice is above the goal; negative below it.
    exempt : int
        How many of the lowest slices may stay below.
    margin : float
        How far above the goal slices are brought that are not half as far, in steps.
    most : float
        How far a slice may be shifted.
    """
    finer = shifts + spare - margin
    lowest = np.argsort(spare)[:exempt]
    finer[lowest] = shifts[lowest]
    # Half of what could be given back, because slices share their references.
    coarser = np.minimum(0, shifts + (spare - 2 * margin) / 2)
    corrected = np.where(spare < margin / 2, finer, np.where(spare > 3 * margin, coarser, shifts))
    return np.maximum(corrected, -most)


def _raise_slices(encode: Encode, trials: Sequence[Trial], plain: Trial, goal: Goal) -> list[Trial]:
    """Encode at a higher CRF with those slices raised that need it, until that saves no more."""
    values = np.array([trial.values for trial in trials])
    needed, slopes = needed_crfs(np.array([trial.crf for trial in trials]), values, goal)
    exempt = exempt_slices(len(needed), goal.over)
    needed = np.maximum(needed, np.sort(needed)[exempt])
    enough = float(np.quantile(needed, RAISED_SHARE))
    crf = goal.rounded(min(enough, plain.crf + MAX_RISE))
    if crf - plain.crf <= 2 * SLACK:
        return []
    shifts = np.minimum(0, needed - MARGIN - crf)
    raised: list[Trial] = []
    smallest: float = math.inf
    while len(raised) < MAX_FLOOR_ENCODES:
        trial = encode(crf, shifts, MAX_FLOOR_ENCODES - len(raised))
        raised.append(trial)
        reached = goal.reached(goal.quality(trial.values))
        # Once the goal is reached, each further encode has to pay.
        if smallest < math.inf and not (reached and trial.payload_bytes < WORTHWHILE * smallest):
            break
        if reached:
            smallest = trial.payload_bytes
        spare = (goal.log_loss(goal.value) - goal.log_loss(trial.values)) / slopes
        margin = MARGIN * (3 + len(raised)) / 4
        corrected = corrected_shifts(shifts, spare, exempt, margin, goal.scale.high)
        # Slices that share references move each other; giving nothing back any more ends that.
        settling = len(raised) > MAX_FLOOR_ENCODES // 2
        shifts = np.minimum(shifts, corrected) if settling else corrected
    return raised
