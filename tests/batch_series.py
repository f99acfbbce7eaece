"""Small series for the tests of batches, each different from the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_files import CANARY, write_series
from video_files import ct_volume

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = 256
"""x264's streams are sure to repeat at this width; see test_encode.py."""


def write_tree(root: Path, *names: str, slices: int = 2) -> None:
    """Write a series below each name; its place among them decides its content."""
    for number, name in enumerate(names):
        write_series(
            root / name,
            ct_volume(slices, 32, COLUMNS, seed=number),
            SeriesInstanceUID=f"1.2.3.{number}",
            OperatorsName=f"{CANARY}^OPERATOR",
        )


def videos(folder: Path) -> dict[str, bytes]:
    """Return the contents of the videos below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.mp4"))
    }
