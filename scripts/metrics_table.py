"""Measure encodes of CT series by several encoders at about one size, as Markdown.

Each series is encoded by ssimrdo with its defaults. The x264 program (--preset medium --tune ssim)
and SVT-AV1 of the ffmpeg program (preset 5) get the CRF, found by bisection, whose file is the
largest that is not above that of ssimrdo; JPEG 2000 (OpenJPEG, irreversible 9-7) gets the
compression ratio, every slice the same number of bytes. All encode the same luma. Videos are
measured as `ssimrdo metrics` measures them, JPEG 2000 as a folder of pictures.

A cell is the mean over the slices and, in brackets, the worst slice; of errors by tissue the RMSE
and the largest error.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmark_clips import chosen_series
from numpy.typing import NDArray

from ssimrdo import Measurement, encode
from ssimrdo.encoding.source import open_source
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.html.text import number
from ssimrdo.measurement.output import measure_to_files
from ssimrdo.measurement.results import decimals_of, title_of, unit_of
from ssimrdo.metrics.tissue import Area
from ssimrdo.record.tissue import AREA_NAMES

AREAS: Final = (Area.BODY, Area.EDGE, Area.DENSE, Area.FLAT)

X264_CRFS: Final = tuple(step / 10 for step in range(100, 400))
AV1_CRFS: Final = tuple(range(5, 64))


@dataclass(frozen=True)
class Encoded:
    """What an encoder made of a series.

    Parameters
    ----------
    name : str
        The encoder and its setting.
    path : Path
        A video, or a folder of pictures.
    size : int
        Bytes of all files.
    """

    name: str
    path: Path
    size: int


@dataclass(frozen=True)
class Frames:
    """The luma of a series, 8 bits of full range."""

    luma: NDArray[np.uint8]

    @property
    def planes(self) -> bytes:
        """The frames as YUV 4:2:0 without colour."""
        slices, rows, columns = self.luma.shape
        chroma = np.full((slices, rows * columns // 2), 128, np.uint8)
        return np.concatenate([self.luma.reshape(slices, -1), chroma], axis=1).tobytes()

    @property
    def size(self) -> str:
        """Width and height."""
        return f"{self.luma.shape[2]}x{self.luma.shape[1]}"


def with_ssimrdo(series: Path, folder: Path) -> Encoded:
    """Encode with the defaults."""
    path = folder / "ssimrdo.mp4"
    result = encode(series, path)
    return Encoded("ssimrdo, CRF 23", path, result.bytes)


def with_x264(frames: Frames, folder: Path, target: int) -> Encoded:
    """Encode with the x264 program."""
    path = folder / "x264.mkv"

    def at(crf: float) -> int:
        command = [
            *("x264", "--quiet", "--preset", "medium", "--tune", "ssim", "--crf", f"{crf:g}"),
            *("--demuxer", "raw", "--input-res", frames.size, "--input-range", "pc"),
            *("--range", "pc", "--fps", "25", "--output", str(path), "-"),
        ]
        return _size_after(command, frames.planes, path)

    return _closest("x264", at, X264_CRFS, path, target)


def with_av1(frames: Frames, folder: Path, target: int) -> Encoded:
    """Encode with SVT-AV1 through the ffmpeg program."""
    path = folder / "av1.mkv"

    def at(crf: float) -> int:
        command = [
            *("ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p"),
            *("-color_range", "pc", "-s", frames.size, "-r", "25", "-i", "-"),
            *("-c:v", "libsvtav1", "-preset", "5", "-crf", f"{crf:g}", "-color_range", "pc"),
            str(path),
        ]
        return _size_after(command, frames.planes, path)

    return _closest("SVT-AV1", at, AV1_CRFS, path, target)


def with_jpeg2000(frames: Frames, folder: Path, target: int) -> Encoded:
    """Encode every slice to the same number of bytes with OpenJPEG."""
    from openjpeg.utils import encode_array

    inside = folder / "jpeg2000"
    inside.mkdir()
    ratio = frames.luma.size / target
    for index, luma in enumerate(frames.luma, start=1):
        data = encode_array(luma, 8, photometric_interpretation=2, compression_ratios=[ratio])
        (inside / f"{index:04d}.j2k").write_bytes(data)
    size = sum(path.stat().st_size for path in inside.iterdir())
    return Encoded(f"JPEG 2000, {ratio:.0f}:1", inside, size)


def _size_after(command: Sequence[str], data: bytes, path: Path) -> int:
    subprocess.run(command, input=data, check=True, stderr=subprocess.DEVNULL)
    return path.stat().st_size


def _closest(
    name: str, at: Callable[[float], int], crfs: Sequence[float], path: Path, target: int
) -> Encoded:
    """Encode at the lowest CRF whose file is not larger than it may be."""
    low, high = 0, len(crfs) - 1
    while low < high:
        middle = (low + high) // 2
        if at(crfs[middle]) > target:
            low = middle + 1
        else:
            high = middle
    size = at(crfs[low])
    return Encoded(f"{name}, CRF {crfs[low]:g}", path, size)


def encodes(series: Path, folder: Path) -> Iterator[Encoded]:
    """Yield what each encoder makes of a series."""
    ours = with_ssimrdo(series, folder)
    yield ours
    opened = open_source(series, window=None, bit_depth=8, fps=Fraction(25))
    frames = Frames(np.stack(list(opened.frames.frames())))
    for make in (with_x264, with_av1, with_jpeg2000):
        print(f"{series.name}: {make.__name__}", file=sys.stderr)
        yield make(frames, folder, ours.size)


def table(found: Sequence[tuple[Encoded, Measurement]]) -> str:
    """Return a table with a column for each encoder."""
    first = found[0][1]
    heads = ["", *(one.name for one, _ in found)]
    lines = [
        "| " + " | ".join(heads) + " |",
        "|---|" + "---|" * len(found),
        _line("size, kB", [number(one.size / 1000, 1) for one, _ in found]),
    ]
    for name in first.indices:
        unit = unit_of(name, first.unit)
        title = f"{title_of(name)}, {unit}" if unit else title_of(name)
        places = decimals_of(name)
        cells = []
        for _, measured in found:
            one = measured.summary[name]
            cells.append(
                f"{number(one and one.mean, places)} ({number(one and one.worst, places)})"
            )
        lines.append(_line(title, cells))
    for area in AREAS:
        cells = []
        for _, measured in found:
            errors = measured.tissue and measured.tissue.errors[area]
            if not errors:
                cells.append("–")
                continue
            cells.append(f"{number(errors.rmse, 1)} ({number(errors.maximum)})")
        lines.append(_line(f"RMSE, {AREA_NAMES[area]}, {first.unit}", cells))
    kept = [measured.tissue and measured.tissue.noise_kept for _, measured in found]
    lines.append(_line("noise kept, %", [number(one and 100 * one) for one in kept]))
    for code in ("ssim_hides_error", "ssim_unstable", "ssim_insensitive"):
        cells = [_slices_of(measured, code) for _, measured in found]
        lines.append(_line(f"`{code}`, slices", cells))
    return "\n".join(lines)


def _slices_of(measured: Measurement, code: str) -> str:
    return str(sum(len(one.slices) for one in measured.warnings if one.code == code))


def _line(title: str, cells: Sequence[Any]) -> str:
    return "| " + " | ".join([title, *map(str, cells)]) + " |"


def main() -> int:
    """Print a table for each series."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("series", nargs="*", help="names below $SSIMRDO_CT_DATA; all by default")
    parser.add_argument("--keep", type=Path, help="folder for videos, pages and tables")
    given = parser.parse_args()
    try:
        for series in chosen_series(given.series):
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) if given.keep is None else given.keep / series.name
                folder.mkdir(parents=True, exist_ok=True)
                found = []
                for one in encodes(series, folder):
                    outputs = [] if given.keep is None else [folder / f"{one.path.stem}.html"]
                    # All are shown through one window.
                    found.append((one, measure_to_files(series, one.path, "all", outputs=outputs)))
                measured = found[0][1]
                print(
                    f"**{series.name}**, {len(measured.slices)} slices of "
                    f"{measured.columns}×{measured.rows}, window {measured.window}\n"
                )
                print(table(found), flush=True)
                print()
    except InputError as error:
        print(f"metrics_table: {error}", file=sys.stderr)
        return 2
    except (SsimrdoError, OSError, subprocess.CalledProcessError) as error:
        print(f"metrics_table: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
