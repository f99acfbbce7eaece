from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import CANARY, write_series
from matplotlib.patches import Rectangle
from messages import error_of, others
from numpy.typing import NDArray
from PIL import Image
from tissue_masks import masks
from video_files import SOFT_TISSUE, Completed, ct_volume, frames_of, plane, run_command, windowed

from ssimrdo import FrameFormat, InputError, Volume, Window, encode, objective, open_series
from ssimrdo.codecs.base import Steering
from ssimrdo.codecs.x264.steering import quantizer_offsets
from ssimrdo.inspection import (
    Inspection,
    inspect_slice,
    quantities,
    slice_maps,
    write_inspection,
)
from ssimrdo.inspection.figure import draw, figure_png
from ssimrdo.inspection.tissue import COLOURS, error_map, error_rows, painted
from ssimrdo.metrics.tissue import Area
from ssimrdo.objective import Objective

SOFT = Window(*SOFT_TISSUE)

Command = Callable[..., Completed]


@pytest.fixture(scope="module")
def volume() -> NDArray[np.int16]:
    return ct_volume(5, 49, 75)


@pytest.fixture(scope="module")
def series(volume: NDArray[np.int16], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    write_series(folder, volume)
    return folder


@pytest.fixture(scope="module")
def inspection(series: Path) -> Inspection:
    return inspect_slice(series, window=SOFT)


@pytest.fixture
def ssimrdo(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process, which has everything imported already."""
    return lambda *arguments: run_command(capfd, "inspect", *arguments)


@pytest.fixture
def brightness() -> Iterator[Objective]:
    """An objective in which a squared error costs more the brighter a macroblock's corner is."""

    def sensitivity(luma: NDArray[Any], frame_format: FrameFormat) -> NDArray[np.float32]:
        del frame_format
        return np.asarray(1 + luma[::16, ::16], np.float32)

    yield objective.register(Objective("brightness", "Brightness", sensitivity, lambda _: 64.0))
    del objective.base._OBJECTIVES["brightness"]


@pytest.mark.parametrize(("number", "index"), [(None, 2), (1, 0), (5, 4)])
def test_slices_count_from_one_and_the_middle_is_the_default(
    series: Path, volume: NDArray[np.int16], number: int | None, index: int
) -> None:
    found = inspect_slice(series, number=number, window=SOFT)
    assert (found.number, found.slices) == (index + 1, 5)
    assert np.array_equal(found.luma, windowed(volume[index], bit_depth=8))


def test_what_an_encode_takes_can_be_inspected(series: Path, volume: NDArray[np.int16]) -> None:
    found, _ = open_series(series)
    expected = inspect_slice(series, number=4, window="lung")
    for source in (str(series), found, Volume(volume), Volume(list(volume))):
        again = inspect_slice(source, number=4, window="lung")
        assert (again.number, again.slices) == (4, 5)
        assert np.array_equal(again.luma, expected.luma)
        assert np.array_equal(again.maps.qp_offset, expected.maps.qp_offset)


def test_slices_of_an_iterator_are_counted_as_they_come(volume: NDArray[np.int16]) -> None:
    found = inspect_slice(Volume(iter(volume)), number=2, window=SOFT)
    assert (found.number, found.slices) == (2, 0)
    assert np.array_equal(found.luma, windowed(volume[1]))
    with pytest.raises(InputError, match="the series has slices 1 to 5") as beyond:
        inspect_slice(Volume(iter(volume)), number=6, window=SOFT)
    with pytest.raises(InputError, match="is needed") as missing:
        inspect_slice(Volume(iter(volume)), window=SOFT)
    assert beyond.value.field == missing.value.field == "slice"


def test_only_the_slice_itself_is_read(volume: NDArray[np.int16], tmp_path: Path) -> None:
    write_series(tmp_path, volume)
    found, _ = open_series(tmp_path)
    for index in (0, 1, 3, 4):
        found.slices[index].path.unlink()
    assert np.array_equal(inspect_slice(found, window=SOFT).luma, windowed(volume[2]))


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_maps_are_those_an_encode_uses(series: Path, bit_depth: int) -> None:
    found = inspect_slice(series, window=SOFT, bit_depth=bit_depth, rdo_strength=0.4)
    peak = 2**bit_depth - 1
    assert found.format == FrameFormat(49, 75, bit_depth)
    ratio = objective.BALANCED.lagrange_ratio(found.luma, found.format)
    expected = quantizer_offsets(found.luma, Steering(ratio), strength=0.4, data_range=peak)
    np.testing.assert_array_equal(found.maps.qp_offset, expected)
    statistics = objective.block_statistics(found.luma, data_range=peak)
    np.testing.assert_array_equal(found.maps.mean, statistics.mean)
    np.testing.assert_array_equal(found.maps.variance, statistics.variance)
    assert found.maps.theta.shape == found.maps.lagrange_ratio.shape == (4, 5)
    reference = objective.BALANCED.reference(found.format)
    np.testing.assert_allclose(found.maps.lagrange_ratio, reference / found.maps.theta, rtol=1e-5)
    offsets = 1.2 * np.log2(found.maps.lagrange_ratio)
    np.testing.assert_allclose(found.maps.qp_offset, offsets, atol=1e-5)


def test_any_objective_can_be_inspected(
    ssimrdo: Command, series: Path, tmp_path: Path, brightness: Objective
) -> None:
    found = inspect_slice(series, window=SOFT, rdo=brightness.name, rdo_strength=1)
    corners = 1 + found.luma[::16, ::16].astype(float)
    np.testing.assert_allclose(found.maps.theta, corners)
    np.testing.assert_allclose(found.maps.qp_offset, 3 * np.log2(64 / corners), atol=1e-5)
    output = tmp_path / "maps.html"
    result = ssimrdo(series, "-o", output, "--rdo", brightness.name, "--json")
    assert (result.status, json.loads(result.out)["rdo"]) == (0, "brightness")
    assert "objective brightness" in output.read_text(encoding="utf-8")


def test_without_an_objective_there_is_nothing_to_show(series: Path) -> None:
    with pytest.raises(InputError, match=r"rdo: there is nothing to show.*: use one of ssim"):
        inspect_slice(series, rdo="off")


@pytest.mark.parametrize("number", [0, 6, -1])
def test_a_slice_out_of_range_is_refused(series: Path, number: int) -> None:
    with pytest.raises(InputError, match="the series has slices 1 to 5") as refused:
        inspect_slice(series, number=number)
    assert refused.value.field == "slice"


def test_colour_bars_have_symbols_and_units(inspection: Inspection) -> None:
    figure = draw(inspection)
    everything = [
        axis for panel in figure.axes for axis in (panel, *panel.child_axes) if axis.get_ylabel()
    ]
    labels = [axis.get_ylabel() for axis in everything]
    assert labels == ["σ² (luma²)", "ΔQP (QP steps)", "macroblocks"]
    bars = {axis.get_ylabel(): axis for axis in everything}
    low, high = bars["ΔQP (QP steps)"].get_ylim()
    assert low == -high
    meant = inspection.maps.qp_offset[~inspection.maps.clipped]
    assert high == pytest.approx(float(np.abs(meant).max()))


def test_a_flat_slice_can_be_drawn() -> None:
    frame_format = FrameFormat(48, 64)
    luma = np.full(frame_format.shape, 255, np.uint8)
    maps = slice_maps(luma, frame_format, objective.SSIM, strength=0)
    assert (maps.variance == 0).all()
    flat = Inspection(1, 1, luma, frame_format, SOFT, "ssim", 0, maps)
    assert figure_png(flat).startswith(b"\x89PNG")


def test_png_and_html_are_written(inspection: Inspection, tmp_path: Path) -> None:
    for name in ("maps.png", "maps.html"):
        write_inspection(inspection, tmp_path / name)
    with Image.open(tmp_path / "maps.png") as image:
        assert image.width > 1200
        assert np.asarray(image.convert("L")).std() > 10
    html = (tmp_path / "maps.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)|https?://|@import|url\(""", html)
    for text in ("luma²", "1/luma²", "QP steps", "Slice 3 of 5", "40/400 HU"):
        assert text in html
    (embedded,) = re.findall(r'id="data">(.*?)</script>', html)
    data = json.loads(embedded)
    for key, name in (
        ("mean", "mean"),
        ("variance", "variance"),
        ("theta", "theta"),
        ("ratio", "lagrange_ratio"),
        ("offset", "qp_offset"),
    ):
        np.testing.assert_allclose(data["maps"][key], getattr(inspection.maps, name), rtol=1e-3)
    assert CANARY not in html


def test_outputs_are_checked_before_anything_is_read(ssimrdo: Command, tmp_path: Path) -> None:
    (tmp_path / "there.png").write_text("former")
    for output, reason in (
        ("maps.jpg", "the suffix tells the kind: use one of .png, .html"),
        ("there.png", "exists already: use --overwrite"),
        ("no/maps.png", "no such folder"),
    ):
        result = ssimrdo(tmp_path / "no-series", "-o", tmp_path / output)
        assert result.status == 2
        assert reason in error_of(result.err)
    assert (tmp_path / "there.png").read_text() == "former"


def test_command_line(ssimrdo: Command, series: Path, tmp_path: Path) -> None:
    output = tmp_path / "maps.png"
    output.write_text("former")
    options = ("--slice", 2, "--window", "lung", "--rdo-strength", 0.3, "--json", "--overwrite")
    result = ssimrdo(series, "-o", output, *options)
    assert (result.status, result.err) == (0, "ssimrdo: window -600/1500 HU, a preset\n")
    fields = json.loads(result.out)
    assert (fields["window_source"], fields["tissue"]) == ("preset", None)
    rows, columns = np.shape(inspect_slice(series, number=2, window="lung").luma)
    assert 0.3 * rows * columns < fields["classes"]["body"] < rows * columns
    assert fields["slice"] == 2
    assert fields["window"] == {"center": -600, "width": 1500}
    assert fields["qp_offset"]["min"] < 0 < fields["qp_offset"]["max"]
    assert output.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--slice", "6"), "--slice: 6 is out of range: the series has slices 1 to 5"),
        (("--rdo-strength", "9"), "--rdo-strength: 9.0 is out of range"),
        (("--bit-depth", "9"), "--bit-depth: 9 is unknown"),
        (("--window", "nope"), "window 'nope' is not known"),
    ],
)
def test_bad_options_are_one_line_and_status_2(
    ssimrdo: Command, series: Path, tmp_path: Path, options: tuple[str, ...], reason: str
) -> None:
    result = ssimrdo(series, "-o", tmp_path / "maps.png", *options)
    assert result.status == 2
    assert reason in error_of(result.err)
    assert list(tmp_path.iterdir()) == []


def test_a_dicom_file_is_never_replaced(ssimrdo: Command, series: Path) -> None:
    victim = next(iter(series.glob("*.dcm")))
    target = victim.with_suffix(".png")
    target.write_bytes(victim.read_bytes())
    try:
        result = ssimrdo(series, "-o", target, "--overwrite")
        assert result.status == 2
        assert "is a DICOM file" in result.err
        assert target.read_bytes() == victim.read_bytes()
    finally:
        target.unlink()


def test_a_file_of_the_series_is_never_replaced(volume: NDArray[np.int16], tmp_path: Path) -> None:
    write_series(tmp_path, volume)
    found, _ = open_series(tmp_path)
    link = tmp_path / "maps.png"
    link.symlink_to(found.slices[0].path)
    before = found.slices[0].path.read_bytes()
    with pytest.raises(InputError, match="is a DICOM file"):
        write_inspection(inspect_slice(found), link, overwrite=True)
    assert found.slices[0].path.read_bytes() == before


def test_missing_libraries_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, inspection: Inspection, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"scripts/setup report|pip install .*\[report\]"):
        write_inspection(inspection, tmp_path / "maps.png")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def encoded(series: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoded") / "ct.mp4"
    encode(series, path, window="-200/900", crf=32, preset="veryfast")
    return path


def test_errors_of_an_encode_are_those_of_the_slice(
    series: Path, volume: NDArray[np.int16], encoded: Path
) -> None:
    """The window is that of the encode, which its sidecar tells."""
    found = inspect_slice(series, number=4, encode=encoded)
    assert (found.window, found.window_source) == (Window(-200, 900), "encode")
    source = windowed(volume[3], (-200, 900))
    shown = plane(frames_of(encoded)[3])[:49, :75].astype(int)
    step = 899 / 255
    errors = error_map(found)
    assert errors is not None
    np.testing.assert_allclose(errors, step * (shown - source), rtol=1e-6)
    areas = masks(source, -650 + step * source, 255)
    assert found.errors is not None
    assert found.errors.unit == "HU"
    for area in (Area.BODY, Area.EDGE, Area.DENSE):
        told, inside = found.errors.errors[area], errors[areas[area.value]]
        assert told is not None
        assert told.samples == inside.size
        assert told.rmse == pytest.approx(np.sqrt(np.mean(inside**2.0)))
        (row,) = (row for row in error_rows(found) if row.area is area)
        assert row.errors is not None
        assert row.errors[0] == f"{told.rmse:.1f}"
        assert row.share == f"{100 * inside.size / errors.size:.1f} %"
    body = found.errors.ssim[Area.BODY]
    assert body is not None
    assert body.worst_number == 4


def test_classes_are_painted_over_the_slice(series: Path) -> None:
    found = inspect_slice(series, window=SOFT)
    image = painted(found)
    areas = masks(found.luma, windowed_hu(found.luma), 255)
    dense, background = areas["dense"], ~np.any([*map(areas.get, NAMES)], axis=0)
    assert dense.any()
    assert background.any()
    np.testing.assert_array_equal(
        image[background], np.repeat(found.luma[background][:, None], 3, axis=1)
    )
    red, green, blue = (int(COLOURS[Area.DENSE][at : at + 2], 16) for at in (1, 3, 5))
    expected = 0.4 * found.luma[dense][:, None] + 0.6 * np.array([red, green, blue])
    np.testing.assert_allclose(image[dense], expected, atol=0.6)
    assert found.errors is None
    assert error_map(found) is None
    assert all(row.errors is None for row in error_rows(found))


NAMES = ("body", "edge", "dense", "flat", "lung")


def windowed_hu(luma: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(-160 + 399 / 255 * luma)


def test_pages_and_figures_show_classes_and_errors(
    ssimrdo: Command, series: Path, encoded: Path, tmp_path: Path
) -> None:
    page = tmp_path / "maps.html"
    result = ssimrdo(series, "-o", page, "--slice", 2, "--encode", encoded, "--json")
    assert (result.status, result.err) == (0, "ssimrdo: window -200/900 HU, that of the encode\n")
    fields = json.loads(result.out)
    assert fields["window"] == {"center": -200, "width": 900}
    tissue = fields["tissue"]
    assert tissue["errors"]["body"]["samples"] == fields["classes"]["body"]
    text = page.read_text(encoding="utf-8")
    assert f"{tissue['errors']['edge']['rmse']:.1f}" in text
    assert f"SSIM inside the body: {tissue['ssim']['body']['mean']:.4f}" in text
    with_errors = draw(inspect_slice(series, number=2, encode=encoded))
    without = draw(inspect_slice(series, number=2))
    titles = [[axis.get_title(loc="left") for axis in one.axes] for one in (with_errors, without)]
    assert titles[0][4:] == [
        "QP: quantizer in the stream",
        "Errors of the encode",
        "Classes of tissue",
        "Errors in HU by class",
        "",
    ]
    assert titles[1][4:] == ["Classes of tissue", "What the colours mean"]


def test_clipped_and_skipped_macroblocks_are_left_out(tmp_path: Path) -> None:
    # Air in the first two macroblocks, noise beside it; what stands still is skipped.
    hu = ct_volume(5, 64, 96)
    hu[:, :32] = np.random.default_rng(4).integers(-200, 700, (5, 32, 96))
    hu[:, :16, :32] = -2000
    hu[:, 32:] = hu[0, 32:]
    folder, video = tmp_path / "series", tmp_path / "ct.mp4"
    write_series(folder, hu)
    encode(folder, video, window="-200/900", crf=25, preset="veryfast")
    plain = inspect_slice(folder, number=4, window="-200/900")
    blocks = plain.luma.reshape(4, 16, 6, 16).transpose(0, 2, 1, 3).reshape(24, 256)
    clipped = [i for i, block in enumerate(blocks) if {*block.tolist()} in ({0}, {255})]
    assert np.flatnonzero(plain.maps.clipped).tolist() == clipped
    assert {0, 1} <= {*clipped}
    found = inspect_slice(folder, number=4, encode=video)
    assert found.stream is not None
    assert found.stream.qp.shape == (4, 6)
    skipped = found.stream.skipped
    assert skipped is not None
    assert skipped[2:].all()
    assert not skipped[1].any()
    for one, left_out in ((plain, plain.maps.clipped), (found, found.maps.clipped | skipped)):
        (offset,) = (q for q in quantities(one.maps, 1, one.stream) if q.key == "offset")
        assert np.array_equal(offset.hatched, left_out)
        assert offset.meant.size == 24 - left_out.sum()
        (histogram,) = (a for a in draw(one).axes if "distributed" in a.get_title(loc="left"))
        bars = [one for one in histogram.patches if isinstance(one, Rectangle)]
        counted = sum(bar.get_height() for bar in bars)
        assert counted == offset.meant.size
    page = tmp_path / "maps.html"
    write_inspection(found, page)
    (embedded,) = re.findall(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    data = json.loads(embedded)
    assert data["maps"]["qp"] == found.stream.qp.tolist()
    assert data["states"][3][5] == "skipped by the encoder"
    assert "skipped" in data["states"][0][0] or "clipped" in data["states"][0][0]


def test_encodes_of_another_series_or_window_are_refused(
    ssimrdo: Command, series: Path, encoded: Path, tmp_path: Path
) -> None:
    for slices, side, reason in (
        (4, 75, "shows 4 slices, the series has 5"),
        (5, 65, "is 66x50 in uint8, not as the slices of the series"),
    ):
        other = tmp_path / f"{slices}-{side}.mp4"
        encode(Volume(ct_volume(slices, 49, side)), other, window="-200/900", preset="veryfast")
        result = ssimrdo(series, "-o", tmp_path / "maps.png", "--encode", other)
        assert result.status == 2
        assert reason in others(result.err)
    result = ssimrdo(series, "-o", tmp_path / "maps.png", "--encode", encoded, "--window", "lung")
    assert result.status == 2
    assert "--window: the encode was made with -200/900 HU at 8 bit" in result.err
    (tmp_path / "no.mp4").write_text("no video")
    for name in ("no.mp4", "missing.mp4"):
        result = ssimrdo(series, "-o", tmp_path / "maps.png", "--encode", tmp_path / name)
        assert result.status == 2
        assert f"--encode: {tmp_path / name}: cannot be decoded" in others(result.err)
        assert others(result.err).count("\n") == 1
    assert not (tmp_path / "maps.png").exists()


def test_without_a_sidecar_the_window_is_the_usual_one(
    series: Path, encoded: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.mp4"
    alone.write_bytes(encoded.read_bytes())
    found = inspect_slice(series, encode=alone)
    assert (found.window, found.window_source) == (Window(40, 80), "header")
    found = inspect_slice(series, encode=alone, window="-200/900")
    assert found.errors == inspect_slice(series, encode=encoded).errors
