"""Series that several test modules share."""

from pathlib import Path

import pytest

from ssimrdo.dicom import Window, apply_window, load_hu, open_series

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def phantom_folder():
    return DATA / "phantom"


@pytest.fixture(scope="session")
def phantom_luma(phantom_folder):
    """Eight neighbouring slices of the phantom as 8-bit luma at 40/400 HU."""
    series, _ = open_series(phantom_folder)
    window = Window(40, 400)
    return [apply_window(load_hu(header), window) for header in series.slices[8:16]]
