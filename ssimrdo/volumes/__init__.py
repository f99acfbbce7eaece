"""Volumes of HU in files that are no DICOM: NIfTI and NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssimrdo.errors import InputError
from ssimrdo.text import printable

if TYPE_CHECKING:
    from ssimrdo.dicom import Volume

NIFTI_SUFFIXES: Final = (".nii", ".nii.gz")
NUMPY_SUFFIXES: Final = (".npy", ".npz")


def is_volume_file(path: Path | str) -> bool:
    """Tell by its name whether a path is that of a file with a volume."""
    return has_volume_name(str(path)) and Path(path).is_file()


def has_volume_name(name: str) -> bool:
    """Tell whether a file is called like one with a volume."""
    return name.lower().endswith((*NIFTI_SUFFIXES, *NUMPY_SUFFIXES))


def count_volumes(path: Path) -> int:
    """Return how many volumes a file has, by its header.

    Raises
    ------
    InputError
        As :func:`open_volume`.
    """
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        return 1
    from ssimrdo.volumes.nifti import count_in_nifti

    return count_in_nifti(path)


def open_volume(path: Path | str, number: str | None = None) -> Volume:
    """Open the volume in a file; slices are read as they are asked for.

    Parameters
    ----------
    path : Path or str
        ``.nii``, ``.nii.gz``, ``.npy`` or ``.npz``.
    number : str, optional
        Which volume, from 1, where a NIfTI file has several.

    Raises
    ------
    InputError
        If the file cannot be used, or a library that reads it is not installed.
    """
    found = Path(path)
    if str(found).lower().endswith(NIFTI_SUFFIXES):
        from ssimrdo.volumes.nifti import open_nifti

        return open_nifti(found, number)
    if number not in (None, "1"):
        raise InputError(f"{printable(found)}: has one volume", field="series_uid")
    from ssimrdo.volumes.arrays import open_array

    return open_array(found)
