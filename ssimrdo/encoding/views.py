"""Frames as windows other than their own show them: what is measured, and what bits are spent for.

A file of the whole range of HU is looked at through clinical windows; so it is judged by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom.grey import FULL, NAMED_WINDOWS, WIDE, Window, hu_of_luma, shares_of_hu
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import FramePair
from ssimrdo.metrics.tissue import (
    GreyScale,
    TissueErrors,
    TissueMap,
    errors_by_tissue,
    tissue_map,
)
from ssimrdo.objective import Objective
from ssimrdo.objective.protect import SHOWN_DEPTH, protecting
from ssimrdo.record.tissue import grey_scale

PROTECTED: Final = tuple(NAMED_WINDOWS[name] for name in ("lung", "soft-tissue", "bone"))
"""What a file of the whole range is made for, where nothing else is said."""

_HU_DEPTH: Final = 12


@dataclass(frozen=True)
class View:
    """What a window shows of luma that was made with another one.

    Parameters
    ----------
    window : Window
        The window.
    grey : ndarray of shape (luma codes,), float64
        Grey that it shows for every code, 0 to 1.
    scale : GreyScale, optional
        What the luma that it shows means in HU.
    """

    window: Window
    grey: NDArray[np.float64]
    scale: GreyScale | None

    def pair(self, pair: FramePair) -> FramePair:
        """Return source and decoded frame as the window shows them, at 8 bit."""
        table = np.rint(((1 << SHOWN_DEPTH) - 1) * self.grey).astype(np.uint8)
        frames = FrameFormat(pair.format.rows, pair.format.columns, SHOWN_DEPTH)
        return FramePair(table[pair.source], table[pair.shown], frames, pair.padding)

    def count(self, pair: FramePair) -> TissueErrors:
        """Return the errors by tissue of what :meth:`pair` returned."""
        return errors_by_tissue(pair, scale=self.scale)


def views_of(
    windows: Sequence[Window], own: Window, frames: FrameFormat, *, inverted: bool = False
) -> tuple[View, ...]:
    """Return what windows show of frames that were made with a window of their own.

    Raises
    ------
    InputError
        If the frames' own window shows black and white alone.
    """
    hu = hu_of_luma(own, frames.peak, inverted=inverted)
    if hu is None:
        raise InputError(
            f"the window {own} leaves black and white alone, of which no other shows anything",
            field="protect",
            remedy="take a wider {window}",
        )
    peak = (1 << SHOWN_DEPTH) - 1
    greys = ((window, shares_of_hu(window, hu)) for window in windows)
    return tuple(
        View(window, 1 - grey if inverted else grey, grey_scale(window, peak, inverted=inverted))
        for window, grey in greys
    )


def protected(objective: Objective, views: Sequence[View]) -> Objective:
    """Return an objective that judges what the views show; itself where there is none."""
    return protecting(objective, [view.grey for view in views]) if views else objective


@dataclass(frozen=True)
class TissueCount:
    """Counts errors by tissue in HU, whatever the window.

    Parameters
    ----------
    scale : GreyScale, optional
        What the counted steps mean in HU; None where nothing is known of it.
    table : ndarray of shape (luma codes,), uint16, optional
        What is counted in place of luma: whole HU, where luma is not linear in them.
    """

    scale: GreyScale | None
    table: NDArray[np.uint16] | None = None

    @classmethod
    def of(
        cls, window: Window | None, frames: FrameFormat, *, inverted: bool = False
    ) -> TissueCount:
        """Return how the errors of frames are counted that were made with a window, if any."""
        if window is None or window.function != WIDE:
            return cls(grey_scale(window, frames.peak, inverted=inverted))
        hu = hu_of_luma(window, frames.peak, inverted=inverted)
        assert hu is not None, "it has a width"
        lowest = round(FULL.center - FULL.width / 2 + 0.5)
        table = np.clip(np.rint(hu) - lowest, 0, (1 << _HU_DEPTH) - 1)
        return cls(GreyScale(lowest, 1.0), table.astype(np.uint16))

    def __call__(self, pair: FramePair) -> TissueErrors:
        """Return the errors of a frame by tissue."""
        return errors_by_tissue(self.pair(pair), scale=self.scale)

    def pair(self, pair: FramePair) -> FramePair:
        """Return what is counted of source and decoded frame."""
        if self.table is None:
            return pair
        frames = FrameFormat(pair.format.rows, pair.format.columns, _HU_DEPTH)
        source, shown = self.table[pair.source], self.table[pair.shown]
        return FramePair(source, shown, frames, pair.padding)

    def tissue_map(
        self,
        luma: NDArray[Any],
        frames: FrameFormat,
        padding: NDArray[np.bool_] | None = None,
    ) -> TissueMap:
        """Return what the samples of a source frame belong to, which are no tissue in padding."""
        pair = self.pair(FramePair(luma, luma, frames))
        return tissue_map(
            pair.source, data_range=pair.format.peak, scale=self.scale, padding=padding
        )
