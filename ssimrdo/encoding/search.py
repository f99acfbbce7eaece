"""The smallest encode whose slices keep an SSIM: one CRF for all of them, then offsets for each.

The model behind the offsets says ``1/SSIM - 1 ∝ MSE ∝ 2^(QP / 3)``, so the logarithm of
``1/SSIM - 1`` is close to a straight line over CRF. The search interpolates on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo import defaults
from ssimrdo.encoding.settings import MAX_QP, MIN_CRF
from ssimrdo.errors import InputError

MAX_CRF: Final = float(MAX_QP)

MAX_CRF_ENCODES: Final = 8
MAX_FLOOR_ENCODES: Final = 8

SLACK: Final = 0.05
"""Quality above the goal that is as good as none, as the CRF that it is worth."""

MARGIN: Final = 0.2
"""By how much more than estimated a slice is raised, in QP steps; encodes scatter that much. It
grows by a quarter with each encode, because one of many slices often falls short by chance."""

WORTHWHILE: Final = 0.995
"""Share of the bytes that one more encode has to come below for another one to follow."""

RAISED_SHARE: Final = 0.9
"""Share of the slices that are raised: the CRF of all is that which suffices for the others."""

MAX_RISE: Final = 6.0
"""The CRF of a file with raised slices is at most this far above the one that needs none; further
apart, slices that are raised lose what those they refer to no longer have."""

THEORETICAL_SLOPE: Final = math.log(2) / 3
"""Of :func:`log_error` over CRF."""

EXEMPT_SHARE: Final = {"worst": 0.0, "p5": 0.05}
"""Share of the slices that may lie below the goal, by target; a mean has no floor."""


@dataclass(frozen=True)
class Trial:
    """One encode of the search.

    Parameters
    ----------
    crf : float
        CRF of all slices.
    offsets : ndarray of shape (slices,), optional
        What was added to all quantizer offsets of each slice, in QP steps.
    ssim : ndarray of shape (slices,)
        SSIM per slice.
    payload_bytes : int
        Size of the video without its container.
    """

    crf: float
    offsets: NDArray[np.float64] | None
    ssim: NDArray[np.float64]
    payload_bytes: int

    @property
    def raised(self) -> int:
        """Number of slices with a finer quantizer than the CRF gives."""
        return 0 if self.offsets is None else int((self.offsets < 0).sum())


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
"""Encodes at a CRF with offsets per slice; the number tells how many encodes may be left."""


def find_smallest(encode: Encode, goal: float, target: str) -> Found:
    """Return the smallest encode that reaches a quality.

    Parameters
    ----------
    encode : callable
        See :data:`Encode`.
    goal : float
        SSIM to keep, between 0 and 1.
    target : {"worst", "mean", "p5"}
        Which SSIM: that of the worst slice, the mean or the 5th percentile over slices.

    Raises
    ------
    InputError
        If not even the lowest CRF reaches it.
    """
    has_floor = target in EXEMPT_SHARE
    most_after = MAX_FLOOR_ENCODES if has_floor else 0
    trials: list[Trial] = []
    crf: float | None = defaults.CRF
    while crf is not None and len(trials) < MAX_CRF_ENCODES:
        trials.append(encode(crf, None, MAX_CRF_ENCODES - len(trials) + most_after))
        crf = next_crf([(trial.crf, quality(trial.ssim, target)) for trial in trials], goal)
    reaching = [trial for trial in trials if quality(trial.ssim, target) >= goal]
    if not reaching:
        best = max(quality(trial.ssim, target) for trial in trials)
        raise InputError(
            f"--min-ssim {goal} cannot be reached: the {_NAMES[target]} is {best:.5f} at "
            f"CRF {MIN_CRF:g}, the lowest: ask for less"
        )
    plain = min(reaching, key=lambda trial: trial.payload_bytes)
    raised = _raise_slices(encode, trials, plain, goal, target) if has_floor else []
    reaching = [plain, *(trial for trial in raised if quality(trial.ssim, target) >= goal)]
    best_trial = min(reaching, key=lambda trial: trial.payload_bytes)
    return Found(best_trial, plain, len(trials) + len(raised))


_NAMES = {
    "worst": "worst slice's SSIM",
    "mean": "mean SSIM",
    "p5": "SSIM that 95 % of the slices keep",
}


def quality(ssim: NDArray[Any], target: str) -> float:
    """Return the SSIM that a target looks at."""
    if target == "mean":
        return float(ssim.mean())
    return float(np.sort(ssim)[exempt_slices(len(ssim), target)])


def exempt_slices(slices: int, target: str) -> int:
    """Return how many slices may lie below a floor: never more than their share."""
    return int(EXEMPT_SHARE[target] * slices)


def log_error(ssim: NDArray[Any] | float) -> Any:
    """Return ``ln(1/SSIM - 1)``, which grows nearly in proportion to CRF."""
    return np.log(1 / np.clip(ssim, 1e-6, 1 - 1e-9) - 1)


def next_crf(points: Sequence[tuple[float, float]], goal: float) -> float | None:
    """Return the CRF to try next, or None where the search is over.

    Parameters
    ----------
    points : sequence of (float, float)
        CRFs tried and the quality that each gave, at least one.
    goal : float
        Quality to keep.

    Returns
    -------
    float or None
        In steps of 0.01. None once the highest CRF that keeps the goal is within :data:`SLACK`,
        or where the goal lies beyond the range of CRFs.
    """
    reaching = [point for point in points if point[1] >= goal]
    low = max(reaching, default=None)
    high = min((p for p in points if p[1] < goal and (low is None or p > low)), default=None)
    wanted = float(log_error(goal)) - THEORETICAL_SLOPE * SLACK / 2
    if low is not None and wanted - log_error(low[1]) <= THEORETICAL_SLOPE * SLACK / 2:
        return None
    if low is not None and high is not None:
        width = high[0] - low[0]
        if width <= 2 * SLACK:
            return None
        below, above = float(log_error(low[1])), float(log_error(high[1]))
        share = (wanted - below) / (above - below)
        # Near an end of the range, a step that does not count on the line being straight.
        return round(low[0] + min(max(share, 0.1), 0.9) * width, 2)
    near = low or high
    assert near is not None, "there is a point"
    if near[0] == (MIN_CRF if low is None else MAX_CRF):
        return None
    step = (wanted - float(log_error(near[1]))) / _slope_at(near, points)
    if low is None:
        give_up_guessing = len(points) >= MAX_CRF_ENCODES // 2
        step = -math.inf if give_up_guessing else min(step, -2 * SLACK)
    else:
        step = max(step, 2 * SLACK)
    return round(min(max(near[0] + step, MIN_CRF), MAX_CRF), 2)


def _slope_at(near: tuple[float, float], points: Sequence[tuple[float, float]]) -> float:
    others = [point for point in points if point[0] != near[0]]
    if not others:
        return THEORETICAL_SLOPE
    other = min(others, key=lambda point: abs(point[0] - near[0]))
    rise = float(log_error(near[1]) - log_error(other[1]))
    return float(_plausible(rise / (near[0] - other[0])))


def _plausible(slope: Any) -> Any:
    return np.clip(slope, THEORETICAL_SLOPE / 3, THEORETICAL_SLOPE * 2)


def needed_crfs(
    crfs: NDArray[Any], ssim: NDArray[Any], goal: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the CRF at which each slice would have the goal's SSIM.

    Parameters
    ----------
    crfs : ndarray of shape (encodes,)
        CRFs that were tried, all different.
    ssim : ndarray of shape (encodes, slices)
        SSIM of the slices at each.
    goal : float
        SSIM to have.

    Returns
    -------
    needed : ndarray of shape (slices,)
        CRFs, which may lie outside x264's range.
    slopes : ndarray of shape (slices,)
        Slope of :func:`log_error` over CRF there.
    """
    order = np.argsort(crfs)
    crfs, errors = np.asarray(crfs, float)[order], log_error(ssim[order])
    wanted = log_error(goal)
    if len(crfs) == 1:
        slopes = np.full(errors.shape[1], THEORETICAL_SLOPE)
        return crfs[0] + (wanted - errors[0]) / slopes, slopes
    upper = np.clip((errors < wanted).sum(axis=0), 1, len(crfs) - 1)
    columns = np.arange(errors.shape[1])
    rise = errors[upper, columns] - errors[upper - 1, columns]
    slopes = _plausible(rise / (crfs[upper] - crfs[upper - 1]))
    nearer = np.argmin(np.abs(errors - wanted), axis=0)
    return crfs[nearer] + (wanted - errors[nearer, columns]) / slopes, slopes


def corrected_offsets(
    offsets: NDArray[Any], spare: NDArray[Any], exempt: int, margin: float = MARGIN
) -> NDArray[np.float64]:
    """Return better offsets: finer for slices below the goal, coarser for those far above.

    Parameters
    ----------
    offsets : ndarray of shape (slices,)
        Offsets of the last encode, at most 0.
    spare : ndarray of shape (slices,)
        By how many QP steps each slice is above the goal; negative below it.
    exempt : int
        How many of the lowest slices may stay below.
    margin : float
        How far above the goal slices are brought that are not half as far, in QP steps.
    """
    finer = offsets + spare - margin
    lowest = np.argsort(spare)[:exempt]
    finer[lowest] = offsets[lowest]
    # Half of what could be given back, because slices share their references.
    coarser = np.minimum(0, offsets + (spare - 2 * margin) / 2)
    corrected = np.where(spare < margin / 2, finer, np.where(spare > 3 * margin, coarser, offsets))
    return np.maximum(corrected, -MAX_CRF)


def _raise_slices(
    encode: Encode, trials: Sequence[Trial], plain: Trial, goal: float, target: str
) -> list[Trial]:
    """Encode at a higher CRF with those slices raised that need it, until that saves no more."""
    ssim = np.array([trial.ssim for trial in trials])
    needed, slopes = needed_crfs(np.array([trial.crf for trial in trials]), ssim, goal)
    exempt = exempt_slices(len(needed), target)
    needed = np.maximum(needed, np.sort(needed)[exempt])
    enough = float(np.quantile(needed, RAISED_SHARE))
    crf = round(min(enough, plain.crf + MAX_RISE, MAX_CRF), 2)
    if crf - plain.crf <= 2 * SLACK:
        return []
    offsets = np.minimum(0, needed - MARGIN - crf)
    raised: list[Trial] = []
    smallest: float = math.inf
    while len(raised) < MAX_FLOOR_ENCODES:
        trial = encode(crf, offsets, MAX_FLOOR_ENCODES - len(raised))
        raised.append(trial)
        reached = quality(trial.ssim, target) >= goal
        # Once the goal is reached, each further encode has to pay.
        if smallest < math.inf and not (reached and trial.payload_bytes < WORTHWHILE * smallest):
            break
        if reached:
            smallest = trial.payload_bytes
        spare = (log_error(goal) - log_error(trial.ssim)) / slopes
        margin = MARGIN * (3 + len(raised)) / 4
        corrected = corrected_offsets(offsets, spare, exempt, margin)
        # Slices that share references move each other; giving nothing back any more ends that.
        settling = len(raised) > MAX_FLOOR_ENCODES // 2
        offsets = np.minimum(offsets, corrected) if settling else corrected
    return raised
