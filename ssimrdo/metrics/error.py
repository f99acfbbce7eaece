"""Measures of plain error: PSNR."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.metrics import kernels
from ssimrdo.metrics.registry import LOG_MSE_PER_QP, FramePair, QualityIndex, register

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
        If the frames differ in shape or are not two-dimensional.
    """
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"PSNR takes two frames of one shape: got {x.shape} and {y.shape}")
    mse = float(kernels.mean_squared_error(np.ascontiguousarray(x), np.ascontiguousarray(y)))
    if mse == 0:
        return PSNR_CEILING_DB
    return min(10 * math.log10(data_range**2 / mse), PSNR_CEILING_DB)


def _psnr(pair: FramePair) -> float:
    return psnr_db(pair.source, pair.shown, data_range=pair.format.peak)


def _squared_error(pair: FramePair) -> NDArray[np.float32]:
    difference = pair.source.astype(np.float32) - pair.shown
    return np.asarray(difference * difference, np.float32)


def _log_mse(value: float | NDArray[Any]) -> Any:
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
        log_loss=_log_mse,
        loss_per_qp=LOG_MSE_PER_QP,
    )
)
