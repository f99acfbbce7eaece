"""What scripts/demo compares, and says of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from demo_table import FLOOR, Encodes, encode_all, summary
from dicom_files import write_series
from video_files import ct_volume


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Encodes:
    folder = tmp_path_factory.mktemp("demo")
    write_series(folder / "ct", ct_volume(6, 96, 96))
    (folder / "out").mkdir()
    return encode_all(folder / "ct", folder / "out")


def test_sizes_are_compared_at_the_same_quality(found: Encodes) -> None:
    assert found.same.ssim.mean >= found.stock.ssim.mean
    assert found.stock_floor.ssim.worst >= FLOOR
    assert found.floor.ssim.worst >= FLOOR
    assert (found.stock.objective, found.stock_floor.objective) == (None, None)
    assert found.same.objective == found.floor.objective == "balanced"


def test_the_tables_have_what_the_files_have(found: Encodes) -> None:
    text = summary(found)
    for result in (found.stock, found.same, found.stock_floor, found.floor):
        path = Path(result.output)
        assert path.stat().st_size == result.bytes
        (line,) = (line for line in text.splitlines() if line.endswith(f"  {path.name}"))
        assert f"  {result.bytes / 1000:.0f} " in line
        assert f"{result.ssim.mean:.4f}" in line
        assert f"{result.ssim.worst:.4f}" in line


def test_the_last_line_says_what_it_means(found: Encodes) -> None:
    *_, last = summary(found).splitlines()
    pairs = ((found.same, found.stock), (found.floor, found.stock_floor))
    said = re.findall(r"(\d+) % (less|more) space", last)
    for (number, word), (ours, theirs) in zip(said, pairs, strict=True):
        saved = 100 * (1 - ours.bytes / theirs.bytes)
        assert (int(number), word) == (round(abs(saved)), "less" if saved >= 0 else "more")
