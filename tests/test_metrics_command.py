"""The command ``metrics``: text, JSON, CSV, pages, maps, exit statuses; and who else measures."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import CANARY, write_series
from messages import error_of
from numpy.typing import NDArray
from PIL import Image
from video_files import Completed, ct_volume, run_command

from ssimrdo import encode, measure, metrics
from ssimrdo.measurement.output import measure_to_files

ROOT = Path(__file__).parents[1]
SLICES, ROWS, COLUMNS = 5, 64, 84

Command = Callable[..., Completed]


@pytest.fixture(scope="module")
def volume() -> NDArray[np.int16]:
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def series(volume: NDArray[np.int16], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in") / "series"
    write_series(folder, volume, WindowCenter=40, WindowWidth=400)
    return folder


@pytest.fixture(scope="module")
def video(series: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "video.mp4"
    encode(series, path)
    return path


@pytest.fixture
def ssimrdo(capfd: pytest.CaptureFixture[str]) -> Command:
    return lambda *arguments: run_command(capfd, "metrics", *arguments)


@pytest.fixture
def damaged(series: Path, tmp_path: Path) -> Path:
    copy = shutil.copytree(series, tmp_path / "damaged")
    file = min(copy.iterdir())
    file.write_bytes(file.read_bytes()[:-3000])
    return copy


def test_text_has_rows_summary_and_errors_by_tissue(
    ssimrdo: Command, series: Path, video: Path
) -> None:
    done = ssimrdo(series, video)
    assert done.status == 0
    found = measure(series, video)
    lines = done.out.splitlines()
    assert lines[0] == f"{video} against {series}: 5 slices of 84x64, matched by position"
    heads = lines[1].split()
    assert heads == ["slice", *found.indices, "rmse", "largest_error"]
    for row, line in zip(found.slices, lines[2:7], strict=True):
        cells = line.split()
        assert cells[0] == str(row.number)
        assert float(cells[1]) == pytest.approx(row.values["ssim"], abs=6e-5)
    ssim = next(line for line in lines if line.startswith("SSIM "))
    summary = found.summary["ssim"]
    assert summary is not None
    mean, worst, number, p5 = ssim.split()[1:]
    assert float(mean) == pytest.approx(summary.mean, abs=6e-5)
    assert float(worst) == pytest.approx(summary.worst, abs=6e-5)
    assert int(number) == summary.worst_number
    assert float(p5) == pytest.approx(summary.p5, abs=6e-5)
    assert any(line.startswith("small dense structures") for line in lines)
    assert "window 40/400 HU, that of the encode" in done.err
    for warning in found.warnings:
        assert f"ssimrdo: {warning.text}\n" in done.err


def test_json_is_that_of_python_and_documented(ssimrdo: Command, series: Path, video: Path) -> None:
    done = ssimrdo(series, video, "--json", "--metric", "ssim", "--metric", "mse")
    record = json.loads(done.out)
    expected = measure(series, video, ["ssim", "mse"]).to_dict()
    expected |= {"reference": str(series), "distorted": str(video), "output": [], "maps": None}
    assert record == expected
    section = (ROOT / "docs/json.md").read_text().partition("\n## `metrics --json`\n")[2]
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", section.split("\n## ")[0]))))
    known = named | {"ssim", "mse", "center", "width", "function"}

    def keys(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        if isinstance(value, dict):
            return set(value).union(*map(keys, value.values()))
        return set()

    assert keys({**record, "tissue": None}) <= known


def test_csv_has_a_line_for_each_slice(
    ssimrdo: Command, series: Path, damaged: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    done = ssimrdo(series, damaged, "-o", output, "--skip-bad", "--metric", "psnr")
    assert done.status == 3
    with output.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["slice"] for row in rows] == ["1", "2", "3", "4", "5"]
    (failed,) = (row for row in rows if row["failed_side"])
    assert failed["psnr"] == ""
    assert failed["reason"] == "there is no slice at its position"
    assert all(float(row["psnr"]) == 100 for row in rows if row is not failed)
    assert f"slice {failed['slice']}: there is no slice" in done.err
    assert "left out 1 file: the pixel data is cut off" in done.err


class Page(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_loads_nothing(
    ssimrdo: Command, series: Path, video: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.html"
    done = ssimrdo(series, video, "-o", output, "--all")
    assert done.status == 0
    source = output.read_text()
    page = Page(source)
    assert all(one.startswith("data:") for one in page.loaded)
    assert "<script" not in source
    assert "video.mp4 against series" in page.text
    # Folders may be named for patients.
    assert str(tmp_path.parent) not in source
    found = measure(series, video, "all")
    assert found.warnings
    plain = page.text.replace("\u202f", " ")
    for warning in found.warnings:
        assert warning.text[1:] in plain
    for name in found.indices:
        assert metrics.get(name).title in page.text
    assert source.count("<svg") == len(found.indices) + 1
    assert source.count("data:image/png") == 4


def test_names_are_escaped(series: Path, video: Path, tmp_path: Path) -> None:
    hostile = shutil.copytree(series, tmp_path / "<img src=x onerror=alert(1)>")
    measure_to_files(hostile, video, "ssim", outputs=[tmp_path / "out.html"])
    assert "<img src=x" not in (tmp_path / "out.html").read_text()


def test_maps_are_pictures_with_colour_bars(
    ssimrdo: Command, series: Path, video: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "maps"
    given = ["--metric", "ssim", "--metric", "psnr", "--metric", "ms_ssim"]
    done = ssimrdo(series, video, "--map", folder, *given, "--roi", "body")
    assert done.status == 0
    expected = {f"{name}_{number:04d}.png" for name in ("ssim", "psnr") for number in range(1, 6)}
    assert {path.name for path in folder.iterdir()} == expected
    for path in folder.iterdir():
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 300
            assert image.info["Software"] == "ssimrdo"


def test_a_map_shows_where_errors_are(tmp_path: Path) -> None:
    x = np.full((2, 96, 96), 128, np.uint8)
    y = x.copy()
    y[1, 60:90, 60:90] = 200
    measure_to_files(x, y, ["max_error", "ssim"], map_folder=tmp_path / "maps")
    for name in ("max_error", "ssim"):
        one, two = (
            np.asarray(Image.open(tmp_path / f"maps/{name}_000{n}.png").convert("L"), int)
            for n in (1, 2)
        )
        assert one.shape == two.shape
        where = np.argwhere(np.abs(one - two) > 40)
        # In the lower right of the map, or in the text above it.
        inside = where[(where[:, 0] > 100)]
        assert inside.size
        assert inside[:, 0].min() > 0.5 * one.shape[0]
        assert inside[:, 1].min() > 0.4 * one.shape[1]


def test_outputs_appear_whole_or_not_at_all(
    ssimrdo: Command, series: Path, damaged: Path, tmp_path: Path
) -> None:
    folder, page = tmp_path / "maps", tmp_path / "out.html"
    before = set(tmp_path.iterdir())
    done = ssimrdo(series, damaged, "--map", folder, "-o", page, "--match", "order")
    assert (done.status, done.out) == (2, "")
    assert error_of(done.err)
    assert set(tmp_path.iterdir()) == before


def test_what_is_there_stays(ssimrdo: Command, series: Path, video: Path, tmp_path: Path) -> None:
    table = tmp_path / "out.csv"
    table.write_text("mine")
    done = ssimrdo(series, video, "-o", table)
    assert (done.status, table.read_text()) == (2, "mine")
    assert "--overwrite" in done.err
    assert ssimrdo(series, video, "-o", table, "--overwrite").status == 0
    assert table.read_text().startswith("slice,")
    copy = shutil.copy(min(series.iterdir()), tmp_path / "slice.html")
    done = ssimrdo(series, video, "-o", copy, "--overwrite")
    assert done.status == 2
    assert "is a DICOM file" in done.err
    (tmp_path / "slice.csv").symlink_to(min(series.iterdir()))
    done = ssimrdo(series, video, "-o", tmp_path / "slice.csv", "--overwrite")
    assert done.status == 2
    assert "is one of the inputs" in done.err


def test_a_picture_that_is_measured_is_not_replaced(ssimrdo: Command, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "in/a.png")
    (tmp_path / "out.html").symlink_to(tmp_path / "in/a.png")
    done = ssimrdo(tmp_path / "in", tmp_path / "in", "-o", tmp_path / "out.html", "--overwrite")
    assert done.status == 2
    assert "is one of the inputs" in done.err
    given = ["--map", tmp_path / "in", "--overwrite"]
    done = ssimrdo(tmp_path / "in", tmp_path / "in", *given)
    assert done.status == 2
    assert "in: holds what is measured" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--metric", "nix"], "quality index 'nix' is unknown"),
        (["--all", "--metric", "ssim"], "--all and --metric exclude each other"),
        (["--roi", "1,2,0,4"], "--roi: 1,2,0,4 is empty"),
        (["--roi", "nix.png"], "nix.png: cannot be read: No such file"),
        (["--match", "nix"], "--match: 'nix' is unknown"),
        (["--video-range", "nix"], "--video-range: 'nix' is unknown"),
        (["--window", "nix"], "--window: window 'nix' is not known"),
        (["--data-range", "100"], "--data-range: "),
        (["--data-range", "nan"], "--data-range: "),
        (["-o", "out.txt"], "the suffix tells the kind"),
        (
            ["--metric", "ms_ssim", "--map", "maps"],
            "none of the indices has a map: choose",
        ),
        (
            ["--metric", "ms_ssim", "--roi", "0,0,5,5"],
            "--metric: ms_ssim cannot be measured in the",
        ),
        (["-o", ""], "a path is empty"),
    ],
)
def test_bad_usage_is_one_line(
    ssimrdo: Command, series: Path, video: Path, options: list[str], words: str
) -> None:
    done = ssimrdo(series, video, *options)
    assert (done.status, done.out) == (2, "")
    assert words in error_of(done.err)


def test_nothing_of_the_header_gets_out(
    ssimrdo: Command, volume: NDArray[np.int16], video: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ct"
    write_series(folder, volume, StudyDescription=CANARY, SeriesInstanceUID="1.2.3.77777")
    record = video.with_suffix(".json")
    for path in (video, record):
        shutil.copy(path, tmp_path / f"v{path.suffix}")
    out = [tmp_path / "out.csv", tmp_path / "out.html"]
    options = [word for path in out for word in ("-o", path)]
    maps = ["--map", tmp_path / "maps", "--metric", "ssim"]
    done = ssimrdo(folder, tmp_path / "v.mp4", "-v", "--json", *options, *maps)
    assert done.status == 0
    texts = [done.out.encode(), done.err.encode(), *(path.read_bytes() for path in out)]
    texts += [path.read_bytes() for path in (tmp_path / "maps").iterdir()]
    for text in texts:
        assert CANARY.encode() not in text
        assert b"77777" not in text


def test_one_series_of_several(
    ssimrdo: Command, series: Path, volume: NDArray[np.int16], tmp_path: Path
) -> None:
    folder = shutil.copytree(series, tmp_path / "two")
    write_series(folder / "other", volume + 9, SeriesInstanceUID="1.2.3.4")
    assert "choose one by its number with --series" in error_of(ssimrdo(series, folder).err)
    done = ssimrdo(series, folder, "--series", "1.2.3.4", "--json", "--metric", "mse")
    assert json.loads(done.out)["summary"]["mse"]["mean"] > 1


@pytest.mark.parametrize("name", ["iw_ssim", "gmsd", "haarpsi_med", "mse"])
def test_other_commands_take_the_indices(
    capfd: pytest.CaptureFixture[str], series: Path, tmp_path: Path, name: str
) -> None:
    output = tmp_path / "out.mp4"
    done = run_command(capfd, "encode", series, "-o", output, "--measure", name, "--json")
    expected = measure(series, output, name).slices
    record = json.loads(output.with_suffix(".json").read_text())
    # Sidecars have levels, measurements HU.
    factor = (399 / 255) ** 2 if name == "mse" else 1
    for row, one in zip(expected, record["slices"], strict=True):
        assert row.values[name] == pytest.approx(one[name] * factor, rel=1e-6)
    assert name in json.loads(done.out)


def test_compare_has_them_as_columns(
    capfd: pytest.CaptureFixture[str], series: Path, tmp_path: Path
) -> None:
    options = ["--metric", "ssim", "--metric", "gmsd", "--metric", "mse", "--no-cache"]
    done = run_command(capfd, "compare", series, "-o", tmp_path / "report", *options)
    assert done.status == 0
    text = (tmp_path / "report/rd_points.csv").read_text()
    points = list(csv.DictReader(text.splitlines()))
    assert {"gmsd_mean", "gmsd_max", "mse_max"} <= set(points[0])
    for side in ("gmsd_mean", "mse_mean"):
        assert all(float(point[side]) > 0 for point in points)
