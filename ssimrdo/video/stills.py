"""Slices that are a picture each, in an archive: what FFmpeg knows no stream of."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.codecs.base import Packet
from ssimrdo.errors import EncoderError
from ssimrdo.extras import require


@contextmanager
def still_writer(path: Path, syntax: str) -> Iterator[Callable[[Packet], None]]:
    """Yield a function that appends packets to an archive of pictures.

    Parameters
    ----------
    path : Path
        File to write; its suffix does not matter.
    syntax : str
        Suffix of the pictures.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    # What a codec has compressed is as small as it gets.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        yield lambda packet: archive.writestr(_name(packet.pts, syntax), packet.data)


def _name(index: int, syntax: str) -> zipfile.ZipInfo:
    # The default's time is that of the call, which bytes are not to depend on.
    return zipfile.ZipInfo(f"{index:06d}.{syntax}")


def are_stills(path: Path) -> bool:
    """Tell whether a file is an archive of pictures."""
    return zipfile.is_zipfile(path)


def still_sizes(path: Path) -> list[int]:
    """Return the bytes of every picture.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with _opened(path) as archive:
        return [one.file_size for one in archive.infolist()]


def still_syntax(path: Path) -> str:
    """Return the suffix of the pictures of an archive, empty where there is none.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with _opened(path) as archive:
        return next((Path(name).suffix[1:] for name in archive.namelist()), "")


def stills_of(path: Path) -> Iterator[bytes]:
    """Yield the pictures of an archive in their order, as they are.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with _opened(path) as archive:
        for name in archive.namelist():
            yield archive.read(name)


def decoded_jpegxl(path: Path) -> Iterator[NDArray[Any]]:
    """Yield the decoded pictures of an archive of JPEG XL in their order.

    Yields
    ------
    ndarray of shape (rows, columns), uint8 or uint16
        The picture.

    Raises
    ------
    InputError
        If imagecodecs is not installed.
    OSError
        If the file cannot be read.
    EncoderError
        If a picture does not decode.
    """
    require("imagecodecs", what="JPEG XL")
    import imagecodecs

    for number, data in enumerate(stills_of(path), start=1):
        try:
            found = np.asarray(imagecodecs.jpegxl_decode(data))
        except (RuntimeError, ValueError) as error:
            raise EncoderError(f"slice {number} does not decode as JPEG XL") from error
        yield found.reshape(found.shape[:2])


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except zipfile.BadZipFile as error:
        raise OSError(f"it is no archive of pictures: {error}") from error
