"""Compare what can be encoded to: rate at equal quality by tissue, times, and what browsers show.

Every codec that is installed is taken at every effort that it has, beside its encoder without us.
Series are those of $SSIMRDO_CT_DATA and the phantom, in two windows each. Chromium is tried where
it and chromedriver are installed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from benchmark_aims import COLUMNS, mean_text
from benchmark_clips import PHANTOM, ROOT, chosen_series, compare_windowed, windowed_series
from benchmark_pairs import compare_pair
from benchmark_script import (
    about,
    add_compare_options,
    compared,
    exit_status,
    messages_to_stderr,
    update,
    wrapped,
)
from benchmark_tables import labels_of, table
from browser_frames import CHROMIUM, DRIVER, chromium, frames_shown
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from ssimrdo import encode_frames
from ssimrdo.codecs.named import NAMED
from ssimrdo.codecs.vvenc import program
from ssimrdo.codecs.x264.effort import EFFORTS
from ssimrdo.comparison import CompareSettings, Comparison
from ssimrdo.comparison.classes import rates_by_class
from ssimrdo.comparison.encoders import make_contenders
from ssimrdo.comparison.report import TIMING_NOTES
from ssimrdo.comparison.results import ComparisonReport
from ssimrdo.dicom import NAMED_WINDOWS, open_series
from ssimrdo.dicom.luma import load_luma
from ssimrdo.encoding.options import RDO
from ssimrdo.files import write_whole
from ssimrdo.lab.drawing import SERIES, plain_ticks, svg
from ssimrdo.objective import OFF
from ssimrdo.video.decode import decoded_luma

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCRIPT: Final = "codecs"
PAGE: Final = ROOT / "docs" / "codecs.md"
FIGURE: Final = ROOT / "docs" / "codecs.svg"

SLICES: Final = 24

ANCHORS: Final = (
    *("x264-ssim", "x264-ssim:veryslow"),
    *("x265", "x265:slower", "x265-tskip:slower"),
    *("svtav1:6", "svtav1:4", "svtav1:3"),
    *(("vvenc:fast", "vvenc:medium") if program() else ()),
)

TITLES: Final = {"h264": "H.264", "hevc": "HEVC", "obu": "AV1", "vvc": "VVC"}
"""What people call a stream, by FFmpeg's name of it, in the order of tables."""

INK: Final = dict(zip(TITLES.values(), SERIES, strict=False))

DECODES: Final = 3
"""Of which the fastest counts."""

SHOWN: Final = (3, 0, 5, 1, 4, 2)
"""Slices that a browser is asked for."""

CRF: Final = 12
"""Of what a browser shows: so fine that slices differ by more than they lose."""

TRIED_SUFFIXES: Final = (".mp4", ".mkv")
"""No browser plays raw streams."""

TRIED_DEPTHS: Final = (8, 10)

CORNERS: Final = ((1, 1), (1, -1), (-1, 1), (-1, -1))
"""Of a point, to the right and up first."""

Times = dict[str, list[float]]


def every_effort() -> tuple[str, ...]:
    """Return the names, in a comparison, of every codec that is installed at all its efforts."""
    found = []
    for name, codec in NAMED.items():
        if codec.lacking() is not None:
            continue
        rdo = RDO if codec.steerable else OFF
        efforts = [f"effort={effort}" for effort in EFFORTS] if "effort" in codec.options else [""]
        found += [",".join(filter(None, (rdo, f"codec={name}", effort))) for effort in efforts]
    return tuple(found)


def decode_ms(path: Path) -> float:
    """Return the milliseconds of one core that FFmpeg takes to decode a slice of a video."""
    taken = []
    for _ in range(DECODES):
        before = time.process_time()
        slices = sum(1 for _ in decoded_luma(path, threads=1))
        taken.append(1000 * (time.process_time() - before) / slices)
    return min(taken)


def measured(
    options: argparse.Namespace, settings: CompareSettings
) -> tuple[ComparisonReport, dict[str, float]]:
    """Return the report over all clips, and the mean time to decode a slice by encoder."""
    clips = windowed_series(chosen_series(options.series, phantom=True))
    times: Times = {}

    def run(folders: list[Path], one: CompareSettings) -> ComparisonReport:
        with compared(folders, one, options) as comparison:
            _time_decodes(comparison, times)
            return comparison.report

    report = compare_windowed(clips, settings, run)
    return report, {encoder: fmean(taken) for encoder, taken in times.items()}


def _time_decodes(comparison: Comparison, times: Times) -> None:
    for (_, encoder, _), path in comparison.encodes.items():
        times.setdefault(encoder, []).append(decode_ms(path))


def titles_of(settings: CompareSettings) -> dict[str, str]:
    """Return what people call the streams of every encoder of a comparison, by its name."""
    return {one.name: TITLES[one.codec.syntax] for one in make_contenders(settings)}


def in_order(report: ComparisonReport, titles: Mapping[str, str]) -> list[str]:
    """Return the names of the encoders of a report, the reference too, codec by codec."""
    order = list(TITLES.values())
    names = [encoder.name for encoder in report.encoders]
    return sorted(names, key=lambda name: order.index(titles[name]))


def rates_table(
    report: ComparisonReport, titles: Mapping[str, str], decoding: Mapping[str, float]
) -> str:
    """Return BD-rates by index and class, and times, of every encoder, as a table in Markdown.

    Parameters
    ----------
    report : ComparisonReport
        Of all encoders.
    titles : mapping of str to str
        What people call their streams.
    decoding : mapping of str to float
        Milliseconds per slice to decode these.
    """
    reference, clips, labels = report.reference.name, len(report.compared), labels_of(report)
    rows, by_class = [], rates_by_class(report, reference)
    for name in in_order(report, titles):
        means = [mean_text(by_class.get(name, {}).get(key, {}), clips) for key in COLUMNS]
        rows.append(
            (
                titles[name],
                labels[name],
                *(["0"] * len(COLUMNS) if name == reference else means),
                f"{compare_pair(report, name, reference).time:.2f}\u202f×",
                f"{decoding[name]:.1f}\u202fms",
            )
        )
    return table(["codec", "encoder", *COLUMNS.values(), "encode", "decode"], rows)


def write_beside(axes: Axes, texts: Sequence[tuple[str, str, tuple[float, float]]]) -> None:
    """Write a text beside each point, at the corner where it covers least of what is there.

    Parameters
    ----------
    axes : Axes
        Drawn, so that things are where they will be.
    texts : sequence of (str, str, (float, float))
        What to write, its colour, and the point that it names, in data coordinates.
    """
    lines = [
        line.get_transform().transform_path(line.get_path())
        for line in axes.lines
        if line.get_linestyle() != "None"
    ]
    markers = axes.transData.transform([at for *_, at in texts])
    taken = [Bbox([marker, marker]).padded(4) for marker in markers]
    for text, colour, at in texts:
        tried = [
            axes.annotate(
                text,
                at,
                (right * 5, up * 4),
                textcoords="offset points",
                ha="left" if right > 0 else "right",
                va="bottom" if up > 0 else "top",
                fontsize=7,
                color=colour,
            )
            for right, up in CORNERS
        ]
        boxes = [one.get_window_extent() for one in tried]
        covered = [
            (
                sum(map(box.overlaps, taken)),
                sum(line.intersects_bbox(box, filled=False) for line in lines),
            )
            for box in boxes
        ]
        best = covered.index(min(covered))
        taken.append(boxes[best])
        for one in (*tried[:best], *tried[best + 1 :]):
            one.remove()


def picture(report: ComparisonReport, titles: Mapping[str, str]) -> str:
    """Return the BD-rate over mean SSIM of every encoder over the time that it takes, as SVG.

    Efforts of ours are joined by a line; encoders without us are hollow.

    Parameters
    ----------
    report : ComparisonReport
        Of all encoders.
    titles : mapping of str to str
        What people call their streams.
    """
    reference, labels = report.reference.name, labels_of(report)
    pairs = {one.name: compare_pair(report, one.name, reference) for one in report.encoders}
    tests = {one.name for one in report.encoders if one.role == "test"}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for title, ink in INK.items():
            points = {
                name: (pair.time, pair.mean_rate)
                for name, pair in pairs.items()
                if titles[name] == title
            }
            ours = [at for name, at in points.items() if name in tests]
            others = [at for name, at in points.items() if name not in tests]
            if ours:
                axes.plot(*zip(*ours, strict=True), "o-", color=ink, label=f"ssimrdo, {title}")
            if others:
                label = f"{title} without ssimrdo"
                axes.plot(*zip(*others, strict=True), "s", color=ink, mfc="none", label=label)
        axes.set_xscale("log")
        axes.set_xlabel(f"encode time, times that of {labels[reference]}")
        axes.set_ylabel("bit rate at equal SSIM, %")
        plain_ticks(axes.xaxis)
        axes.legend()
        figure.draw_without_rendering()
        write_beside(
            axes,
            [
                (
                    labels[name].rpartition("effort=")[2] if name in tests else labels[name],
                    INK[titles[name]],
                    (pair.time, pair.mean_rate),
                )
                for name, pair in pairs.items()
            ],
        )

    return svg(draw, 4.2, 1.6)


def rates(options: argparse.Namespace) -> dict[str, str]:
    """Compare, draw where that is asked for, and return the block of the page."""
    settings = CompareSettings(
        anchors=tuple(options.anchor or ANCHORS),
        tests=tuple(options.test or every_effort()),
        slices=options.slices,
        jobs=options.jobs,
    )
    titles = titles_of(settings)
    report, decoding = measured(options, settings)
    if options.figure is not None:
        write_whole(options.figure, picture(report, titles).encode(), overwrite=True)
    notes = wrapped(
        f"Bit rate against {report.reference.label} at equal quality (BD-rate), negative is a "
        "saving: mean over these clips; behind a mean is how many define it, where not all do. "
        "Encode time is a multiple of that of the first row; decode time is that of a slice on "
        "one core by FFmpeg, of AV1 by its dav1d, as a mean over all clips and points. "
        f"{TIMING_NOTES.get(report.timing, '')}"
    )
    return {
        "codecs": f"{wrapped(about(SCRIPT, report))}\n\n{notes}\n\n"
        f"{rates_table(report, titles, decoding)}"
    }


def shown_text(
    shown: Sequence[NDArray[Any]] | None, luma: Sequence[NDArray[Any]], bit_depth: int
) -> str:
    """Return what a browser made of a video, in a word or two.

    Parameters
    ----------
    shown : sequence of ndarray, optional
        Grey levels of slices; None where it plays none.
    luma : sequence of ndarray
        The same slices as FFmpeg decodes them, at ``bit_depth``.
    bit_depth : int
        Bits per sample.
    """
    if shown is None:
        return "no"
    scale = 255 / (2**bit_depth - 1)
    pairs = zip(shown, luma, strict=True)
    largest = max(np.abs(grey - scale * decoded).max() for grey, decoded in pairs)
    return "yes" if largest < 1 else f"off by {largest:.0f} grey levels"


def players() -> dict[str, str]:
    """Try Chromium with every codec and return the block of the page."""
    series, _ = open_series(PHANTOM)
    headers = series.slices[8 : 8 + len(SHOWN)]
    frames = {
        depth: [load_luma(one, NAMED_WINDOWS["soft-tissue"], bit_depth=depth) for one in headers]
        for depth in TRIED_DEPTHS
    }
    rows = []
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        for name, codec in NAMED.items():
            if codec.lacking() is not None:
                continue
            cells = []
            for suffix in TRIED_SUFFIXES:
                for bit_depth in TRIED_DEPTHS:
                    # Sidecars are told apart by what stands before the suffix.
                    path = Path(folder) / f"{name}-{bit_depth}-{suffix[1:]}{suffix}"
                    encode_frames(frames[bit_depth], path, codec=name, bit_depth=bit_depth, crf=CRF)
                    shown = frames_shown(browser, path, Fraction(25), SHOWN)
                    luma = list(decoded_luma(path))
                    cells.append(shown_text(shown, [luma[at] for at in SHOWN], bit_depth))
            rows.append((codec.title, *cells))
        version = browser.capabilities["browserVersion"]
    heads = [f"`{suffix}`, {depth} bit" for suffix in TRIED_SUFFIXES for depth in TRIED_DEPTHS]
    text = wrapped(
        f"Chromium {version} on Linux, without a graphics card: slices are drawn to a "
        "canvas and read back. “Yes” says that all have the grey levels that FFmpeg decodes, to "
        "within rounding."
    )
    return {"chromium": f"{text}\n\n{table(['', *heads], rows)}"}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=SCRIPT,
        description=__doc__,
        epilog="Example, a quick look: scripts/codecs --slices 4 --series phantom",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--update", action="store_true", help="put tables and picture into docs/")
    add("--only", choices=("rates", "chromium"), help="only this of the two")
    add("--figure", type=Path, metavar="SVG", help="draw rates over times")
    add_compare_options(
        parser,
        anchors=" ".join(ANCHORS),
        tests="every codec at every effort",
        slices=SLICES,
    )
    options = parser.parse_args()
    if options.update:
        options.figure = FIGURE
    return options


def work(options: argparse.Namespace) -> None:
    """Print each block of the page as soon as it is known, and write it if that is asked for."""
    parts: list[Callable[[], dict[str, str]]] = []
    if options.only != "rates":
        if CHROMIUM is None or DRIVER is None:
            print(f"{SCRIPT}: chromium or chromedriver is not installed", file=sys.stderr)
        else:
            parts.append(players)
    if options.only != "chromium":
        parts.append(partial(rates, options))
    for part in parts:
        blocks = part()
        print("\n\n".join(blocks.values()), flush=True)
        if options.update:
            update(PAGE, blocks)


def main() -> int:
    """Run the comparison and return the exit status."""
    options = parse_arguments()
    messages_to_stderr(SCRIPT)
    # SVT-AV1 would write its settings to stderr; there is no other switch.
    os.environ.setdefault("SVT_LOG", "1")
    return exit_status(SCRIPT, partial(work, options))


if __name__ == "__main__":
    sys.exit(main())
