from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
from dicom_files import CANARY, write_series
from PIL import Image
from video_files import SOFT_TISSUE, ct_volume, windowed

from ssimrdo import InputError, Window
from ssimrdo import objective as rdo
from ssimrdo.compare import inspect

main_module = import_module("ssimrdo.cli.main")

SOFT = Window(*SOFT_TISSUE)


@pytest.fixture(scope="module")
def volume():
    return ct_volume(5, 49, 75)


@pytest.fixture(scope="module")
def series(volume, tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    write_series(folder, volume)
    return folder


@pytest.fixture(scope="module")
def inspection(series):
    return inspect.inspect_slice(series, window=SOFT)


@pytest.fixture
def ssimrdo(monkeypatch, capsys):
    """Run the command in this process, which has everything imported already."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ssimrdo", "inspect", *map(str, arguments)])
        status = main_module._run()
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=status, stdout=out, stderr=err)

    return run


@pytest.mark.parametrize(("number", "index"), [(None, 2), (1, 0), (5, 4)])
def test_slices_count_from_one_and_the_middle_is_the_default(series, volume, number, index):
    found = inspect.inspect_slice(series, number=number, window=SOFT)
    assert (found.number, found.slices) == (index + 1, 5)
    assert np.array_equal(found.luma, windowed(volume[index], bit_depth=8))


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_maps_are_those_an_encode_uses(series, bit_depth):
    found = inspect.inspect_slice(series, window=SOFT, bit_depth=bit_depth, strength=0.4)
    expected = rdo.quantizer_offsets(found.luma, bit_depth=bit_depth, strength=0.4)
    np.testing.assert_array_equal(found.maps.qp_offset, expected)
    statistics = rdo.block_statistics(found.luma, bit_depth=bit_depth)
    np.testing.assert_array_equal(found.maps.variance, statistics.variance)
    assert found.maps.theta.shape == found.maps.lagrange_ratio.shape == (4, 5)
    offsets = 1.2 * np.log2(found.maps.lagrange_ratio)
    np.testing.assert_allclose(found.maps.qp_offset, offsets, atol=1e-5)


@pytest.mark.parametrize("number", [0, 6, -1])
def test_a_slice_out_of_range_is_refused(series, number):
    with pytest.raises(InputError, match="the series has slices 1 to 5"):
        inspect.inspect_slice(series, number=number)


def test_colour_bars_have_symbols_and_units(inspection):
    figure = inspect._figure(inspection)
    everything = [axis for panel in figure.axes for axis in (panel, *panel.child_axes)]
    labels = [axis.get_ylabel() for axis in everything]
    for label in ("σ² (luma²)", "θ (1/luma²)", "λᵢ/λ (ratio)", "ΔQP (QP steps)"):
        assert label in labels
    bars = {axis.get_ylabel(): axis for axis in everything}
    low, high = bars["ΔQP (QP steps)"].get_ylim()
    assert low == -high
    assert high >= float(np.abs(inspection.maps.qp_offset).max())


def test_a_flat_slice_can_be_drawn(inspection):
    luma = np.full((48, 64), 255, np.uint8)
    maps = rdo.block_maps(luma)
    assert (maps.variance == 0).all()
    flat = inspect.Inspection(1, 1, luma, 8, inspection.window, 0.0, maps)
    assert inspect.figure_png(flat).startswith(b"\x89PNG")


def test_png_and_html_are_written(inspection, tmp_path):
    for name in ("maps.png", "maps.html"):
        inspect.write_inspection(inspection, tmp_path / name)
    with Image.open(tmp_path / "maps.png") as image:
        assert image.width > 1200
        assert np.asarray(image.convert("L")).std() > 10
    html = (tmp_path / "maps.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)|https?://|@import|url\(""", html)
    for text in ("luma²", "1/luma²", "QP steps", "Slice 3 of 5", "40/400 HU"):
        assert text in html
    data = json.loads(re.findall(r'id="data">(.*?)</script>', html)[0])
    np.testing.assert_allclose(data["maps"]["offset"], inspection.maps.qp_offset, rtol=1e-3)
    assert CANARY not in html


def test_outputs_are_checked_before_anything_is_read(ssimrdo, tmp_path):
    (tmp_path / "there.png").write_text("former")
    for output, reason in (
        ("maps.jpg", "the suffix tells the kind: use one of .png, .html"),
        ("there.png", "exists already: use --overwrite"),
        ("no/maps.png", "no such folder"),
    ):
        result = ssimrdo(tmp_path / "no-series", "-o", tmp_path / output)
        assert result.returncode == 2
        assert reason in result.stderr
        assert result.stderr.count("\n") == 1
    assert (tmp_path / "there.png").read_text() == "former"


def test_command_line(ssimrdo, series, tmp_path):
    output = tmp_path / "maps.png"
    output.write_text("former")
    options = ("--slice", 2, "--window", "lung", "--rdo-strength", 0.3, "--json", "--overwrite")
    result = ssimrdo(series, "-o", output, *options)
    assert (result.returncode, result.stderr) == (0, "")
    fields = json.loads(result.stdout)
    assert fields["slice"] == 2
    assert fields["window"] == {"center": -600, "width": 1500}
    assert fields["qp_offset"]["min"] < 0 < fields["qp_offset"]["max"]
    assert output.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--slice", "6"), "--slice 6 is out of range: the series has slices 1 to 5"),
        (("--rdo-strength", "9"), "--rdo-strength 9.0 is out of range"),
        (("--bit-depth", "9"), "--bit-depth 9 is unknown"),
        (("--window", "nope"), "window 'nope' is not known"),
    ],
)
def test_bad_options_are_one_line_and_status_2(ssimrdo, series, tmp_path, options, reason):
    result = ssimrdo(series, "-o", tmp_path / "maps.png", *options)
    assert result.returncode == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_dicom_file_is_never_replaced(ssimrdo, series):
    victim = next(iter(series.glob("*.dcm")))
    target = victim.with_suffix(".png")
    target.write_bytes(victim.read_bytes())
    try:
        result = ssimrdo(series, "-o", target, "--overwrite")
        assert result.returncode == 2
        assert "is a DICOM file" in result.stderr
        assert target.read_bytes() == victim.read_bytes()
    finally:
        target.unlink()


def test_missing_libraries_say_what_to_install(monkeypatch, inspection, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=re.escape('pip install "ssimrdo[report]"')):
        inspect.write_inspection(inspection, tmp_path / "maps.png")
    assert list(tmp_path.iterdir()) == []
