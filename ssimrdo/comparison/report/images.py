"""The slices of the viewers in the page: images as data URIs, no more than fit a budget."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from ssimrdo.comparison.report.viewer import Viewer, spread
from ssimrdo.html.images import (
    ColourScale,
    bar_uri,
    map_uri,
    offset_scale,
    png_uri,
    ratio_scale,
    shown_ssim_map,
    ssim_scale,
)
from ssimrdo.html.text import decimals, finite, number, percent

IMAGE_BUDGET_BYTES: Final = 11_000_000
"""What the images of all viewers may take in the page; slices beyond are left out evenly."""

SliceData: TypeAlias = dict[str, Any]
"""What the page's script shows of one slice: its number, SSIMs and images, as JSON types."""


@dataclass(frozen=True)
class ColourBar:
    """The colours of a map as an image, and its ticks with their place in percent."""

    image: str
    ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class ShownViewer:
    """One viewer as the template shows it; the labels are the reference's and ours."""

    index: int
    name: str
    rows: int
    columns: int
    labels: tuple[str, str]
    rate_difference: str
    bars: Mapping[str, ColourBar]
    slices: tuple[SliceData, ...]


def shown_viewers(viewers: Iterable[Viewer]) -> tuple[ShownViewer, ...]:
    """Return the viewers that have slices, with as many of these as the budget allows."""
    shown = [viewer for viewer in viewers if viewer.slices]
    if not shown:
        return ()
    # The middle slice of each series tells what a slice takes, near enough for a budget.
    typical = statistics.fmean(
        _bytes(_images(viewer, (len(viewer.slices) // 2,))) for viewer in shown
    )
    fitting = max(int(IMAGE_BUDGET_BYTES / typical / len(shown)), 1)
    return tuple(
        _shown(index, viewer, spread(len(viewer.slices), fitting))
        for index, viewer in enumerate(shown)
    )


def _shown(index: int, viewer: Viewer, chosen: Sequence[int]) -> ShownViewer:
    rows, columns = viewer.slices[0].source.shape
    return ShownViewer(
        index,
        viewer.series,
        rows,
        columns,
        (
            _with_rate(viewer.reference_label, viewer.reference_kbps),
            _with_rate(viewer.ours_label, viewer.ours_kbps),
        ),
        _rate_difference(viewer),
        {
            key: ColourBar(bar_uri(scale), scale.positions())
            for key, scale in _scales(viewer).items()
        },
        _images(viewer, chosen),
    )


def _with_rate(label: str, kbps: float | None) -> str:
    return label if finite(kbps) is None else f"{label}, {number(kbps)}\u00a0kbit/s"


def _rate_difference(viewer: Viewer) -> str:
    reference, ours = finite(viewer.reference_kbps), finite(viewer.ours_kbps)
    if reference is None or ours is None or reference <= 0:
        return ""
    return percent(100 * (ours / reference - 1))


def _scales(viewer: Viewer) -> dict[str, ColourScale]:
    slices = viewer.slices
    return {
        "ssim": ssim_scale([m for s in slices for m in (s.reference_ssim_map, s.ours_ssim_map)]),
        "offset": offset_scale([s.qp_offset for s in slices]),
        "ratio": ratio_scale([np.log2(s.lagrange_ratio) for s in slices]),
    }


def _images(viewer: Viewer, chosen: Sequence[int]) -> tuple[SliceData, ...]:
    scales = _scales(viewer)
    found = []
    for one in (viewer.slices[index] for index in chosen):
        shape = one.source.shape
        found.append(
            {
                "number": one.index + 1,
                "ssim": [_ssim_text(one.reference_ssim), _ssim_text(one.ours_ssim)],
                "source": png_uri(one.source),
                "reference": png_uri(one.reference),
                "ours": png_uri(one.ours),
                "reference-ssim": map_uri(
                    shown_ssim_map(one.reference_ssim_map, shape), scales["ssim"]
                ),
                "ours-ssim": map_uri(shown_ssim_map(one.ours_ssim_map, shape), scales["ssim"]),
                "offset": map_uri(one.qp_offset, scales["offset"]),
                "ratio": map_uri(np.log2(one.lagrange_ratio), scales["ratio"]),
            }
        )
    return tuple(found)


def _ssim_text(value: float) -> str:
    return number(value, decimals("ssim"))


def _bytes(slices: Iterable[SliceData]) -> int:
    return sum(len(value) for one in slices for value in one.values() if isinstance(value, str))
