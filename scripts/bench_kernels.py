"""Time the analysis, SSIM and quality on the slices of a series, on one thread; print JSON.

Run by ``bench_encode.py`` in a process of its own, because thread limits hold only where they are
in the environment before NumPy and Numba are imported.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from ssimrdo import EncodeSettings
from ssimrdo.codecs.x264 import Encoder
from ssimrdo.codecs.x264.parameters import encoder_parameters
from ssimrdo.dicom import open_series
from ssimrdo.dicom.grey import Window
from ssimrdo.dicom.luma import load_luma
from ssimrdo.metrics import slice_quality, ssim
from ssimrdo.objective import quantizer_offsets
from ssimrdo.video import decoded_luma

Luma = NDArray[Any]


def pick(count: int, wanted: int) -> set[int]:
    """Return up to ``wanted`` slice numbers, evenly spread over ``count``."""
    return {int(i) for i in np.linspace(0, count - 1, min(count, wanted))}


def neighbours(count: int, wanted: int) -> set[int]:
    """Return up to ``wanted`` successive slice numbers from the middle of ``count``."""
    first = max((count - wanted) // 2, 0)
    return set(range(first, min(first + wanted, count)))


def slice_pairs(
    series: Path, video: Path, window: Window, wanted: int, choose: Callable[[int, int], set[int]]
) -> list[tuple[Luma, Luma]]:
    """Return source and decoded luma of some slices of a series that was encoded to ``video``."""
    headers = open_series(series)[0].slices
    picked = choose(len(headers), wanted)
    sources = {i: load_luma(headers[i], window) for i in sorted(picked)}
    # The coded size is even, which the source's need not be.
    return [
        (sources[i], shown[: sources[i].shape[0], : sources[i].shape[1]])
        for i, shown in enumerate(decoded_luma(video))
        if i in picked
    ]


def reference_ssim(x: Luma, y: Luma) -> float:
    """Return mean SSIM as scikit-image has it, with the window of the SSIM paper."""
    return float(
        structural_similarity(
            x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
    )


def seconds(function: Callable[..., object], *arguments: object) -> float:
    """Return the processor time of one call, all threads taken together.

    On an idle machine it equals the wall time; on a busy one the wall time of the slower function
    also counts the turns of other programs.
    """
    started = time.process_time()
    function(*arguments)
    return time.process_time() - started


def measure(pairs: list[tuple[Luma, Luma]], repeats: int) -> dict[str, Any]:
    """Return median milliseconds per slice; the two SSIMs are called in turns."""
    x, _ = pairs[0]
    # These calls also load the kernels.
    analyse = partial(quantizer_offsets, frame_type="P")
    analyse(x)
    differences = [abs(ssim(x, y) - reference_ssim(x, y)) for x, y in pairs]
    analysis = [seconds(analyse, x) for _ in range(repeats) for x, _ in pairs]
    compared = [
        (seconds(ssim, x, y), seconds(reference_ssim, x, y))
        for _ in range(repeats)
        for x, y in pairs
    ]
    ours, reference = zip(*compared, strict=True)
    rows, columns = x.shape
    return {
        "slices": len(pairs),
        "size": f"{columns}x{rows}",
        "largest_difference": max(differences),
        "analysis_ms": 1000 * median(analysis),
        "ssim_ms": 1000 * median(ours),
        "reference_ms": 1000 * median(reference),
    }


def encode(sources: list[Luma]) -> None:
    """Encode slices with stock x264, at CRF 23 and preset medium, on one thread."""
    rows, columns = sources[0].shape
    parameters = encoder_parameters(
        EncodeSettings(rdo="off", threads=1),
        width=columns,
        height=rows,
        sample_aspect_ratio=Fraction(1),
        raw_stream=True,
    )
    with Encoder(parameters) as encoder:
        for number, luma in enumerate(sources):
            encoder.encode(luma, None, pts=number)
        for _ in encoder.flush():
            pass


def evaluate(pairs: list[tuple[Luma, Luma]]) -> None:
    """Measure slices with all metrics but MS-SSIM."""
    for x, y in pairs:
        slice_quality(x, y, bit_depth=8)


def measure_quality(pairs: list[tuple[Luma, Luma]], repeats: int) -> dict[str, float]:
    """Return milliseconds per slice of evaluation and of x264, medians of turns."""
    sources = [x for x, _ in pairs]
    evaluate(pairs[:1])
    times = [(seconds(evaluate, pairs), seconds(encode, sources)) for _ in range(repeats)]
    ours, x264 = (1000 * median(column) / len(pairs) for column in zip(*times, strict=True))
    return {"quality_ms": ours, "x264_ms": x264}


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--window", type=float, nargs=2, required=True)
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    what = (options.series, options.video, Window(*options.window), options.slices)
    measured = measure(slice_pairs(*what, pick), options.repeats)
    # x264 predicts a slice from the ones beside it.
    measured |= measure_quality(slice_pairs(*what, neighbours), options.repeats)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
