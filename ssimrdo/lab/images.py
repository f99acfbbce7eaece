"""Images of experiments: noise-free slices in HU from air, and pairs of them for the indices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import FramePair, QualityIndex
from ssimrdo.phantom import PhantomSettings, anatomy_hu, phantom_slice_hu

Image = NDArray[np.float32]

RANGE_HU: Final = 2500
"""L of all experiments in HU: the dynamic range of Pambrun and Noumeir."""

AIR_HU: Final = -1000.0
"""What is taken off, so that air is 0 as SSIM's luminance wants it."""

HEIGHT_MM: Final = 95.0
"""Of the phantom's slice: through heart, aorta and both lungs."""


@dataclass(frozen=True, slots=True)
class RangeFormat(FrameFormat):
    """Format of float images from 0 to a range that is no power of two, such as 2500 HU.

    Parameters
    ----------
    data_range : float
        L.
    """

    data_range: float = RANGE_HU

    @property
    def peak(self) -> int:
        """L."""
        return int(self.data_range)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples: float32."""
        return np.dtype(np.float32)


def pair_of(reference: NDArray[Any], distorted: NDArray[Any], data_range: float) -> FramePair:
    """Return two float images from 0 to L as indices take them."""
    rows, columns = reference.shape
    return FramePair(
        np.ascontiguousarray(reference, np.float32),
        np.ascontiguousarray(distorted, np.float32),
        RangeFormat(rows, columns, data_range=data_range),
    )


def loss(index: QualityIndex, pair: FramePair) -> float:
    """Return how far an index is from what it is for equal images; 0 where it sees nothing.

    Decibels are turned back into the squared error over L² that they stand for, since they have no
    value for equal images.
    """
    value = float(index.value(pair))
    if index.unit == "dB":
        return float(10 ** (-value / 10))
    return abs(value - perfect(index, pair))


def perfect(index: QualityIndex, pair: FramePair) -> float:
    """Return the value of an index for the source against itself."""
    return float(index.value(FramePair(pair.source, pair.source, pair.format)))


@lru_cache(maxsize=8)
def thorax(size: int, seed: int, *, noise: bool = False) -> Image:
    """Return a slice of the phantom from 0, which is air, in HU; read-only.

    Parameters
    ----------
    size : int
        Rows and columns.
    seed : int
        Of anatomy and noise.
    noise : bool
        Whether the scanner's noise is in it.
    """
    settings = PhantomSettings(size=size, seed=seed)
    index = round((HEIGHT_MM - 20) / settings.slice_spacing_mm)
    hu = phantom_slice_hu(index, settings) if noise else anatomy_hu(index, settings)
    image: Image = np.maximum(hu - np.float32(AIR_HU), 0).astype(np.float32)
    image.setflags(write=False)
    return image


def white_noise(shape: tuple[int, ...], variance: float, seed: int) -> Image:
    """Return white Gaussian noise whose mean and variance are exact over the image."""
    noise = np.random.default_rng([seed, 13]).standard_normal(shape)
    noise = (noise - noise.mean()) / noise.std()
    return np.asarray(noise * np.sqrt(variance), np.float32)
