"""The folder that slices are written to: it appears whole, and never over what is not ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ssimrdo.errors import InputError
from ssimrdo.files import check_folder_free, whole_folder

_OUR_NAMES: Final = re.compile(r"slice_[0-9]{4,6}\.dcm")


def slice_name(number: int) -> str:
    """Return the name of a slice's file, from 1 on; names never come from what a header says."""
    return f"slice_{number:04d}.dcm"


def check_slice_folder(folder: Path, inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Check that a folder may be written, and holds nothing that is somebody's.

    Parameters
    ----------
    folder : Path
        The folder.
    inputs : sequence of Path
        What is read.
    overwrite : bool
        Whether slices that are there may be replaced.

    Raises
    ------
    InputError
        If it may not be written, or holds an input or other files than slices.
    """
    check_folder_free(folder, overwrite=overwrite)
    place = folder.resolve()
    for path in inputs:
        if place in (path.resolve(), *path.resolve().parents):
            raise InputError(f"{folder}: holds the input", remedy="name another folder")
    if folder.is_dir():
        others = (one for one in folder.iterdir() if not _OUR_NAMES.fullmatch(one.name))
        if next(others, None) is not None:
            raise InputError(
                f"{folder}: holds other files than slices", remedy="name another folder"
            )


@contextmanager
def slice_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a new folder that takes the place of another if the block succeeds.

    Raises
    ------
    InputError, OSError
        As :func:`ssimrdo.files.whole_folder`.
    """
    with whole_folder(folder, overwrite=overwrite, replace=True) as staged:
        yield staged
