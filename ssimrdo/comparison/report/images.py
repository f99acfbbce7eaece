"""The slices of the viewers in the page: images as data URIs, no more than fit a budget."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssimrdo.comparison.report.viewer import EncodedSlice, Viewer, ViewerSlice, chosen
from ssimrdo.html.images import (
    ColourScale,
    bar_uri,
    error_scale,
    map_uri,
    offset_scale,
    png_uri,
    qp_scale,
    shown_ssim_map,
    ssim_scale,
)
from ssimrdo.html.text import decimals, finite, number, percent
from ssimrdo.record.tissue import GREY_LEVELS, HU

IMAGE_BUDGET_BYTES: Final = 16_000_000
"""What the images of all viewers may take in the page; slices beyond it are left out."""

Json: TypeAlias = dict[str, Any]
"""What the page's script shows, as JSON types."""

ROLES: Final = ("reference", "ours", "matched")
"""What a viewer's encodes are called in the page: the last is ours at the reference's SSIM."""


@dataclass(frozen=True)
class ColourBar:
    """The colours of a map as an image, and its ticks with their place in percent."""

    image: str
    ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class ShownViewer:
    """One viewer as the template shows it; ``data`` is for the page's script."""

    index: int
    name: str
    rows: int
    columns: int
    labels: tuple[str, ...]
    unit: str
    bars: Mapping[str, ColourBar]
    has_quantizers: bool
    note: str
    data: Json


def shown_viewers(viewers: Iterable[Viewer]) -> tuple[ShownViewer, ...]:
    """Return the viewers that have slices, with as many of these as the budget allows."""
    shown = [viewer for viewer in viewers if viewer.slices]
    if not shown:
        return ()
    # The middle slice of each series tells what a slice takes, near enough for a budget.
    typical = statistics.fmean(
        len(str(_slice(viewer.slices[len(viewer.slices) // 2], _scales(viewer))))
        for viewer in shown
    )
    fitting = shares([len(one.slices) for one in shown], int(IMAGE_BUDGET_BYTES / typical))
    return tuple(_shown(index, viewer, fitting[index]) for index, viewer in enumerate(shown))


def shares(wanted: Sequence[int], total: int) -> list[int]:
    """Return how many of a total each gets: as many as wanted, or as many as any other, not none.

    >>> shares([3, 40, 40], 23)
    [3, 10, 10]
    """
    given = [0] * len(wanted)
    left = total
    for turn, index in enumerate(sorted(range(len(wanted)), key=lambda at: wanted[at])):
        given[index] = max(min(wanted[index], left // (len(wanted) - turn)), 1)
        left -= given[index]
    return given


def _shown(index: int, viewer: Viewer, fitting: int) -> ShownViewer:
    scales = _scales(viewer)
    which = chosen([one.worst for one in viewer.slices], fitting)
    slices = [viewer.slices[at] for at in which]
    rows, columns = slices[0].source.shape
    roles = ROLES[: len(viewer.labels)]
    labels = tuple(map(_with_rate, viewer.labels, viewer.kbps))
    return ShownViewer(
        index,
        viewer.series,
        rows,
        columns,
        labels,
        HU if viewer.hu else GREY_LEVELS,
        {key: ColourBar(bar_uri(scale), scale.positions()) for key, scale in scales.items()},
        any(one.macroblocks is not None for each in slices for one in each.encodes),
        _note(viewer.count, len(slices)),
        {
            "hu": [round(value, 3) for value in viewer.hu],
            "unit": HU if viewer.hu else "levels",
            "grid": slices[0].qp_offset.shape,
            "labels": dict(zip(roles, labels, strict=True)),
            "compared": {role: _compared(viewer, at) for at, role in enumerate(roles) if at},
            "ends": {key: [scale.low, scale.high] for key, scale in scales.items()},
            "slices": [_slice(one, scales) for one in slices],
        },
    )


def _note(count: int, shown: int) -> str:
    """Return which of a series' slices are shown."""
    if shown == count:
        return "All slices." if count > 1 else "The only slice."
    worst = (shown + 1) // 2
    return (
        f"{shown} of {number(count)} slices, to keep the page small: the {worst} of lowest SSIM "
        f"and {shown - worst} spread evenly over the others."
    )


def _with_rate(label: str, kbps: float | None) -> str:
    return label if finite(kbps) is None else f"{label}, {number(kbps)}\u00a0kbit/s"


def _compared(viewer: Viewer, other: int) -> str:
    """Return by how much an encode's bit rate and SSIM differ from the reference's."""
    parts = []
    reference, ours = finite(viewer.kbps[0]), finite(viewer.kbps[other])
    if reference is not None and ours is not None and reference > 0:
        parts.append(f"bit rate {percent(100 * (ours / reference - 1))}")
    if other < len(viewer.ssim):
        first, second = (number(viewer.ssim[at], decimals("ssim")) for at in (0, other))
        parts.append(f"mean SSIM {second} beside {first}")
    return ", ".join(parts)


def _scales(viewer: Viewer) -> dict[str, ColourScale]:
    """Return how the maps of a viewer are coloured."""
    encodes = [one for each in viewer.slices for one in each.encodes]
    quantizers = [one.macroblocks.coded_qp for one in encodes if one.macroblocks is not None]
    return {
        "ssim": ssim_scale([one.ssim_map for one in encodes]),
        "error": error_scale(
            [_errors(viewer, each, one) for each in viewer.slices for one in each.encodes],
            HU if viewer.hu else "levels",
        ),
        "offset": offset_scale([each.qp_offset[~each.clipped] for each in viewer.slices]),
        "qp": qp_scale(quantizers),
    }


def _errors(viewer: Viewer, one: ViewerSlice, encode: EncodedSlice) -> NDArray[np.float64]:
    table = np.asarray(viewer.hu or np.arange(256), np.float64)
    return table[encode.luma] - table[one.source]


def _slice(one: ViewerSlice, scales: Mapping[str, ColourScale]) -> Json:
    return {
        "number": one.index + 1,
        "worst": round(one.worst, 6),
        "source": png_uri(one.source),
        "offset": [float(f"{value:.1f}") for value in one.qp_offset.ravel().tolist()],
        "clipped": _bits(one.clipped),
        "encodes": {
            role: _encode(encode, one.source.shape, scales)
            for role, encode in zip(ROLES, one.encodes, strict=False)
        },
    }


def _encode(
    encode: EncodedSlice, shape: tuple[int, ...], scales: Mapping[str, ColourScale]
) -> Json:
    told = encode.macroblocks
    return {
        "ssim": number(encode.ssim, decimals("ssim")),
        "image": png_uri(encode.luma),
        "map": map_uri(shown_ssim_map(encode.ssim_map, shape), scales["ssim"]),
        "qp": None if told is None else told.qp.ravel().tolist(),
        "skipped": None if told is None or told.skipped is None else _bits(told.skipped),
    }


def _bits(mask: NDArray[np.bool_]) -> str:
    """Return a mask as a string of zeros and ones."""
    return "".join("1" if one else "0" for one in mask.ravel().tolist())
