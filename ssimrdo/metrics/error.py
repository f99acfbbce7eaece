"""Measures of plain error: PSNR, mean squared error and the largest error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics import kernels
from ssimrdo.metrics.inputs import check_pair, check_range, contiguous
from ssimrdo.metrics.registry import (
    LOG_MSE_PER_QP,
    FramePair,
    QualityIndex,
    register,
    truncated_log,
)

PSNR_CEILING_DB = 100.0
"""PSNR reported for frames that agree in every sample, in decibels."""


def psnr_db(x: NDArray[Any], y: NDArray[Any], *, data_range: float = 255) -> float:
    """Return the PSNR of two frames of one shape in decibels, ``10 log10(L² / MSE)``.

    Frames that agree in every sample get :data:`PSNR_CEILING_DB`.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames.
    data_range : float
        L: 255 for 8 bit, 1023 for 10 bit, the width of the window for HU.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, or have NaN or infinities, or the
        data range is not above 0.
    """
    check_range(data_range, title="PSNR")
    squared = _mean_squared_error(x, y, "PSNR")
    if squared == 0:
        return PSNR_CEILING_DB
    return min(10 * math.log10(data_range**2 / squared), PSNR_CEILING_DB)


def mse(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the mean squared error of two frames, ``mean((x - y)²)``.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames; the result is in the square of their unit.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, or have NaN or infinities.
    """
    return _mean_squared_error(x, y, "MSE")


def max_error(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the largest error of any sample, ``max |x - y|``.

    Parameters
    ----------
    x, y : ndarray of shape (rows, columns), any real dtype
        Frames; the result is in their unit.

    Raises
    ------
    ValueError
        If the frames differ in shape, are not two-dimensional, or have NaN or infinities.
    """
    check_pair(x, y, title="the largest error")
    return float(kernels.largest_error(contiguous(x), contiguous(y)))


def _mean_squared_error(x: NDArray[Any], y: NDArray[Any], title: str) -> float:
    check_pair(x, y, title=title)
    return float(kernels.mean_squared_error(contiguous(x), contiguous(y)))


def _psnr(pair: FramePair) -> float:
    return psnr_db(pair.source, pair.shown, data_range=pair.format.peak)


def _mse(pair: FramePair) -> float:
    return mse(pair.source, pair.shown)


def _max_error(pair: FramePair) -> float:
    return max_error(pair.source, pair.shown)


def _absolute_error(pair: FramePair) -> NDArray[np.float32]:
    return np.asarray(np.abs(pair.source.astype(np.float32) - pair.shown), np.float32)


def _squared_error(pair: FramePair) -> NDArray[np.float32]:
    difference = pair.source.astype(np.float32) - pair.shown
    return np.asarray(difference * difference, np.float32)


def _log_of_db(value: float | NDArray[Any]) -> Any:
    return np.multiply(value, -math.log(10) / 10)


PSNR = register(
    QualityIndex(
        "psnr",
        "PSNR",
        _psnr,
        _squared_error,
        unit="dB",
        decimals=2,
        everyday=True,
        high=PSNR_CEILING_DB,
        log_loss=_log_of_db,
        loss_per_qp=LOG_MSE_PER_QP,
    )
)
MSE = register(
    QualityIndex(
        "mse",
        "MSE",
        _mse,
        _squared_error,
        unit="levels²",
        higher_is_better=False,
        decimals=3,
        high=math.inf,
        special=True,
        log_loss=truncated_log,
    )
)
MAX_ERROR = register(
    QualityIndex(
        "max_error",
        "Largest error",
        _max_error,
        _absolute_error,
        unit="levels",
        higher_is_better=False,
        decimals=0,
        high=math.inf,
        special=True,
        log_loss=truncated_log,
        # In proportion to the error, not to its square.
        loss_per_qp=LOG_MSE_PER_QP / 2,
    )
)
