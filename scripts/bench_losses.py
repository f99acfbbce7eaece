"""Measure what losses and their gradients take on one slice and one core.

Times are processor times, which other programs on the machine affect little, each the median of
several calls, all losses in turns. The slice is one of the phantom, 512x512, with noise. PyTorch,
where it is there, goes forward and backward with one frame in single precision, as does
torchmetrics, whose SSIM and MS-SSIM are the same but at the border.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmark_tables import replace_block
from numpy.typing import NDArray

from ssimrdo import losses
from ssimrdo.dicom import Window, apply_window, load_hu, open_series
from ssimrdo.machine import processor
from ssimrdo.metrics import ssim

ROOT = Path(__file__).resolve().parents[1]
TITLES = {
    "one_minus_ssim": "1 - SSIM",
    "reciprocal_ssim": "1/SSIM",
    "one_minus_weighted_ssim": "1 - weighted SSIM",
    "one_minus_lwssim": "1 - LWSSIM",
    "one_minus_ms_ssim": "1 - MS-SSIM",
    "one_minus_cw_ssim": "1 - CW-SSIM",
}
COLUMNS = ("value", "with gradient", "in doubles", "PyTorch", "torchmetrics")

Frame = NDArray[Any]


def frames() -> tuple[Frame, Frame]:
    """Return a slice of the phantom from 0 to 1, and the same with noise, in float32."""
    series, _ = open_series(ROOT / "data" / "phantom")
    luma = apply_window(load_hu(series.slices[12]), Window(40, 400))
    x = np.asarray(luma / np.float32(255), np.float32)
    noise = np.random.default_rng(0).normal(0, 0.03, x.shape)
    return x, np.asarray(np.clip(x + noise, 0, 1), np.float32)


def calls(x: Frame, y: Frame) -> dict[tuple[str, str], Callable[[], Any]]:
    """Return what is measured, by loss and column."""
    found: dict[tuple[str, str], Callable[[], Any]] = {}
    wide = x.astype(np.float64), y.astype(np.float64)
    for name in TITLES:
        loss = partial(getattr(losses, name), data_range=1)
        found[name, "value"] = partial(loss, x, y, gradient=False)
        found[name, "with gradient"] = partial(loss, x, y)
        found[name, "in doubles"] = partial(loss, *wide)
    if find_spec("torch"):
        found |= torch_calls(x, y)
    return found


def torch_calls(x: Frame, y: Frame) -> dict[tuple[str, str], Callable[[], Any]]:
    """Return what is measured in PyTorch, on one thread."""
    import torch

    from ssimrdo.losses import torch as torch_losses

    torch.set_num_threads(1)
    target, start = (torch.from_numpy(frame)[None, None] for frame in (x, y))

    def step(loss: Callable[..., Any]) -> None:
        frame = start.clone().requires_grad_()
        loss(frame, target, data_range=1.0).backward()

    found: dict[tuple[str, str], Callable[[], Any]] = {
        (name, "PyTorch"): partial(step, getattr(torch_losses, name)) for name in TITLES
    }
    if find_spec("torchmetrics"):
        from torchmetrics.functional import image

        for name, peer in (
            ("one_minus_ssim", image.structural_similarity_index_measure),
            ("one_minus_ms_ssim", image.multiscale_structural_similarity_index_measure),
        ):
            found[name, "torchmetrics"] = partial(step, peer)
    return found


def milliseconds(
    functions: dict[tuple[str, str], Callable[[], Any]], rounds: int
) -> dict[tuple[str, str], float]:
    """Return the median processor time of each function in milliseconds, called in turns."""
    times: dict[tuple[str, str], list[float]] = {key: [] for key in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for key, function in functions.items():
            before = time.process_time()
            function()
            times[key].append(1000 * (time.process_time() - before))
    return {key: median(taken) for key, taken in times.items()}


def table(times: dict[tuple[str, str], float]) -> str:
    """Return the times as a table in Markdown, and what they were measured with."""
    lines = [f"| loss | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, title in TITLES.items():
        cells = (
            f"{times[name, column]:.1f}" if (name, column) in times else "" for column in COLUMNS
        )
        lines.append(f"| {title} | {' | '.join(cells)} |")
    of_ssim = times["ssim", "value"]
    ratio = times["one_minus_ssim", "with gradient"] / of_ssim
    lines += [
        "",
        f"`ssimrdo.metrics.ssim` takes {of_ssim:.1f} ms; 1 - SSIM with its gradient {ratio:.1f} "
        f"times as long. ({processor()}; `scripts/bench_losses`, {datetime.now():%Y-%m-%d}.)",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25, help="calls of each (default: 25)")
    parser.add_argument("--update", action="store_true", help="write the table to docs/losses.md")
    arguments = parser.parse_args()
    x, y = frames()
    functions = calls(x, y)
    functions["ssim", "value"] = partial(ssim, x, y, data_range=1)
    text = table(milliseconds(functions, arguments.rounds))
    print(text)
    if arguments.update:
        document = ROOT / "docs" / "losses.md"
        document.write_text(replace_block(document.read_text(), text, name="costs"))


if __name__ == "__main__":
    main()
