"""Folders of pictures, one for each slice, read with FFmpeg."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
from numpy.typing import NDArray

from ssimrdo.errors import InputError, cause_of
from ssimrdo.measurement.samples import JPEG2000, ColourError, grey_samples, jpeg2000_bits
from ssimrdo.text import printable
from ssimrdo.video.errors import ffmpeg_errors_of

SUFFIXES: Final = frozenset(
    (
        *(".png", ".tif", ".tiff", ".pgm", ".pnm", ".bmp", ".webp"),
        *(".jpg", ".jpeg", ".jp2", ".j2k", ".j2c", ".jpx"),
    )
)
"""Of pictures."""

_DIGITS: Final = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Pictures:
    """What a folder of pictures holds.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the first.
    peak : int
        Largest sample of its bit depth.
    frames : callable
        Returns an iterator over them: ndarrays, or reason and file name of what cannot be used.
    """

    shape: tuple[int, int]
    peak: int
    frames: Callable[[], Iterator[NDArray[Any] | tuple[str, str]]]


def is_picture(path: Path) -> bool:
    """Return whether a file's name is that of a picture."""
    return path.suffix.lower() in SUFFIXES


def picture_files(path: Path) -> list[Path] | None:
    """Return the pictures of a path in the order of their names, numbers by their value.

    None if it is neither a picture nor a folder that holds pictures and no DICOM. Hidden files do
    not count, nor do subfolders.

    Raises
    ------
    InputError
        If it cannot be read, or is a folder with nothing in it.
    """
    if is_picture(path) and path.is_file():
        return [path]
    if not path.is_dir():
        return None
    try:
        inside = [one for one in path.iterdir() if not one.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{printable(path)}: cannot be read: {cause_of(error)}") from error
    if not inside:
        raise InputError(
            f"{printable(path)}: holds nothing", remedy="give a series, pictures or a video"
        )
    files = [one for one in inside if one.is_file()]
    pictures = [one for one in files if is_picture(one)]
    if not pictures or any(_may_be_dicom(one) for one in files if not is_picture(one)):
        return None
    return sorted(pictures, key=lambda one: (_natural(one.name), one.name))


def open_picture(files: Sequence[Path], name: str) -> Pictures:
    """Read the first picture, which tells size and depth of all.

    Raises
    ------
    InputError
        If none of them can be read.
    """
    first: tuple[NDArray[Any], int] | None = None
    problem: InputError | None = None
    for path in files:
        try:
            first = read_picture(path)
            break
        except InputError as error:
            problem = problem or error
    if first is None:
        raise problem or InputError(f"{name}: holds no pictures")
    samples, peak = first
    rows, columns = samples.shape

    def frames() -> Iterator[NDArray[Any] | tuple[str, str]]:
        for path in files:
            shown = printable(path)
            try:
                found, its_peak = read_picture(path)
            except InputError as error:
                yield error.reason.removeprefix(f"{shown}: "), shown
                continue
            if found.shape != (rows, columns):
                size = f"is {found.shape[1]}x{found.shape[0]}"
                yield f"{size}, the others are {columns}x{rows}", shown
            elif its_peak != peak:
                yield f"has samples up to {its_peak}, the others up to {peak}", shown
            else:
                yield found

    return Pictures((rows, columns), peak, frames)


def read_picture(path: Path) -> tuple[NDArray[Any], int]:
    """Return a grey picture, an ndarray of uint8 or uint16, and the largest sample of its depth.

    Raises
    ------
    InputError
        If the file cannot be read, or the picture is in colour.
    """
    shown = printable(path)
    try:
        # By its content: FFmpeg takes some names for patterns of several.
        data = path.read_bytes()
        with ffmpeg_errors_of(path), av.open(io.BytesIO(data), "r") as source:
            frame = next(source.decode(video=0), None)
            if frame is None:
                raise InputError(f"{shown}: holds no picture")
            # FFmpeg makes up what is missing of a picture that was cut off.
            if frame.is_corrupt:
                raise InputError(f"{shown}: is damaged")
            bits = jpeg2000_bits(data) if source.streams.video[0].codec.name in JPEG2000 else None
            return grey_samples(frame, neutral=True, coded_bits=bits)
    except ColourError as error:
        raise InputError(f"{shown}: {error}", remedy="give grey pictures") from error
    except (OSError, IndexError, ValueError) as error:
        reason = cause_of(error) if isinstance(error, OSError) else "it is no picture"
        raise InputError(f"{shown}: cannot be read: {reason}") from error


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which 2 comes before 10."""
    parts = _DIGITS.split(name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _may_be_dicom(path: Path) -> bool:
    if path.suffix.lower() == ".dcm":
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False
