"""Numbers and names of quality indices as text, and the notes on numbers that are missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ssimrdo import metrics
from ssimrdo.metrics import QualityIndex

MISSING = "–"

IN_DB = "_db"
"""What ends the name of an index given as -10 log10(1 - q)."""


def metric_name(metric: str) -> str:
    """Return what a quality index is called in text; reports may hold some that are not known."""
    index, is_in_db = _known(metric)
    if index is None:
        return metric.replace("_", " ")
    return f"{index.title} in dB" if is_in_db else index.title


def metric_axis(metric: str) -> str:
    """Return the name of an index with its unit, and its direction if lower is better."""
    index, is_in_db = _known(metric)
    name = metric_name(metric)
    if index is None or is_in_db:
        return name
    unit = f" ({index.unit})" if index.unit else ""
    return f"{name}{unit}" if index.higher_is_better else f"{name}{unit}, lower is better"


def metric_unit(metric: str) -> str:
    """Return the unit of an index; empty for a plain number."""
    index, is_in_db = _known(metric)
    return "dB" if is_in_db else "" if index is None else index.unit


def higher_is_better(metric: str) -> bool:
    """Tell the direction of an index; of one that is not known, higher is taken for better."""
    index, _ = _known(metric)
    return index is None or index.higher_is_better


def decimals(metric: str) -> int:
    """Return the decimals that an index's values are given with."""
    index, is_in_db = _known(metric)
    return 2 if is_in_db else 4 if index is None else index.decimals


def _known(metric: str) -> tuple[QualityIndex | None, bool]:
    """Return the index of a name, None if it is not known, and whether it is given in dB."""
    known = metrics.names()
    if metric in known:
        return metrics.get(metric), False
    plain = metric.removesuffix(IN_DB)
    return metrics.get(plain) if plain in known else None, plain != metric


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
