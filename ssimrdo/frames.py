"""What a frame looks like: its size, depth, rate and shape, and all that follows from these."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MACROBLOCK: Final = 16
"""Side of a macroblock in luma samples: the grid that the model works on."""

CLOCK_FPS: Final = Fraction(25)
"""Frames per second that every encoder is told. Rate control weighs frames by how long they are
shown, but slices have no duration; the rate that the user wants is only written into the file."""

# Luma of black and white in the limited range, at 8 bit.
_BLACK: Final = 16
_WHITE: Final = 235


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """Format of the luma frames of a series, one plane.

    Frames are full-range wherever they are looked at: when they are analysed and when they are
    measured. What is coded may have the limited range of video.

    Parameters
    ----------
    rows, columns : int
        Size in samples.
    bit_depth : int
        Bits per sample, 8 to 16.
    fps : Fraction
        Slices per second.
    aspect : Fraction
        Width of a sample over its height.
    full_range : bool
        Whether coded luma takes all codes, or 16 to 235 (at 8 bit) as in video.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    rows: int
    columns: int
    bit_depth: int = 8
    fps: Fraction = CLOCK_FPS
    aspect: Fraction = Fraction(1)
    full_range: bool = True

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < 1 or not 8 <= self.bit_depth <= 16:
            raise ValueError(f"no frames are {self.columns}x{self.rows} at {self.bit_depth} bit")
        if min(self.fps, self.aspect) <= 0:
            raise ValueError("frame rate and sample aspect ratio are above 0")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a frame: rows and columns."""
        return self.rows, self.columns

    @property
    def peak(self) -> int:
        """L, the largest luma."""
        return int((1 << self.bit_depth) - 1)

    @property
    def ends(self) -> tuple[int, int]:
        """Codes of black and white (ITU-T H.264 E.2.1, ``video_full_range_flag``)."""
        if self.full_range:
            return 0, self.peak
        return _BLACK << self.bit_depth - 8, _WHITE << self.bit_depth - 8

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples: uint8 at 8 bit, else uint16."""
        return np.dtype(np.uint8 if self.bit_depth == 8 else np.uint16)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the macroblocks that cover a frame."""
        return block_grid(self.shape)

    def padded(self, multiple: int = 2) -> FrameFormat:
        """Return the format whose sides are the next multiples, two as 4:2:0 pictures need."""
        rows, columns = (-(-side // multiple) * multiple for side in self.shape)
        return replace(self, rows=rows, columns=columns)

    def pad(self, luma: NDArray[Any]) -> NDArray[Any]:
        """Return a smaller frame with its last row and column repeated; not copied if it fits."""
        missing = [whole - side for whole, side in zip(self.shape, luma.shape, strict=True)]
        if not any(missing):
            return luma
        return np.pad(luma, [(0, more) for more in missing], mode="edge")

    def coded(self, luma: NDArray[Any]) -> NDArray[Any]:
        """Return full-range luma in the range that is coded; the same array if it is full."""
        if self.full_range:
            return luma
        black, white = self.ends
        codes = np.arange(self.peak + 1)
        table = black + (2 * codes * (white - black) + self.peak) // (2 * self.peak)
        return np.asarray(table.astype(self.dtype)[luma])

    def shown(self, luma: NDArray[Any]) -> NDArray[Any]:
        """Return what a viewer shows of coded luma, full range; the same array if it is full.

        ``(Y - 16) · 255 / 219`` at 8 bit, clipped and rounded.
        """
        if self.full_range:
            return luma
        black, white = self.ends
        codes = np.clip(np.arange(self.peak + 1), black, white) - black
        table = (2 * codes * self.peak + white - black) // (2 * (white - black))
        return np.asarray(table.astype(self.dtype)[luma])

    def crop(self, luma: NDArray[Any]) -> NDArray[Any]:
        """Return this format's part of a padded frame, as a view."""
        return luma[: self.rows, : self.columns]

    def check(self, luma: NDArray[Any]) -> None:
        """Check that an array is a frame of this format.

        Raises
        ------
        ValueError
            If its shape or dtype is another, or it has luma above the peak.
        """
        if luma.shape != self.shape or luma.dtype != self.dtype:
            raise ValueError(f"a frame is {luma.shape} {luma.dtype}, not {self.shape} {self.dtype}")
        if np.iinfo(self.dtype).max > self.peak and luma.max() > self.peak:
            raise ValueError(f"a frame has luma of {luma.max()}, above {self.peak}")


def block_grid(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns of macroblocks that cover a frame of a shape."""
    rows, columns = (-(-side // MACROBLOCK) for side in shape)
    return rows, columns


def clipped_blocks(luma: NDArray[Any], frame_format: FrameFormat) -> NDArray[np.bool_]:
    """Return which macroblocks are black all over, or white: the window clips all of them.

    Parameters
    ----------
    luma : ndarray of the format's shape and dtype
        Full-range luma.
    frame_format : FrameFormat
        Of the frame.

    Returns
    -------
    ndarray of shape (macroblock rows, macroblock columns), bool
    """
    rows, columns = frame_format.grid
    missing = [
        (0, MACROBLOCK * n - side) for n, side in zip((rows, columns), luma.shape, strict=True)
    ]
    blocks = np.pad(luma, missing, mode="edge").reshape(rows, MACROBLOCK, columns, MACROBLOCK)
    low, high = blocks.min(axis=(1, 3)), blocks.max(axis=(1, 3))
    return np.asarray((high == 0) | (low == frame_format.peak))


def no_padding(index: int) -> None:
    """Return that a frame has no padding."""
    del index


@dataclass(frozen=True)
class FrameSource:
    """A sequence of luma frames that can be gone through more than once.

    Parameters
    ----------
    format : FrameFormat
        Of every frame.
    count : int
        How many there are, at most: slices that turn out to be damaged may be left out.
    frames : callable
        Returns an iterable over the frames, anew with each call: ndarrays of the format's shape
        and dtype.
    padding : callable
        Returns what is padding in a frame that has been read, by its index: an ndarray of bool of
        its shape, or None where there is none.
    """

    format: FrameFormat
    count: int
    frames: Callable[[], Iterable[NDArray[Any]]]
    padding: Callable[[int], NDArray[np.bool_] | None] = no_padding
