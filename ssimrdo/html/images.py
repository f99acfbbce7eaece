"""Slices and maps as PNG data URIs, and the colour scales of the maps."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.frames import FrameFormat

LEVELS = 64
"""Colours of a map; an eye tells fewer apart, and few compress well."""

_NO_VALUE = LEVELS


@dataclass(frozen=True)
class ColourScale:
    """How values become colours.

    Parameters
    ----------
    low, high : float
        Values at the ends; what lies beyond gets the colour of the end.
    colours : str
        Name of a Matplotlib colour map.
    ticks : tuple of (float, str)
        Values to be marked on the colour bar, and their text.
    """

    low: float
    high: float
    colours: str
    ticks: tuple[tuple[float, str], ...]

    def positions(self) -> list[tuple[float, str]]:
        """Return the ticks with their place on the bar in percent."""
        span = self.high - self.low
        return [(100 * (value - self.low) / span, text) for value, text in self.ticks]


def as_8_bit(luma: NDArray[Any], frame_format: FrameFormat) -> NDArray[np.uint8]:
    """Return a copy of a luma frame for the screen."""
    return (luma >> (frame_format.bit_depth - 8)).astype(np.uint8)


def png_uri(luma: NDArray[np.uint8]) -> str:
    """Return a grey image as a PNG data URI, without loss."""
    from PIL import Image

    return _uri(Image.fromarray(luma))


def map_uri(values: NDArray[Any], scale: ColourScale) -> str:
    """Return a map as a PNG data URI; NaN becomes transparent."""
    from PIL import Image

    share = (values.astype(np.float64) - scale.low) / (scale.high - scale.low)
    known = np.isfinite(share)
    level = np.clip(np.where(known, share, 0) * LEVELS, 0, LEVELS - 1).astype(np.uint8)
    level[~known] = _NO_VALUE
    image = Image.fromarray(level, mode=None)
    image.putpalette(_palette(scale.colours))
    return _uri(image, transparency=_NO_VALUE)


def bar_uri(scale: ColourScale) -> str:
    """Return the colours of a scale, low to high, as an image one pixel high."""
    steps = (np.arange(LEVELS) + 0.5) / LEVELS
    return map_uri((scale.low + steps * (scale.high - scale.low))[None, :], scale)


def ssim_scale(maps: Sequence[NDArray[Any]]) -> ColourScale:
    """Return the scale of SSIM maps: from what 1 % of the windows lie below up to 1."""
    lowest = min(float(np.nanquantile(values, 0.01)) for values in maps)
    # Full tenths read well; maps without visible loss keep some range.
    low = min(max(math.floor(lowest * 10) / 10, 0.0), 0.9)
    ticks = tuple((low + (1 - low) * part / 4) for part in (0, 2, 4))
    texts = (f"≤ {ticks[0]:.1f}", f"{ticks[1]:.2f}", "1")
    return ColourScale(low, 1.0, "magma_r", tuple(zip(ticks, texts, strict=True)))


def offset_scale(maps: Sequence[NDArray[Any]]) -> ColourScale:
    """Return the scale of ΔQP: symmetric, so that its middle colour is no offset."""
    known = [float(np.abs(values).max()) for values in maps if values.size]
    reach = max(math.ceil(max(known, default=0)), 1)
    ticks = ((-reach, f"\u2212{reach}"), (0, "0"), (reach, f"+{reach}"))
    return ColourScale(-reach, reach, "PuOr_r", ticks)


def qp_scale(maps: Sequence[NDArray[Any]]) -> ColourScale:
    """Return the scale of quantizers: without the 1 % that are smallest and largest."""
    known = np.concatenate([values.ravel() for values in maps if values.size] or [np.zeros(1)])
    low, high = (int(end) for end in np.quantile(known, (0.01, 0.99)))
    high = max(high, low + 1)
    return ColourScale(low, high, "viridis", ((low, f"≤ {low}"), (high, f"≥ {high}")))


def error_scale(maps: Sequence[NDArray[Any]], unit: str) -> ColourScale:
    """Return the scale of errors: symmetric, up to what 99.9 % of them do not exceed."""
    largest = max(float(np.quantile(np.abs(values), 0.999)) for values in maps)
    reach = max(math.ceil(largest), 1)
    ticks = ((-reach, f"≤ \u2212{reach}"), (0, "0"), (reach, f"≥ +{reach}\u202f{unit}"))
    return ColourScale(-reach, reach, "PuOr_r", ticks)


def shown_ssim_map(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an SSIM map in the frame of its slice, at half the resolution of large slices.

    There is no window centred on the slice's border; it gets NaN.
    """
    framed = np.full(shape, np.nan, np.float32)
    top, left = ((side - inner) // 2 for side, inner in zip(shape, values.shape, strict=True))
    framed[top : top + values.shape[0], left : left + values.shape[1]] = values
    if min(shape) < 256:
        return framed
    rows, columns = (side // 2 for side in shape)
    quads = framed[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    return np.asarray(quads.mean(axis=(1, 3)), np.float32)


@cache
def _palette(colours: str) -> bytes:
    from matplotlib import colormaps

    table = colormaps[colours](np.linspace(0, 1, LEVELS))[:, :3]
    return (255 * table).round().astype(np.uint8).tobytes() + bytes(3)


def _uri(image: Any, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
