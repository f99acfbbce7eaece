"""Root mean square error: an index of which less is better."""

import math

import numpy as np

from ssimrdo import metrics


def error_of(pair):
    return float(np.sqrt(np.mean(squares_of(pair), dtype=float)))


def squares_of(pair):
    return (pair.source.astype(np.float32) - pair.shown) ** 2


RMS_ERROR = metrics.register(
    metrics.QualityIndex(
        "rms_error",
        "RMS error",
        error_of,
        squares_of,
        unit="levels",
        higher_is_better=False,
        high=255.0,
        log_loss=np.log,
        loss_per_qp=math.log(2) / 6,
    )
)
