"""Curves of rate over quality against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ssimrdo.bd.deltas import (
    EvaluationError,
    RateQuality,
    bjontegaard,
    rate_difference,
    ssim_db,
)
from ssimrdo.comparison.results import Curve, CurveDelta
from ssimrdo.metrics import QualityIndex


@dataclass(frozen=True)
class Delta:
    """What curves are compared by.

    Parameters
    ----------
    name : str
        Key in JSON.
    index : QualityIndex
        Which index, by its mean over slices.
    in_db : bool
        Whether by ``-10 log10(1 - q)`` of it.
    """

    name: str
    index: QualityIndex
    in_db: bool = False

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.in_db else self.index.sign

    def qualities(self, points: Curve) -> list[float]:
        """Return the quality of some encodes, turned so that more is better."""
        means = [point.quality[self.index.name].mean for point in points]
        return [float(ssim_db(mean)) if self.in_db else self.sign * mean for mean in means]


def deltas_of(indices: Sequence[QualityIndex]) -> list[Delta]:
    """Return what curves are compared by: the indices, and behind them those in dB."""
    in_db = [Delta(f"{index.name}_db", index, True) for index in indices if index.in_db]
    return [*(Delta(index.name, index) for index in indices), *in_db]


def curve_delta(
    reference: Curve,
    curve: Curve,
    qualities: tuple[Sequence[float], Sequence[float]],
    *,
    sign: int = 1,
) -> CurveDelta:
    """Return one encoder's curve against another's.

    Parameters
    ----------
    reference, curve : tuple of RatePoint
        The encodes.
    qualities : pair of sequences of float
        Their qualities, more is better.
    sign : int
        -1 where qualities are turned.
    """
    try:
        anchor, test = (
            RateQuality([point.kbps for point in points], values)
            for points, values in zip((reference, curve), qualities, strict=True)
        )
    except EvaluationError as error:
        return CurveDelta(None, None, None, None, reason=str(error))
    result = bjontegaard(anchor, test)
    return CurveDelta(
        rate_percent=finite_or_none(result.rate_percent),
        rate_kbps=finite_or_none(rate_difference(anchor, test)),
        quality=finite_or_none(sign * result.quality),
        overlap=finite_or_none(result.overlap_quality),
        reason=result.reason,
        warnings=tuple(result.warnings),
    )


def finite_or_none(value: float) -> float | None:
    """Return a number as JSON has it: None for what is undefined."""
    return value if math.isfinite(value) else None
