"""The CT series that experiments use: the phantom always, real ones where a folder is given."""

from __future__ import annotations

from pathlib import Path

from ssimrdo.errors import InputError


def real_series(folder: Path | None) -> list[Path]:
    """Return the folders of a folder of CT series, none where there is no such folder to use.

    Raises
    ------
    InputError
        If a folder was given that is missing or holds no folders.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", remedy="give a folder with a series in each")
    found = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if not found:
        raise InputError(
            f"{folder}: holds no folders", remedy="give a folder with a series in each"
        )
    return found
