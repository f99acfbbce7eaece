"""Measure files of the whole range of HU through clinical windows; print tables in Markdown.

Every series of $SSIMRDO_CT_DATA and the phantom is encoded with `--window full`, by x264
(`--preset medium --tune ssim`, 10 bit) from HU on a straight line, and in each of the windows that
`--window full` protects by default. Each file is measured through these windows.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import imagecodecs
import numpy as np
from benchmark_clips import VARIABLE, chosen_series
from benchmark_script import exit_status
from benchmark_tables import replace_block, table

from ssimrdo import EncodeSettings, SsimrdoError, encode, metrics
from ssimrdo.bd import RateQuality, bjontegaard
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.dicom import Series, Window, open_series
from ssimrdo.dicom.read.load import load_hu
from ssimrdo.encoding.views import PROTECTED
from ssimrdo.files import write_whole
from ssimrdo.html.text import percent, signed
from ssimrdo.machine import cores, processor
from ssimrdo.metrics.tissue import Area
from ssimrdo.record.result import EncodeResult
from ssimrdo.record.tissue import AREA_NAMES, TissueSummary

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "wide.md"
BLOCK: Final = "wide"

CRFS: Final = (18, 23, 28, 33)
LINEAR_CRFS: Final = (8, 13, 18, 23)
"""Of x264 on a straight line, which takes lower ones for the same quality through windows."""

CRF: Final = 23
STRAIGHT: Final = Window(1023.5, 4096, "LINEAR_EXACT")
ALL: Final = "all HU"
LINE: Final = "straight line"

INDICES: Final = (
    *("ssim", "weighted_ssim", "psnr", "ms_ssim", "edge_ssim", "iw_ssim", "haarpsi_med"),
    *("gmsd", "vifp", "fsim"),
)
AREAS: Final = (Area.BODY, Area.EDGE, Area.DENSE, Area.FLAT, Area.LUNG)


@dataclass(frozen=True)
class Looks:
    """What slices look like through one window.

    Parameters
    ----------
    values : mapping of str to float
        Mean of every index over the slices, and SSIM of the worst one.
    tissue : TissueSummary
        Errors by tissue.
    """

    values: Mapping[str, float]
    tissue: TissueSummary


@dataclass(frozen=True)
class Encode:
    """One encode of a series: its size, and what it looks like through each window."""

    payload_bytes: float
    looks: Mapping[str, Looks]


Curves = Mapping[str, Sequence[Encode]]
"""Encodes of a series by what was encoded, from the lowest CRF to the highest."""


def name_of(window: Window) -> str:
    """Return what the tables call a window."""
    return window.preset or str(window)


def looks_of(result: EncodeResult, window: Window | None) -> dict[str, Looks]:
    """Return what an encode looks like, through its own window or through those protected."""

    def one(quality: Mapping[str, Any], tissue: TissueSummary | None) -> Looks:
        assert tissue is not None
        values = {name: quality[name].mean for name in INDICES}
        return Looks({**values, "worst": quality["ssim"].worst}, tissue)

    if window is not None:
        return {name_of(window): one(result.quality, result.tissue)}
    return {name_of(each.window): one(each.quality, each.tissue) for each in result.windows}


def encodes(series: Series, scratch: Path) -> Iterator[tuple[str, Encode]]:
    """Yield all encodes of a series with what was encoded."""
    plain = X264(preset="medium", tune="ssim")
    plans: list[tuple[str, Window | None, Sequence[float], dict[str, Any]]] = [
        (ALL, None, CRFS, {"window": "full"}),
        (
            LINE,
            None,
            LINEAR_CRFS,
            {
                "window": STRAIGHT,
                "protect": PROTECTED,
                "bit_depth": 10,
                "codec": plain,
                "rdo": "off",
            },
        ),
        *((name_of(window), window, CRFS, {"window": window}) for window in PROTECTED),
    ]
    path = scratch / "encode.h264"
    for name, window, crfs, options in plans:
        for crf in crfs:
            settings = EncodeSettings.of(crf=crf, measure=INDICES, **options)
            result = encode(series, path, settings, overwrite=True)
            yield name, Encode(result.bytes, looks_of(result, window))


def lossless_bytes(series: Series) -> dict[str, int]:
    """Return the size of a series in lossless codestreams of 16 bit."""
    sizes = {"JPEG-LS": 0, "HTJ2K": 0}
    for header in series.slices:
        stored = np.clip(load_hu(header) + 1024, 0, 65535).astype(np.uint16)
        sizes["JPEG-LS"] += len(imagecodecs.jpegls_encode(stored))
        sizes["HTJ2K"] += len(imagecodecs.htj2k_encode(stored, reversible=True))
    return sizes


def measured(folder: Path, slices: int | None) -> tuple[Curves, dict[str, int]]:
    """Return all encodes of the series in a folder, and its lossless sizes."""
    series, _ = open_series(folder)
    if slices is not None:
        first = max((len(series) - slices) // 2, 0)
        series = replace(series, slices=series.slices[first : first + slices])
    found: dict[str, list[Encode]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, one in encodes(series, Path(scratch)):
            print(f"bench_wide: {folder.name}, {name}", file=sys.stderr, flush=True)
            found.setdefault(name, []).append(one)
    return found, lossless_bytes(series)


def value(one: Encode, window: str, key: str) -> float | None:
    """Return an index, or the PSNR of an area in decibels, through a window; higher is better."""
    looks = one.looks[window]
    if key in looks.values:
        return looks.values[key] * (1 if key == "worst" else metrics.get(key).sign)
    return looks.tissue.psnr(Area(key))


def rate_percent(curves: Curves, test: str, anchor: str, window: str, key: str) -> float | None:
    """Return the BD-rate of an encoder against another, None without common quality."""
    both = []
    for name in (anchor, test):
        points = [(one.payload_bytes, value(one, window, key)) for one in curves[name]]
        known = sorted((rate, quality) for rate, quality in points if quality is not None)
        if len(known) < len(points):
            return None
        try:
            both.append(RateQuality(*zip(*known, strict=True), name=name))
        except (ValueError, SsimrdoError):
            return None
    try:
        return bjontegaard(*both).rate_percent
    except (ValueError, SsimrdoError):
        return None


def size_at(curves: Curves, name: str, window: str, ssim: float) -> float | None:
    """Return the size at which a file has this mean SSIM through a window."""
    points = sorted((one.looks[window].values["ssim"], one.payload_bytes) for one in curves[name])
    qualities, sizes = zip(*points, strict=True)
    if not qualities[0] <= ssim <= qualities[-1]:
        return None
    return float(np.exp(np.interp(ssim, qualities, np.log(sizes))))


def mean_text(values: Sequence[float | None]) -> str:
    """Return a mean in percent, marked where series are missing."""
    known = [one for one in values if one is not None]
    if not known:
        return "–"
    return percent(fmean(known)) + ("" if len(known) == len(values) else f" ({len(known)})")


def rate_table(found: Mapping[str, Curves]) -> str:
    """Return BD-rates against x264 on a straight line, by window and by index or tissue."""
    windows = [name_of(window) for window in PROTECTED]
    keys = [*INDICES, "worst", *(area.value for area in AREAS)]
    titles = {key: metrics.get(key).title for key in INDICES}
    titles |= {"worst": "SSIM of the worst slice"}
    titles |= {area.value: f"squared error in HU, {AREA_NAMES[area]}" for area in AREAS}
    rows = [
        [
            titles[key],
            *(
                mean_text([rate_percent(c, ALL, LINE, window, key) for c in found.values()])
                for window in windows
            ),
        ]
        for key in keys
    ]
    return table(["at equal", *windows], rows)


def single_table(found: Mapping[str, Curves]) -> str:
    """Return how much larger a file of all HU is than one of a window, at its SSIM there."""
    windows = [name_of(window) for window in PROTECTED]
    rows = []
    for series, curves in found.items():
        sizes, factors = {}, []
        for window in windows:
            one = curves[window][CRFS.index(CRF)]
            sizes[window] = one.payload_bytes
            needed = size_at(curves, ALL, window, one.looks[window].values["ssim"])
            factors.append("–" if needed is None else f"{needed / one.payload_bytes:.2f}")
        wide = curves[ALL][CRFS.index(CRF)]
        shown = [f"{signed(wide.looks[w].values['ssim'] - _ssim(curves, w), 3)}" for w in windows]
        rows.append(
            [
                series,
                f"{wide.payload_bytes / 1000:.0f}",
                f"{sum(sizes.values()) / 1000:.0f}",
                *shown,
                *factors,
            ]
        )
    heads = ["series", "all HU, kB", "three files, kB"]
    heads += [f"ΔSSIM, {window}" for window in windows]
    heads += [f"size for its SSIM, {window}" for window in windows]
    return table(heads, rows)


def _ssim(curves: Curves, window: str) -> float:
    return curves[window][CRFS.index(CRF)].looks[window].values["ssim"]


def error_table(found: Mapping[str, Curves]) -> str:
    """Return errors in HU through each window, of files of all HU and of one window."""
    rows = []
    for series, curves in found.items():
        for window in map(name_of, PROTECTED):
            for name in (ALL, window):
                one = curves[name][CRFS.index(CRF)].looks[window].tissue
                errors = [one.errors[area] for area in AREAS]
                rows.append(
                    [
                        series,
                        window,
                        "all HU" if name == ALL else "its own file",
                        *("–" if error is None else f"{error.rmse:.1f}" for error in errors),
                    ]
                )
    return table(["series", "seen through", "of", *(AREA_NAMES[a] for a in AREAS)], rows)


def lossless_table(found: Mapping[str, Curves], lossless: Mapping[str, Mapping[str, int]]) -> str:
    """Return sizes beside lossless compression."""
    rows = [
        [
            series,
            f"{curves[ALL][CRFS.index(CRF)].payload_bytes / 1e6:.2f}",
            *(f"{size / 1e6:.1f}" for size in lossless[series].values()),
            f"{lossless[series]['HTJ2K'] / curves[ALL][CRFS.index(CRF)].payload_bytes:.0f}",
        ]
        for series, curves in found.items()
    ]
    return table(
        ["series", "all HU, MB", "JPEG-LS, MB", "HTJ2K, MB", "times smaller than HTJ2K"], rows
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench_wide", description=__doc__)
    parser.add_argument("--series", action="append", default=[], metavar="NAME", help="only this")
    parser.add_argument("--slices", type=int, metavar="N", help="only N from the middle of each")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of tables")
    parser.add_argument("--update", action="store_true", help="put the tables into docs/wide.md")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    # What encodes are warned of is no news here.
    logging.getLogger("ssimrdo").setLevel(logging.ERROR)
    folders = chosen_series(options.series, phantom=True)
    found: dict[str, Curves] = {}
    lossless: dict[str, Mapping[str, int]] = {}
    for folder in folders:
        found[folder.name], lossless[folder.name] = measured(folder, options.slices)
    if options.json:
        print(
            json.dumps(
                {
                    series: {
                        name: [
                            {
                                "bytes": one.payload_bytes,
                                "windows": {
                                    window: {**looks.values, "tissue": looks.tissue.as_dict()}
                                    for window, looks in one.looks.items()
                                },
                            }
                            for one in points
                        ]
                        for name, points in curves.items()
                    }
                    for series, curves in found.items()
                }
            )
        )
        return
    slices = "all slices" if options.slices is None else f"{options.slices} slices of each"
    more = "" if options.slices is None else f" --slices {options.slices}"
    text = "\n\n".join(
        [
            f"Made on {datetime.now().astimezone():%Y-%m-%d} by `{VARIABLE}=… scripts/bench_wide "
            f"--update{more}` on {cores()} cores of {processor()}. Series: {', '.join(found)}; "
            f"{slices}.",
            "BD-rate of `--window full` against x264 on a straight line, mean over the series "
            "(in brackets of how many, where not all have such a tissue):",
            rate_table(found),
            f"At CRF {CRF}: one file of all HU, beside three files in the three windows. ΔSSIM is "
            "what it shows through each window less what that window's own file shows; “size for "
            "its SSIM” is how many times the size of a window's own file it takes to look as good "
            "through that window:",
            single_table(found),
            f"RMSE in HU at CRF {CRF}, through each window:",
            error_table(found),
            f"Beside lossless compression, at CRF {CRF}:",
            lossless_table(found, lossless),
        ]
    )
    print(text)
    if options.update:
        page = replace_block(PAGE.read_text(), text, name=BLOCK)
        write_whole(PAGE, page.encode(), overwrite=True)


def main() -> int:
    """Run the measurement and return the exit status."""
    return exit_status("bench_wide", lambda: run(parse_arguments()))


if __name__ == "__main__":
    sys.exit(main())
