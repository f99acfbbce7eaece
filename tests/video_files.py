"""A synthetic CT volume, independent views of encoded files, and the command line in-process."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from messages import without_life
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from numpy.typing import NDArray

SOFT_TISSUE = (40.0, 400.0)


def ct_volume(slices: int, rows: int, columns: int, *, seed: int = 0) -> NDArray[np.int16]:
    """Return HU of a noisy body in air with a vessel that wanders from slice to slice."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    body = x**2 / 0.85**2 + y**2 / 0.7**2 < 1
    volume = np.empty((slices, rows, columns), np.int16)
    for index, angle in enumerate(np.linspace(0, 3, slices)):
        hu = np.where(body, 40 + 30 * np.sin(9 * x + angle) * np.cos(7 * y), -1000)
        hu[np.hypot(x - 0.4 * np.cos(angle), y - 0.4 * np.sin(angle)) < 0.15] = 180
        noise = gaussian_filter(rng.normal(0, 25, hu.shape), 0.8)
        volume[index] = np.rint(np.maximum(hu + noise, -1024))
    return volume


def windowed(
    hu: NDArray[Any], window: tuple[float, float] = SOFT_TISSUE, *, bit_depth: int = 8
) -> NDArray[np.int64]:
    """Return grey levels by DICOM's LINEAR function (PS3.3 C.11.2.1.2.1)."""
    center, width = window
    grey = (hu.astype(float) - (center - 0.5)) / (width - 1) + 0.5
    return np.floor(np.clip(grey, 0, 1) * (2**bit_depth - 1) + 0.5).astype(np.int64)


def weighted_ssim(x: NDArray[Any], y: NDArray[Any], *, bit_depth: int = 8) -> float:
    """Return the mean of l^1.15 (c s)^0.95 over the 11x11 windows inside the frame, in doubles."""
    peak = 2**bit_depth - 1
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2

    def mean(values: NDArray[Any]) -> NDArray[Any]:
        return gaussian_filter(values.astype(float), 1.5, truncate=3.5)[5:-5, 5:-5]

    x, y = x.astype(float), y.astype(float)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    structure = (2 * cov + c2) / (vx + vy + c2)
    return float(np.mean(luminance**1.15 * np.sign(structure) * np.abs(structure) ** 0.95))


def frames_of(path: Path) -> list[av.VideoFrame]:
    """Return the decoded frames of a video file."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def plane(frame: av.VideoFrame, index: int = 0) -> NDArray[Any]:
    """Return one plane of a frame."""
    raw = frame.planes[index]
    dtype = np.dtype(np.uint8 if frame.format.components[0].bits == 8 else np.uint16)
    rows = np.frombuffer(memoryview(raw), dtype).reshape(raw.height, -1)
    return rows[:, : raw.width].copy()


def packets_of(path: Path) -> list[av.Packet]:
    """Return the packets of a video file in decoding order."""
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def slices_of(path: Path) -> list[bytes]:
    """Return the coded slices of a video file, whatever the container, without start codes."""
    if path.suffix == ".h264":
        units = path.read_bytes().replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    else:
        units = [unit for packet in packets_of(path) for unit in _split(bytes(packet))]
    return [unit for unit in units if unit and unit[0] & 0x1F in (1, 5)]


def _split(data: bytes) -> list[bytes]:
    """Split a packet of MP4 or Matroska, where a length of four bytes precedes each unit."""
    units = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        units.append(data[4:end])
        data = data[end:]
    return units


@dataclass(frozen=True)
class Completed:
    """What a command left behind; `err` is without what the machine's speed is to blame for."""

    status: int
    out: str
    err: str


def run_command(capfd: pytest.CaptureFixture[str], *arguments: object) -> Completed:
    """Run the command line in this process, which saves the start of an interpreter."""
    main = importlib.import_module("ssimrdo.cli.main").main
    logger = logging.getLogger("ssimrdo")
    handlers, level = list(logger.handlers), logger.level
    changed = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    on_signals = {number: signal.getsignal(number) for number in changed}
    on_unraisable, argv = sys.unraisablehook, sys.argv
    sys.argv = ["ssimrdo", *map(str, arguments)]
    capfd.readouterr()
    status: object = None
    try:
        with warnings.catch_warnings():
            main()
    except SystemExit as error:
        status = error.code
    finally:
        sys.argv = argv
        sys.unraisablehook = on_unraisable
        for number, handler in on_signals.items():
            signal.signal(number, handler)
        logger.handlers[:], logger.level = handlers, level
    out, err = capfd.readouterr()
    assert isinstance(status, int)
    return Completed(status, out, without_life(err))
