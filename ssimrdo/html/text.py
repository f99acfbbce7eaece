"""Numbers as text, and the notes on numbers that are missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

MISSING = "–"

TIMING_NOTES = {
    "loaded": "Other work ran beside these encodes, so compare times with care.",
    "mixed": "Some times are of earlier runs, so compare them with care; --no-cache measures anew.",
}
"""Why times may mislead, by what the report calls their ``timing``."""

METRIC_NAMES = {
    "ssim": "SSIM",
    "ssim_db": "SSIM in dB",
    "weighted_ssim": "Weighted SSIM",
    "weighted_ssim_db": "Weighted SSIM in dB",
    "ms_ssim": "MS-SSIM",
    "ms_ssim_db": "MS-SSIM in dB",
    "psnr": "PSNR",
}


def metric_name(metric: str) -> str:
    """Return what a metric is called in text."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def metric_axis(metric: str) -> str:
    """Return the name of a metric with its unit."""
    name = metric_name(metric)
    return f"{name} (dB)" if metric == "psnr" else name


def decimals(metric: str) -> int:
    """Return the decimals that a metric's values are given with."""
    return 2 if metric == "psnr" or metric.endswith("_db") else 4


def finite(value: Any) -> float | None:
    """Return a number, or None for what is missing, NaN, infinite or no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def number(value: Any, digits: int = 0) -> str:
    """Return a number with narrow spaces between thousands and a true minus, or a dash."""
    known = finite(value)
    if known is None:
        return MISSING
    return f"{known:,.{digits}f}".replace(",", "\u202f").replace("-", "\u2212")


def signed(value: Any, digits: int = 1) -> str:
    """Return a number with its sign, or a dash."""
    known = finite(value)
    if known is None:
        return MISSING
    rounded = round(known, digits)
    return ("+" if rounded > 0 else "") + number(rounded + 0.0, digits)


def percent(value: Any) -> str:
    """Return a signed percentage, or a dash."""
    text = signed(value)
    return text if text == MISSING else f"{text}\u202f%"


def interval(low: Any, high: Any) -> str:
    """Return the two ends of an interval, or a dash."""
    if finite(low) is None or finite(high) is None:
        return MISSING
    return f"{signed(low)} to {signed(high)}\u202f%"


@dataclass
class Notes:
    """Numbered notes below a table; equal ones share their number."""

    texts: list[str] = field(default_factory=list)

    def mark(self, text: str) -> int:
        """Return the number of a note, from 1."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1
