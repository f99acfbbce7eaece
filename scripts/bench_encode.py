"""Measure ssimrdo against its targets; every comparison is measured in turns, in this one run.

Parts: speed (ssimrdo encode, --rdo ssim over --rdo off), analysis (quantizer offsets per slice),
ssim (against scikit-image), quality (evaluation of a slice over its encode with x264), memory
(2,000 slices over 200), help (ssimrdo --help), saving (BD-rate against x264, both at QP 22, 27, 32
and 37), floor (what --min-ssim saves against one CRF for all slices) and cpu (ssimrdo encode over
the x264 program on raw frames, and what any encode takes on top).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SSIMRDO = Path(sys.executable).with_name("ssimrdo")
# The search of stock x264, so that the offsets alone are measured.
OFFSETS_ALONE = ("--rdo", "ssim", "--preset", "medium")
X264_ALONE = ("--rdo", "off", "--preset", "medium")
FLOOR = 0.95
QPS = (22, 27, 32, 37)
INDICES = {"ssim": "mean SSIM", "weighted_ssim": "mean weighted SSIM"}
X264 = shutil.which("x264")
SHORT_SLICES, SHORT_SIDE = 8, 64
MEMORY_SIDE = 256
MEMORY_SLICES = (200, 2000)
THREAD_LIMITS = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)

# What pip installs is compiled to byte code, whatever this shell says.
AS_INSTALLED = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Line:
    """One line of the report.

    Parameters
    ----------
    what : str
        What was measured, with the figures behind the value.
    value : float
        The measured value.
    unit : str
        Unit, or nothing for a ratio.
    target : float, optional
        Bound on the value.
    at_least : bool
        Whether the target is a lower bound.
    """

    what: str
    value: float
    unit: str = ""
    target: float | None = None
    at_least: bool = False

    def columns(self) -> tuple[str, str, str, str]:
        """Return the line as text: what, value, target, verdict."""
        if self.target is None:
            return self.what, self._text(self.value), "", ""
        met = self.value >= self.target if self.at_least else self.value <= self.target
        bound = f"{'>=' if self.at_least else '<='} {self.target:g} {self.unit}".rstrip()
        return self.what, self._text(self.value), bound, "met" if met else "MISSED"

    def _text(self, value: float) -> str:
        digits = f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:#.4g}"
        return f"{digits} {self.unit}".rstrip()


@dataclass(frozen=True)
class Run:
    """One finished encode: wall and CPU seconds, peak memory in MB, and the JSON of ours."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    result: Mapping[str, Any]


@dataclass(frozen=True)
class Kernels:
    """What ``bench_kernels.py`` measures: processor time per slice in milliseconds.

    Parameters
    ----------
    slices : int
        Slices that were measured.
    size : str
        Columns and rows of a slice.
    largest_difference : float
        Between our SSIM of a slice and scikit-image's.
    analysis_ms, ssim_ms, reference_ms : float
        Quantizer offsets, our SSIM, scikit-image's.
    quality_ms, x264_ms : float
        Every index that an encode measures; the encode with x264.
    """

    slices: int
    size: str
    largest_difference: float
    analysis_ms: float
    ssim_ms: float
    reference_ms: float
    quality_ms: float
    x264_ms: float


@dataclass(frozen=True)
class Curve:
    """Bit rates of some encodes, and their mean qualities by index."""

    kbps: tuple[float, ...]
    quality: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Curve:
        """Return the curve of encodes of one series."""
        means = {
            index: tuple(float(run.result[index]["mean"]) for run in runs) for index in INDICES
        }
        return cls(tuple(float(run.result["kbps"]) for run in runs), means)


class Bench:
    """What the parts share: the series, the numbers of repeats and a folder for files."""

    def __init__(self, series: list[Path], folder: Path, *, quick: bool) -> None:
        self.series = series
        self.folder = folder
        self.quick = quick
        self.curves: dict[str, tuple[Curve, Curve]] = {}

    def encode(self, series: Path, *options: str) -> Run:
        """Run ``ssimrdo encode`` on a series; its output is ``self.video``."""
        arguments = ["encode", str(series), "-o", str(self.video), "--overwrite", "--json"]
        return self.run(str(SSIMRDO), *arguments, *options)

    def run(self, *command: str) -> Run:
        """Run a command that prints JSON or nothing; end where it fails."""
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=AS_INSTALLED)
        assert process.stdout is not None
        with process.stdout:
            text = process.stdout.read()
        # Only wait4 tells one child's peak memory; Popen must learn that the child is gone. The
        # peak counts from the fork, so this process has to stay smaller than an encode.
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(process.returncode)
        cpu = usage.ru_utime + usage.ru_stime
        return Run(elapsed, cpu, usage.ru_maxrss / 1024, json.loads(text or "{}"))

    @property
    def video(self) -> Path:
        """The file that :meth:`encode` writes."""
        return self.folder / "bench.mp4"

    @cached_property
    def kernels(self) -> tuple[str, Kernels]:
        """Name of a series of 512x512 slices, and what ``bench_kernels.py`` measured on it."""
        for series in (*self.series, ROOT / "data" / "phantom"):
            result = self.encode(series).result
            if (result["width"], result["height"]) == (512, 512):
                break
        note(f"analysis and ssim: {series.name}")
        window = result["window"]
        script = ROOT / "scripts" / "bench_kernels.py"
        command = [sys.executable, str(script), str(series), str(self.video)]
        command += ["--window", str(window["center"]), str(window["width"])]
        command += ["--repeats", "2" if self.quick else "5"]
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, env={**os.environ, **THREAD_LIMITS}
        )
        return series.name, Kernels(**json.loads(done.stdout))


def note(message: str) -> None:
    """Tell the user how far the benchmark is."""
    print(f"bench_encode: {message}", file=sys.stderr, flush=True)


def in_turns(repeats: int, a: Callable[[], Run], b: Callable[[], Run]) -> list[tuple[Run, Run]]:
    """Run A and B in turns; what disturbs one then disturbs the other."""
    return [(a(), b()) for _ in range(repeats)]


def medians(pairs: list[tuple[Run, Run]], field: str) -> tuple[float, float]:
    """Return the median of one field for A and for B."""
    first, second = zip(*((getattr(a, field), getattr(b, field)) for a, b in pairs), strict=True)
    return median(first), median(second)


def speed(bench: Bench) -> Iterator[Line]:
    """Wall time of whole encodes, with and without rate-distortion optimisation."""
    for series in bench.series:
        note(f"speed: {series.name}")
        frames = bench.encode(series).result["frames"]  # and loads files and kernels once
        pairs = in_turns(
            3 if bench.quick else 5,
            partial(bench.encode, series, *X264_ALONE),
            partial(bench.encode, series, *OFFSETS_ALONE),
        )
        off, ssim = medians(pairs, "seconds")
        what = f"encode {series.name}, {frames} slices: ssim {ssim:.2f} s over off {off:.2f} s"
        yield Line(what, ssim / off, target=1.05)
        # Shows whether a wall ratio away from this one comes from other programs' work.
        off, ssim = medians(pairs, "cpu_seconds")
        yield Line(f"  its CPU time: ssim {ssim:.2f} s over off {off:.2f} s", ssim / off)


def analysis(bench: Bench) -> Iterator[Line]:
    """Analysis time per slice."""
    name, found = bench.kernels
    what = f"CPU time of the analysis per {found.size} slice, {found.slices} slices of {name}"
    yield Line(what, found.analysis_ms, "ms", target=1)


def ssim(bench: Bench) -> Iterator[Line]:
    """Speed and agreement of SSIM against scikit-image."""
    name, found = bench.kernels
    ours, theirs = found.ssim_ms, found.reference_ms
    what = f"CPU time, {found.size}: skimage {theirs:.1f} ms over ssimrdo.metrics {ours:.2f} ms"
    yield Line(what, theirs / ours, target=30, at_least=True)
    what = f"largest SSIM difference, {found.slices} slices of {name}"
    yield Line(what, found.largest_difference, target=1e-5)


def quality(bench: Bench) -> Iterator[Line]:
    """Time of the evaluation of a slice over that of its encode with x264."""
    _, found = bench.kernels
    ours, x264 = found.quality_ms, found.x264_ms
    what = f"CPU time, {found.size}: SSIM, weighted, PSNR {ours:.2f} ms over x264 {x264:.1f} ms"
    yield Line(what, ours / x264, target=1)


def memory(bench: Bench) -> Iterator[Line]:
    """Peak memory for a long series over that for a short one."""
    few, many = MEMORY_SLICES
    note(f"memory: making {many} slices")
    short, long = bench.folder / "short", bench.folder / "long"
    replicate_phantom(bench.folder / "phantom", long, many)
    short.mkdir()
    for path in sorted(long.iterdir())[:few]:
        (short / path.name).hardlink_to(path)
    note("memory: encoding")
    bench.encode(short)
    pairs = in_turns(
        1 if bench.quick else 3,
        partial(bench.encode, short, "--preset", "ultrafast"),
        partial(bench.encode, long, "--preset", "ultrafast"),
    )
    low, high = medians(pairs, "peak_mb")
    size = f"{MEMORY_SIDE}x{MEMORY_SIDE}, ultrafast"
    what = f"peak memory, {size}: {many} slices {high:.0f} MB over {few} {low:.0f} MB"
    yield Line(what, high / low, target=1.2)


def replicate_phantom(phantom: Path, folder: Path, slices: int) -> None:
    """Write a series that runs up and down through a short phantom."""
    import pydicom
    from pydicom.uid import generate_uid

    command = [str(SSIMRDO), "phantom", str(phantom), "--slices", "20", "--size", str(MEMORY_SIDE)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    sources = [pydicom.dcmread(path) for path in sorted(phantom.glob("*.dcm"))]
    cycle = sources + sources[-2:0:-1]
    x, y, z = sources[0].ImagePositionPatient
    step = float(sources[0].SliceThickness)
    folder.mkdir()
    for i in range(slices):
        copy = cycle[i % len(cycle)]
        copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        copy.InstanceNumber = i + 1
        copy.ImagePositionPatient = [x, y, float(z) + i * step]
        if "SliceLocation" in copy:
            copy.SliceLocation = float(z) + i * step
        copy.save_as(folder / f"{i:05}.dcm")


def help_time(bench: Bench) -> Iterator[Line]:
    """Wall time of ``ssimrdo --help``."""
    note("help")
    times = []
    for _ in range(3 if bench.quick else 7):
        started = time.perf_counter()
        subprocess.run([SSIMRDO, "--help"], check=True, stdout=subprocess.DEVNULL, env=AS_INSTALLED)
        times.append(time.perf_counter() - started)
    yield Line("ssimrdo --help", median(times), "s", target=0.3)


def saving(bench: Bench) -> Iterator[Line]:
    """BD-rate of the offsets alone against x264, both at QP 22, 27, 32, 37, over all slices."""
    found: dict[str, list[float]] = {index: [] for index in INDICES}
    for series in bench.series:
        note(f"saving: {series.name}")
        stock, ours = (
            Curve.of([bench.encode(series, *options, "--qp", str(qp)) for qp in QPS])
            for options in (X264_ALONE, OFFSETS_ALONE)
        )
        bench.curves[series.name] = stock, ours
        for index, name in INDICES.items():
            value, overlap = compare(stock, ours, index)
            found[index].append(value)
            yield Line(f"{name}, {series.name}, curves overlap by {overlap:.0%}", value, "%")
    if len(bench.series) > 1:
        for index, name in INDICES.items():
            yield Line(f"{name}, mean over the series", fmean(found[index]), "%")


def floor(bench: Bench) -> Iterator[Line]:
    """Bytes that raising single slices saves, where the worst one has to keep an SSIM."""
    for series in bench.series:
        note(f"floor: {series.name}")
        plain = bench.encode(series)
        run = bench.encode(series, "--min-ssim", str(FLOOR))
        found = run.result["search"]
        what = (
            f"--min-ssim {FLOOR:g}, {series.name}: {found['raised_slices']} slices raised at CRF "
            f"{found['crf']:g}, over CRF {found['plain_crf']:g} for all"
        )
        yield Line(what, -found["saved_percent"], "%")
        encodes = f"  its wall time over one encode's, {found['encodes']} encodes"
        yield Line(encodes, run.seconds / plain.seconds)


def cpu(bench: Bench) -> Iterator[Line]:
    """CPU time of ``encode --preset medium`` and of the x264 program on raw frames."""
    if X264 is None:
        note("cpu: the x264 program is not installed")
        return
    repeats = 3 if bench.quick else 7
    for series in bench.series:
        note(f"cpu: {series.name}")
        ours, stock = beside_x264(bench, series, repeats)
        what = f"CPU time of encode, {series.name}: {ours:.2f} s over x264 {stock:.2f} s"
        yield Line(what, ours / stock, target=1.6)
    note("cpu: a short series")
    short = bench.folder / "cpu"
    size = ("--slices", str(SHORT_SLICES), "--size", str(SHORT_SIDE))
    command = [str(SSIMRDO), "phantom", str(short), *size]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    ours, stock = beside_x264(bench, short, 2 * repeats)
    what = (
        f"CPU time of encode less that of x264, {SHORT_SLICES} slices of {SHORT_SIDE}x{SHORT_SIDE}"
    )
    yield Line(what, ours - stock, "s", target=0.4)


def beside_x264(bench: Bench, series: Path, repeats: int) -> tuple[float, float]:
    """Return medians of the CPU time of our encode and of x264's, both by its medium preset."""
    raw = bench.folder / "raw.yuv"
    # This also loads files and kernels once.
    bench.encode(series, "--preset", "medium")
    columns, rows, fps = write_raw(series, raw)
    frame = ("--input-res", f"{columns}x{rows}", "--fps", str(fps))
    # Not every build of the program writes MP4.
    stream = bench.folder / "x264.h264"
    quiet = ("--quiet", "--no-progress")
    stock = (str(X264), *quiet, "--preset", "medium", *frame, str(raw), "-o", str(stream))
    pairs = in_turns(
        repeats, partial(bench.encode, series, "--preset", "medium"), partial(bench.run, *stock)
    )
    return medians(pairs, "cpu_seconds")


def write_raw(series: Path, path: Path) -> tuple[int, int, Fraction]:
    """Write the frames that an encode of a series hands to x264, in its own window at 8 bit.

    Returns
    -------
    int, int, Fraction
        Columns and rows of a frame, and frames per second.
    """
    import numpy as np

    from ssimrdo.encoding.settings import EncodeSettings
    from ssimrdo.encoding.source import open_source

    settings = EncodeSettings()
    source = open_source(series, window=None, bit_depth=8, fps=settings.fps).frames
    shown = source.format.padded()
    with path.open("wb") as stream:
        for luma in source.frames():
            padded = shown.pad(luma)
            stream.write(padded.tobytes())
            stream.write(np.full(padded.size // 2, 128, np.uint8).tobytes())
    return shown.columns, shown.rows, shown.fps


def compare(anchor: Curve, test: Curve, index: str) -> tuple[float, float]:
    """Return the BD-rate in percent, and what share of the qualities reached both curves reach."""
    from ssimrdo.bd import RateQuality, bjontegaard

    found = bjontegaard(
        RateQuality(anchor.kbps, anchor.quality[index]), RateQuality(test.kbps, test.quality[index])
    )
    return found.rate_percent, found.overlap_quality


def draw(bench: Bench, path: Path) -> None:
    """Draw bit rate over mean SSIM, one panel for each series, from the saving part."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt
    from matplotlib import ticker

    from ssimrdo.html.text import percent

    # Text stays text, and the same figures give the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "ssimrdo", "font.size": 9})
    panels = len(bench.curves)
    figure, axes = plt.subplots(1, panels, figsize=(3.2 * panels, 3), squeeze=False)
    for axis, (name, curves) in zip(axes[0], bench.curves.items(), strict=True):
        styles = (("x264 --qp", "s--", "#8a8f98"), ("ssimrdo --qp", "o-", "#0b6e99"))
        for curve, (label, style, colour) in zip(curves, styles, strict=True):
            points = curve.kbps, curve.quality["ssim"]
            axis.plot(*points, style, color=colour, label=label, markersize=4)
        saved = percent(compare(*curves, "ssim")[0])
        axis.set(title=f"{name}: {saved} bit rate", xlabel="kbit/s", xscale="log")
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:.0f}"))
        axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("mean SSIM")
    axes[0][0].legend(frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


MEASURE: dict[str, Callable[[Bench], Iterator[Line]]] = {
    "speed": speed,
    "analysis": analysis,
    "ssim": ssim,
    "quality": quality,
    "memory": memory,
    "help": help_time,
    "saving": saving,
    "floor": floor,
    "cpu": cpu,
}


def header() -> str:
    """Return where, when and with what the figures were measured."""
    from ssimrdo.codecs.x264.encoder import x264_build
    from ssimrdo.machine import cores, processor

    packages = ("ssimrdo", "numpy", "numba", "scikit-image", "av")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    return "\n".join(
        [
            f"command   scripts/bench_encode {shlex.join(sys.argv[1:])}".rstrip(),
            f"date      {datetime.now().astimezone():%Y-%m-%d %H:%M %z}",
            f"CPU       {processor()}, {cores()} cores; load before: {load}",
            f"versions  Python {platform.python_version()}, {versions}, x264 {x264_build()}",
        ]
    )


def default_series() -> list[Path]:
    """Return every folder of $SSIMRDO_CT_DATA, or else the phantom."""
    data = os.environ.get("SSIMRDO_CT_DATA")
    if not data:
        return [ROOT / "data" / "phantom"]
    return sorted(path for path in Path(data).iterdir() if path.is_dir())


def parts(text: str) -> list[str]:
    """Read the value of ``--only``."""
    names = text.split(",")
    for name in names:
        if name not in MEASURE:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(MEASURE)}")
    return names


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="bench_encode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "series",
        nargs="*",
        type=Path,
        metavar="SERIES_FOLDER",
        help="series to encode; by default each folder of $SSIMRDO_CT_DATA, or data/phantom",
    )
    parser.add_argument("--figure", type=Path, metavar="SVG", help="draw the saving part's curves")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    every = list(MEASURE)
    parser.add_argument("--only", type=parts, default=every, metavar="PART,...", help="some parts")
    return parser.parse_args()


def print_table(bench: Bench, names: list[str]) -> None:
    """Measure the parts and print each line once it is known."""
    layout = "{:<76}  {:>9}  {:>9}  {}"
    print(layout.format("measured", "value", "target", "").rstrip(), flush=True)
    for name in names:
        measure = MEASURE[name]
        print(f"{name}: {measure.__doc__}", flush=True)
        for line in measure(bench):
            print(layout.format(*line.columns()).rstrip(), flush=True)


def main() -> int:
    """Measure and print; return 0 once all is measured, whether targets are met or not."""
    options = parse_arguments()
    print(header(), end="\n\n", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="ssimrdo-bench."))
    try:
        series = options.series or default_series()
        bench = Bench(series, folder, quick=options.quick)
        print_table(bench, options.only)
        if options.figure:
            draw(bench, options.figure)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
