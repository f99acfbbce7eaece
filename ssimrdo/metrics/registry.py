"""The registry of quality indices: whatever is measured, reported or kept takes them from here.

An index is one :class:`QualityIndex` in a file of its own, given to :func:`register`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics.components import contrast_and_structure, ssim_components
from ssimrdo.text import did_you_mean

LOG_MSE_PER_QP: Final = math.log(2) / 3
"""By how much the logarithm of the squared error grows with a QP step in theory: the quantizer's
step doubles every six QPs."""


@dataclass(frozen=True)
class FramePair:
    """A source frame and what a decoder shows of it, with what several indices are made from.

    Parameters
    ----------
    source, shown : ndarray of the format's shape and dtype
        Full-range luma.
    format : FrameFormat
        Of both.
    padding : ndarray of bool of the same shape, optional
        What is no image, and no tissue; indices take it as it is shown.
    """

    source: NDArray[Any]
    shown: NDArray[Any]
    format: FrameFormat
    padding: NDArray[np.bool_] | None = None

    @cached_property
    def ssim_components(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Luminance term and contrast-structure term of SSIM at every window; not to be changed."""
        return ssim_components(self.source, self.shown, data_range=self.format.peak)

    @cached_property
    def contrast_and_structure(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Contrast term and structure term of SSIM at every window; not to be changed."""
        return contrast_and_structure(self.source, self.shown, data_range=self.format.peak)

    @cached_property
    def ssim_map(self) -> NDArray[np.float32]:
        """SSIM at every window; not to be changed."""
        luminance, contrast_structure = self.ssim_components
        return luminance * contrast_structure


def log_dissimilarity(value: float | NDArray[Any]) -> Any:
    """Return ln(1/q - 1) of an index q that is 1 for equal frames: nearly linear in QP."""
    return np.log(1 / np.clip(value, 1e-6, 1 - 1e-9) - 1)


def truncated_log(value: float | NDArray[Any]) -> Any:
    """Return ln of an index that is 0 for equal frames, of no less than 1e-9."""
    return np.log(np.maximum(value, 1e-9))


def log_shortfall(value: float | NDArray[Any]) -> Any:
    """Return ln(1 - q) of an index q that is 1 for equal frames and may be negative."""
    return truncated_log(np.subtract(1, value))


def log_departure(value: float | NDArray[Any]) -> Any:
    """Return ln of how far an index is from the 1 of equal frames, on either side."""
    return truncated_log(np.abs(np.subtract(1, value)))


@dataclass(frozen=True)
class QualityIndex:
    """A measure of how well a decoded frame agrees with its source.

    Parameters
    ----------
    name : str
        Key in JSON, column in CSV and name on the command line.
    title : str
        What people call it.
    value : callable
        Returns the index of a :class:`FramePair`.
    map : callable, optional
        Returns the index at every window or sample of a pair, an ndarray of float32 that others
        may share: not to be changed.
    unit : str
        Such as ``dB``; empty for a plain number.
    higher_is_better : bool
        Its direction.
    decimals : int
        Digits behind the point that are worth showing.
    everyday : bool
        Whether every encode measures it; others are measured where they are asked for.
    low, high : float
        Between which values, both excluded, a floor can be asked for.
    log_loss : callable
        Returns a number or array that grows nearly in proportion to QP, of one or more values.
    loss_per_qp : float
        Slope of ``log_loss`` over QP in theory.
    in_db : bool
        Whether curves are compared by ``-10 log10(1 - q)`` as well.
    special : bool
        Whether even comparisons measure it only where they are asked for it.
    """

    name: str
    title: str
    value: Callable[[FramePair], float]
    map: Callable[[FramePair], NDArray[np.float32]] | None = None
    unit: str = ""
    higher_is_better: bool = True
    decimals: int = 4
    everyday: bool = False
    low: float = 0.0
    high: float = 1.0
    log_loss: Callable[[float | NDArray[Any]], Any] = log_dissimilarity
    loss_per_qp: float = LOG_MSE_PER_QP
    in_db: bool = False
    special: bool = False

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.higher_is_better else -1

    @property
    def worst_key(self) -> str:
        """What the worst value of several is called in JSON: ``min`` or ``max``."""
        return "min" if self.higher_is_better else "max"

    def worst(self, values: Iterable[float]) -> float:
        """Return the worst of one or more values."""
        return min(values) if self.higher_is_better else max(values)


_INDICES: Final[dict[str, QualityIndex]] = {}


def register(index: QualityIndex) -> QualityIndex:
    """Make an index known by its name, in place of one that had it before; return it."""
    if not index.name.isidentifier():
        raise ValueError(f"an index is named like a variable, not {index.name!r}")
    _INDICES[index.name] = index
    return index


def get(name: str) -> QualityIndex:
    """Return the index of a name, in which hyphens and underscores are alike.

    Raises
    ------
    InputError
        If there is none.
    """
    found = _INDICES.get(str(name).replace("-", "_"))
    if found is None:
        raise InputError(
            f"quality index {name!r:.40} is unknown",
            remedy=f"{did_you_mean(name, _INDICES)}use one of {', '.join(_INDICES)}",
        )
    return found


def names() -> tuple[str, ...]:
    """Return the names of all indices, in the order in which they became known."""
    return tuple(_INDICES)


def usual_names() -> tuple[str, ...]:
    """Return the names of the indices that are not special, which a comparison measures."""
    return tuple(name for name, index in _INDICES.items() if not index.special)


def measure(pair: FramePair, indices: Iterable[QualityIndex]) -> Mapping[str, float]:
    """Return the values of some indices for a pair of frames, by name."""
    return {index.name: float(index.value(pair)) for index in indices}
