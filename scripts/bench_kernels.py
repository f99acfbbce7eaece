"""Time the analysis, SSIM and quality on the slices of a series, on one thread; print JSON.

Run by ``bench_encode.py`` in a process of its own, because thread limits hold only where they are
in the environment before NumPy and Numba are imported.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from bench_encode import Kernels
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from ssimrdo import metrics
from ssimrdo.codecs.base import ConstantQuality, Steering
from ssimrdo.codecs.roles import Role
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x264.steering import quantizer_offsets
from ssimrdo.dicom import Window, open_series
from ssimrdo.dicom.luma import load_luma
from ssimrdo.encoding.passes import PassSettings, stream_settings
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import FramePair, ssim
from ssimrdo.objective import SSIM
from ssimrdo.video.decode import decoded_luma

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
    value = structural_similarity(  # type: ignore[no-untyped-call]
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    return float(value)


def seconds(function: Callable[..., object], *arguments: object) -> float:
    """Return the processor time of one call, all threads taken together.

    On an idle machine it equals the wall time; on a busy one the wall time of the slower function
    also counts the turns of other programs.
    """
    started = time.process_time()
    function(*arguments)
    return time.process_time() - started


def analyse(luma: Luma) -> None:
    """Do what an encode does to know the quantizer offsets of a slice."""
    frame_format = FrameFormat(*luma.shape)
    steering = Steering(SSIM.lagrange_ratio(luma, frame_format), Role.FORWARD)
    quantizer_offsets(luma, steering, data_range=frame_format.peak)


def encode(sources: list[Luma]) -> None:
    """Encode slices with stock x264, at CRF 23 and preset medium, on one thread."""
    settings = PassSettings(X264(preset="medium"), ConstantQuality(23), threads=1)
    stream = stream_settings(FrameFormat(*sources[0].shape), settings, settings.codec.syntax)
    with settings.codec.open(stream) as session:
        for index, luma in enumerate(sources):
            deque(session.encode(stream.format.pad(luma), Steering(), index), maxlen=0)
        deque(session.flush(), maxlen=0)


def evaluate(pairs: list[tuple[Luma, Luma]]) -> None:
    """Measure slices with the indices that every encode measures."""
    everyday = [metrics.get(name) for name in metrics.names() if metrics.get(name).everyday]
    for x, y in pairs:
        metrics.measure(FramePair(x, y, FrameFormat(*x.shape)), everyday)


def measure(
    spread: list[tuple[Luma, Luma]], successive: list[tuple[Luma, Luma]], repeats: int
) -> Kernels:
    """Return medians of milliseconds per slice; what is compared is called in turns."""
    x, _ = spread[0]
    # These calls also load the kernels.
    analyse(x)
    differences = [abs(ssim(x, y) - reference_ssim(x, y)) for x, y in spread]
    evaluate(successive[:1])
    analysis = [seconds(analyse, x) for _ in range(repeats) for x, _ in spread]
    ssims = [
        (seconds(ssim, x, y), seconds(reference_ssim, x, y))
        for _ in range(repeats)
        for x, y in spread
    ]
    # x264 predicts a slice from the ones beside it.
    sources = [x for x, _ in successive]
    whole = [(seconds(evaluate, successive), seconds(encode, sources)) for _ in range(repeats)]
    ours, reference = (1000 * median(column) for column in zip(*ssims, strict=True))
    quality, x264 = (1000 * median(column) / len(sources) for column in zip(*whole, strict=True))
    rows, columns = x.shape
    return Kernels(
        slices=len(spread),
        size=f"{columns}x{rows}",
        largest_difference=max(differences),
        analysis_ms=1000 * median(analysis),
        ssim_ms=ours,
        reference_ms=reference,
        quality_ms=quality,
        x264_ms=x264,
    )


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
    measured = measure(slice_pairs(*what, pick), slice_pairs(*what, neighbours), options.repeats)
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
