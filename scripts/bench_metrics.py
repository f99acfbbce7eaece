"""Measure what quality indices take on one slice and one core, against piq and torchmetrics.

Times are processor times, which other programs on the machine affect little; each is the median of
several calls. Ours and those of other packages are called in turns, in this one run. Ours are given
the frames as they are decoded, the others float32 tensors that were made beforehand.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from bench_peers import load_piq
from benchmark_tables import replace_block
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ssimrdo import metrics
from ssimrdo.dicom import Window, apply_window, load_hu, open_series
from ssimrdo.files import write_whole
from ssimrdo.frames import FrameFormat
from ssimrdo.losses import one_minus_ssim
from ssimrdo.machine import processor
from ssimrdo.metrics import FramePair

ROOT = Path(__file__).resolve().parents[1]
PHANTOM = ROOT / "data" / "phantom"
QUALITY = ROOT / "docs" / "quality.md"
BLOCK = "indices"
"""Name of the block of docs/quality.md that the table goes to."""

WHOLE_TABLE_MS: Final = 250.0
"""What all indices together may take."""

GRADIENT_RATIO: Final = 3.0
"""How many times as long as SSIM its gradient may take."""

LEAST_SIDE: Final = 176
"""Samples a side from which on all indices of the others have all their scales."""

Peers = Mapping[str, Mapping[str, Callable[[], Any]]]


@dataclass(frozen=True)
class Row:
    """What one index takes.

    Parameters
    ----------
    name : str
        Of the index.
    value : float
        Of the slice.
    ms : float
        Processor time of one call, with nothing kept from other indices.
    peers : dict of str to float
        Processor times of other packages' in ms.
    """

    name: str
    value: float
    ms: float
    peers: dict[str, float]

    @property
    def ratio(self) -> float | None:
        """How many times as long the fastest of the others takes; None without any."""
        return min(self.peers.values()) / self.ms if self.peers else None


@dataclass(frozen=True)
class Report:
    """All that was measured.

    Parameters
    ----------
    date, processor : str
        When and on what.
    versions : dict of str to str
        Of the packages.
    frame : str
        Size and depth.
    rows : list of Row
        Indices.
    table_ms : float
        All indices of one pair of frames, which share what they are made from.
    ssim_ms, gradient_ms : float
        1 - SSIM as a loss, without and with its gradient.
    """

    date: str
    processor: str
    versions: dict[str, str]
    frame: str
    rows: list[Row]
    table_ms: float
    ssim_ms: float
    gradient_ms: float

    def as_dict(self) -> dict[str, Any]:
        """Return what is printed as JSON."""
        rows = [{**asdict(row), "ratio": row.ratio} for row in self.rows]
        return {**asdict(self), "rows": rows, "gradient_ratio": self.gradient_ms / self.ssim_ms}


def frames(side: int, depth: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a slice of the phantom in a soft-tissue window, and the same blurred and noisy."""
    peak = (1 << depth) - 1
    series, _ = open_series(PHANTOM)
    hu = load_hu(series.slices[10])
    repeats = -(-side // min(hu.shape))
    hu = np.tile(hu, (repeats, repeats))[:side, :side]
    x = apply_window(hu, Window(40, 400), bit_depth=depth)
    noise = np.random.default_rng(0).normal(0, peak / 100, x.shape) * (x > 0)
    y = np.clip(gaussian_filter(x.astype(np.float64), 0.6) + noise, 0, peak)
    return x, np.rint(y).astype(x.dtype)


def peers_of(x: NDArray[Any], y: NDArray[Any], peak: int) -> Peers:
    """Return other packages' indices of two frames, by the names of ours and of the package."""
    try:
        import torch
        from torchmetrics.functional import image, regression

        piq = load_piq()
    except ImportError as error:
        print(f"bench_metrics: there is nothing to compare with: {error}", file=sys.stderr)
        return {}
    torch.set_num_threads(1)
    a, b = (torch.from_numpy(frame.astype(np.float32))[None, None] for frame in (x, y))
    span = {"data_range": float(peak)}
    ssim = {"kernel_size": 11, "downsample": False, **span}
    medical = {"c": 5.0, "alpha": 4.9, **span}
    found: dict[str, dict[str, Callable[[], Any]]] = {
        "ssim": {
            "piq": partial(piq.ssim, b, a, **ssim),
            "torchmetrics": partial(image.structural_similarity_index_measure, b, a, **span),
        },
        "ms_ssim": {
            "piq": partial(piq.multi_scale_ssim, b, a, **span),
            "torchmetrics": partial(
                image.multiscale_structural_similarity_index_measure, b, a, **span
            ),
        },
        "iw_ssim": {"piq": partial(piq.information_weighted_ssim, b, a, **span)},
        "gmsd": {"piq": partial(piq.gmsd, b, a, **span)},
        "haarpsi": {"piq": partial(piq.haarpsi, b, a, **span)},
        "haarpsi_med": {"piq": partial(piq.haarpsi, b, a, **medical)},
        "vifp": {"piq": partial(piq.vif_p, b, a, **span)},
        "fsim": {"piq": partial(piq.fsim, b, a, chromatic=False, **span)},
        "psnr": {
            "piq": partial(piq.psnr, b, a, **span),
            "torchmetrics": partial(image.peak_signal_noise_ratio, b, a, **span),
        },
        "mse": {"torchmetrics": partial(regression.mean_squared_error, b, a)},
    }
    if peak == 255:
        # It takes no other range.
        found["vifp"]["torchmetrics"] = partial(image.visual_information_fidelity, b, a)
    return found


def milliseconds(function: Callable[[], object]) -> float:
    """Return the processor time of one call, all threads taken together."""
    started = time.process_time_ns()
    function()
    return (time.process_time_ns() - started) / 1e6


def in_turns(functions: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median time of each of some functions, called in turns."""
    for function in functions:
        # Loads what is compiled, and fills caches.
        function()
    times = [[milliseconds(function) for function in functions] for _ in range(repeats)]
    return [median(column) for column in zip(*times, strict=True)]


def measure(side: int, depth: int, repeats: int) -> Report:
    """Measure all indices on a slice."""
    x, y = frames(side, depth)
    frame_format = FrameFormat(side, side, depth)
    peak = frame_format.peak
    indices = [metrics.get(name) for name in metrics.names()]
    peers = peers_of(x, y, peak)

    def fresh() -> FramePair:
        return FramePair(x, y, frame_format)

    rows = []
    for index in indices:
        others = peers.get(index.name, {})

        def ours(index: metrics.QualityIndex = index) -> float:
            return index.value(fresh())

        ms, *theirs = in_turns([ours, *others.values()], repeats)
        rows.append(Row(index.name, ours(), ms, dict(zip(others, theirs, strict=True))))
        print(f"bench_metrics: {index.name}", file=sys.stderr)
    table, loss, gradient = in_turns(
        [
            lambda: metrics.measure(fresh(), indices),
            lambda: one_minus_ssim(x, y, data_range=peak, gradient=False),
            lambda: one_minus_ssim(x, y, data_range=peak),
        ],
        repeats,
    )
    packages = ("numpy", "numba", "scipy", *(("torch", "piq", "torchmetrics") if peers else ()))
    return Report(
        date=datetime.now().date().isoformat(),
        processor=processor(),
        versions={name: version(name) for name in packages},
        frame=f"{x.shape[1]}x{x.shape[0]}, {depth} bit",
        rows=rows,
        table_ms=table,
        ssim_ms=loss,
        gradient_ms=gradient,
    )


def table(report: Report) -> str:
    """Return a report as a table of Markdown, with a line on what was aimed at."""
    packages = sorted({name for row in report.rows for name in row.peers})
    head = ["index", "ms", *(f"{name}, ms" for name in packages), "times as fast"]
    lines = [" | ".join(head), " | ".join(["---", *["---:"] * (len(head) - 1)])]
    for row in report.rows:
        theirs = [f"{row.peers[name]:.1f}" if name in row.peers else "" for name in packages]
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}"
        lines.append(" | ".join([f"`{row.name}`", f"{row.ms:.2f}", *theirs, ratio]))
    longer = report.gradient_ms / report.ssim_ms
    return "\n".join(
        [
            *(f"| {line} |" for line in lines),
            "",
            f"All together: {report.table_ms:.0f} ms (aim: {WHOLE_TABLE_MS:.0f}). SSIM with its "
            f"gradient: {report.gradient_ms:.2f} ms, {longer:.1f} times as long as the "
            f"{report.ssim_ms:.2f} ms without (aim: {GRADIENT_RATIO:.0f}).",
            f"{report.frame}, {report.processor}, one core, {report.date}; "
            + ", ".join(f"{name} {number}" for name, number in report.versions.items())
            + ".",
        ]
    )


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--repeats", type=int, default=25, help="calls of each (default: 25)")
    parser.add_argument("--side", type=int, default=512, help="samples a side (default: 512)")
    parser.add_argument("--depth", type=int, default=8, help="bits per sample (default: 8)")
    parser.add_argument("--update", action="store_true", help="write the table to docs/quality.md")
    options = parser.parse_args()
    if options.repeats < 1 or options.side < LEAST_SIDE or not 8 <= options.depth <= 16:
        parser.error(
            f"takes 1 repeat or more, {LEAST_SIDE} samples a side or more, and 8 to 16 bits"
        )
    report = measure(options.side, options.depth, options.repeats)
    if options.update:
        page = replace_block(QUALITY.read_text(), table(report), name=BLOCK)
        write_whole(QUALITY, page.encode(), overwrite=True)
    print(json.dumps(report.as_dict(), indent=2) if options.json else table(report))


if __name__ == "__main__":
    main()
