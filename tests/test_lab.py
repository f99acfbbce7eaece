"""The laboratory: each experiment's direction and rough size, against scikit-image where it can be.

All experiments run once, in their quick version.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import structural_similarity
from test_docs import documented, keys_of
from video_files import run_command

from ssimrdo import BadSliceError, Event, InputError, Observer, lab, load_volume, metrics
from ssimrdo.lab import (
    autoencoders,
    blocks,
    coding,
    disturbances,
    drawing,
    grating,
    lung,
    repairs,
    terms,
)
from ssimrdo.lab import run as running
from ssimrdo.lab.experiment import Experiment, Finding, LabSettings, Outcome, Table
from ssimrdo.lab.images import RANGE_HU, RangeFormat, loss, pair_of, thorax, white_noise
from ssimrdo.lab.page import cell_text, rounded
from ssimrdo.lab.run import csv_of, run_lab, text_of, write_lab
from ssimrdo.lab.series import real_series

QUICK = LabSettings(quick=True)
HAS_TORCH = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")


@pytest.fixture(scope="module")
def events():
    return []


@pytest.fixture(scope="module")
def results(events):
    found = run_lab(tuple(lab.SUMMARIES), QUICK, observer=Observer(events.append))
    return {result.experiment.name: result for result in found}


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab") / "out"
    write_lab(list(results.values()), folder, QUICK)
    return folder


@pytest.fixture(scope="module")
def numbers(results):
    return {name: result.outcome.numbers for name, result in results.items() if result.outcome}


def ssim_of(x, y, data_range):
    """Return scikit-image's SSIM at every sample."""
    _, values = structural_similarity(
        x.astype(np.float64),
        y.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=data_range,
        full=True,
    )
    return values


# Experiment 1


def test_terms_fall_with_level_as_the_formulas_say(numbers, results):
    first = dict(
        zip(
            results["terms"].outcome.tables[0].heads,
            results["terms"].outcome.tables[0].rows[0],
            strict=True,
        )
    )
    # C1 = 6.5025 and C2 = 58.5225 for L = 255.
    assert first["l, L = 255"] == pytest.approx(6.5025 / 31.5025)
    assert first["c, L = 255"] == pytest.approx(58.5225 / 83.5225)
    assert first["l, L = 2500"] == pytest.approx(625 / 650)
    ratio = numbers["terms"]["loss_ratio_0_to_30"]
    assert 60 < ratio["l, L = 255"] < 75
    assert 20 < ratio["c, L = 255"] < 30
    assert 1.3 < ratio["c, L = 2500"] < ratio["l, L = 2500"] < 5


def test_terms_are_what_the_package_measures(numbers):
    assert numbers["terms"]["largest_difference_from_formula"] < 1e-5
    assert terms.measured_luminance(10, 255) == pytest.approx(
        (2 * 10 * 15 + 6.5025) / (100 + 225 + 6.5025), abs=1e-5
    )


# Experiment 2


def test_bars_are_steps_that_a_gaussian_has_blurred():
    sharp = grating.cylinder(192, grating.WIDE, 1e-6, 700)
    # The cylinder's own border lies elsewhere.
    part = grating.region(192)
    blurred = ndimage.gaussian_filter(sharp.astype(np.float64), 2.1, truncate=8)[part]
    shown = grating.cylinder(192, grating.WIDE, 2.1, 700)[part]
    # Bars begin half-way between samples, so the sampled blur is nearly that of the continuum.
    assert np.abs(shown - blurred)[8:-8, 8:-8].max() < 0.01 * 700
    assert sharp.max() == pytest.approx(1700)
    assert sharp[0, 0] == 0
    assert (np.diff(sharp[96, part[1]]) > 300).sum() == 5


def test_noise_on_the_grating_is_the_same_and_ssim_is_not(numbers):
    found = numbers["grating"]["loss_in_square"]
    fine, wide = found["bars of 4"], found["bars of 12"]
    assert fine["no bars"] == wide["no bars"]
    assert fine["no bars"] > 2.5 * fine["hardest"]
    assert wide["no bars"] > 1.5 * wide["hardest"]
    assert fine["softest"] > 1.5 * fine["hardest"]


def test_ssim_of_the_grating_is_that_of_scikit_image(results):
    noise = grating.jpeg2000_noise(192, 0)
    image = grating.cylinder(192, grating.FINE, 0.3, 1000)
    values = ssim_of(image, image + noise, RANGE_HU)
    rows = results["grating"].outcome.tables[0].rows
    (row,) = (row for row in rows if row[:3] == [4, 1000, 0.3])
    assert row[3] == pytest.approx(values[5:-5, 5:-5].mean(), abs=1e-4)
    assert row[4] == pytest.approx(values[grating.region(192)].mean(), abs=1e-4)


def test_jpeg2000_takes_a_twentyfourth():
    from openjpeg.utils import encode_array

    source = np.rint(thorax(192, 0, noise=True)).astype(np.uint16)
    coded = encode_array(source, 12, photometric_interpretation=2, compression_ratios=[24.0])
    assert 192 * 192 * 12 / 8 / len(coded) == pytest.approx(24, rel=0.1)
    assert 5 < grating.jpeg2000_noise(192, 0).std() < 100


# Experiment 3


def test_lungs_are_lungs():
    image = thorax(192, 0)
    mask = lung.lung_mask(image)
    parts, count = ndimage.label(mask)
    assert count == 2
    assert 0.1 < mask.mean() < 0.3
    assert np.median(image[mask]) == pytest.approx(140, abs=50)
    left, right = (np.median(np.nonzero(parts == part)[1]) for part in (1, 2))
    assert abs(left + right - 191) < 40
    # Not the air around the body, nor the mattress.
    assert not mask[:20].any()
    assert not mask[-40:].any()


def test_ssim_of_a_lung_rises_with_what_is_around_it(numbers):
    found = numbers["lung"]
    for alone, inside in (*found["ssim"].values(), found["ssim_with_rim"]):
        assert alone < inside
    rim = found["ssim_with_rim"]
    assert (1 - rim[0]) / (1 - rim[1]) > found["loss_ratio"]["L = 255"] > 1.02
    assert found["loss_ratio_paper"] == pytest.approx(0.0605 / 0.0372)
    assert found["share_of_change_at_border"] == pytest.approx(1, abs=0.01)


def test_ssim_of_the_lung_is_that_of_scikit_image(numbers):
    image = thorax(192, 0) * np.float32(255 / RANGE_HU)
    mask = lung.lung_mask(thorax(192, 0))
    noise = white_noise(image.shape, 20, 0)
    assert noise.var(dtype=np.float64) == pytest.approx(20, rel=1e-5)
    for scene, found in zip(
        (np.where(mask, image, 0), image), numbers["lung"]["ssim"]["L = 255"], strict=True
    ):
        values = ssim_of(scene, scene + noise, 255)
        assert found == pytest.approx(values[mask].mean(), abs=2e-4)


# Experiment 4


@pytest.fixture(scope="module")
def blocks_at_ssim():
    image = thorax(128, 0)
    noise = blocks.unit_noise(image.shape, 3)
    return image, noise, *blocks.at_constant_ssim(image, noise, 0.99, Observer())


def test_every_block_has_the_ssim_asked_for(blocks_at_ssim):
    image, noise, rms, reached = blocks_at_ssim
    values = ssim_of(image, image + blocks.spread(rms) * noise, RANGE_HU)
    means = values[16:-16, 16:-16].reshape(6, 16, 6, 16).mean(axis=(1, 3))
    assert np.abs(means - 0.99).max() < 1e-3
    assert np.abs(reached - 0.99).max() < 1e-3


def test_unit_noise_has_one_psnr_in_every_block():
    noise = blocks.unit_noise((64, 48), 0)
    squares = np.square(noise).reshape(4, 16, 3, 16).mean(axis=(1, 3))
    assert squares == pytest.approx(1)
    assert blocks.spread(np.array([[1.0, 2.0]]))[15, 15:17].tolist() == [1, 2]


def test_noise_that_flat_blocks_take_follows_from_the_constants(numbers):
    # For σ = 0, MSE = C2 (1/SSIM - 1): 75² · 0.0101, 7.5 HU RMS.
    assert 7 < numbers["blocks"]["rms_hu_at_ssim"]["flat"] < 9.5
    assert numbers["blocks"]["rms_hu_at_psnr"] == pytest.approx(2500 / 10**1.5)


def test_edges_take_an_excess_of_noise(numbers):
    found = numbers["blocks"]
    excess = found["excess_of_squared_error_at_edges"]
    assert 1.5 < excess["median"] < excess["90 %"] < excess["largest"] < 100
    assert found["median_ssim_at_psnr"]["edge"] > found["median_ssim_at_psnr"]["flat"] + 0.1
    assert min(found["blocks"].values()) > 3


# Experiment 5


def toy(name, value):
    return metrics.QualityIndex(name, name, value)


def test_excess_of_an_index_is_what_its_weights_say():
    """An index that counts errors in the bright a quarter takes 6 dB more there."""

    def value(pair):
        weight = np.where(pair.source > 500, 0.25, 1.0)
        return 1 - float(np.mean(weight * np.square(pair.source - pair.shown)) / 1e4)

    shape = (32, 32)
    noise = white_noise(shape, 100, 0)
    dark, bright = (np.full(shape, level, np.float32) for level in (100, 1000))
    defect = repairs.Defect(
        "toy", "toy", "toy", "", repairs.Scene(dark, noise), repairs.Scene(bright, noise)
    )
    assert repairs.excess_db(toy("weighted", value), defect) == pytest.approx(6.02, abs=0.06)
    blind = toy("blind", lambda _: 1.0)
    assert np.isnan(repairs.excess_db(blind, defect))
    only_dark = toy(
        "dark", lambda pair: 1 - float(np.abs((pair.shown - pair.source)[pair.source < 500]).sum())
    )
    assert repairs.excess_db(only_dark, defect) == np.inf


@pytest.mark.parametrize("name", ["psnr", "mse"])
def test_squared_error_is_indifferent_to_place(numbers, name):
    found = numbers["repairs"]["excess_db"][name]
    assert len(found) == 6
    assert list(found.values()) == pytest.approx([0] * 6, abs=0.1)


def test_ssim_forgives_what_is_bright_textured_or_local(numbers):
    found = numbers["repairs"]["excess_db"]["ssim"]
    # Luminance: (1050 / 140)² is 17.5 dB; the rest of SSIM sees the slope of the shading.
    assert 13 < found["brightness"] < 17.6
    luminance = numbers["repairs"]["excess_db"]["ssim_luminance"]["brightness"]
    assert luminance == pytest.approx(17.5, abs=0.3)
    assert found["texture"] > 3
    assert found["edges"] > 10
    assert found["surroundings"] > 0.2
    assert found["blocks"] > 1
    assert found["pooling"] > 2


def test_every_index_answers_every_defect(numbers):
    found = numbers["repairs"]["excess_db"]
    assert tuple(found) == metrics.names()
    for row in found.values():
        assert all(
            isinstance(cell, float) or cell == "blind" or "30 dB" in cell for cell in row.values()
        )
    assert found["ssim_contrast"]["brightness"] == "blind"
    assert found["ssim_distortion_weighted"]["pooling"] < -10


# Experiment 6


def test_disturbances_have_one_squared_error(numbers):
    mse = list(numbers["disturbances"]["mse"].values())
    assert mse[0] == 0
    assert mse[1:] == pytest.approx([mse[1]] * 3, rel=0.01)
    assert 500 < mse[1] <= 900


def test_disturbances_are_what_they_are_called():
    luma = disturbances.slice_luma(128, 0)
    images = disturbances.disturbed(luma, 0)
    identity, lit, veiled, salted = images.values()
    assert (identity == luma).all()
    assert (lit == np.minimum(luma.astype(int) + 30, 255)).all()
    changed = salted != luma
    assert set(np.unique(salted[changed])) == {0, 255}
    assert changed.mean() < 0.2
    veils, count = ndimage.label(ndimage.binary_closing(veiled != luma, iterations=2))
    assert count == 3
    assert veils.any()


def test_one_squared_error_has_many_ssims(numbers, results):
    ssim = numbers["disturbances"]["ssim"]
    assert ssim["identity"] == pytest.approx(1)
    assert max(list(ssim.values())[1:]) - min(ssim.values()) > 0.2
    rows = results["disturbances"].outcome.tables[0].rows
    assert len(rows) == len(metrics.names())
    psnr = next(row for row in rows if row[0] == "PSNR")
    assert psnr[3:] == pytest.approx([psnr[3]] * 3, abs=0.05)


def test_cw_ssim_forgives_brightness(numbers):
    found = numbers["disturbances"]["cw_ssim"]
    assert found["brightness + 30"] > 0.98 > found["grey overlays"]
    assert found["brightness + 30"] > numbers["disturbances"]["ssim"]["brightness + 30"] + 0.3


# Experiment 7


@needs_torch
def test_a_network_learns_what_it_is_told(numbers):
    found = numbers["autoencoders"]["AE"]
    mse, ssim = found["MSE"], found["1 \N{MINUS SIGN} SSIM"]
    assert mse["MSE"] < 0.8 * ssim["MSE"]
    assert ssim["SSIM"] > mse["SSIM"] + 0.05
    assert all(
        0 < one["MSE"] < 0.25 for kind in numbers["autoencoders"].values() for one in kind.values()
    )


def test_slices_of_a_series_train_or_test_and_are_never_neighbours(phantom_folder):
    found = autoencoders.ct_slices([phantom_folder], 32, Observer())
    volume = load_volume(phantom_folder).hu
    assert found.train.shape[1:] == found.test.shape[1:] == (32, 32)
    side = min(volume.shape[1:]) // 32
    lit = np.clip((volume.astype(np.float64) + 1000) / 1400, 0, 1)
    top, left = ((full - 32 * side) // 2 for full in volume.shape[1:])
    part = lit[:, top : top + 32 * side, left : left + 32 * side]
    small = part.reshape(len(volume), 32, side, 32, side).mean(axis=(2, 4))
    assert np.abs(found.train - small[: len(found.train)]).max() < 1e-5
    assert np.abs(found.test - small[-len(found.test) :]).max() < 1e-5
    assert len(volume) - len(found.train) - len(found.test) == autoencoders.GAP
    with pytest.raises(InputError, match="smaller"):
        autoencoders.ct_slices([phantom_folder], 2048, Observer())


@needs_torch
def test_training_is_the_same_again_and_leaves_no_trace():
    import torch

    from ssimrdo.lab import networks

    plan = networks.Plan(side=16, channels=4, code=4, steps=4, batch=4, looks=2)
    images = np.random.default_rng(0).random((3, 24, 24), np.float32)
    test = images[:2, :16, :16].copy()
    shown = []
    for state, seed in ((5, 1), (6, 1), (6, 2)):
        torch.manual_seed(state)
        before = torch.get_rng_state(), torch.get_num_threads()
        shown.append(networks.train("VAE", "LWSSIM", images, test, plan, seed, Observer()))
        assert (torch.get_rng_state() == before[0]).all()
        assert torch.get_num_threads() == before[1]
    first, again, other = shown
    assert (first.shown == again.shown).all()
    assert (first.shown != other.shown).any()
    assert [step for step, _ in first.looks] == [2, 4]
    assert first.shown.shape == test.shape


@needs_torch
def test_mmd_tells_distributions_apart():
    import torch

    from ssimrdo.lab.networks import mmd

    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(400, 8, generator=generator) for _ in range(2))
    assert abs(float(mmd(one, two))) < 0.02
    assert float(mmd(one, two + 1)) > 0.1
    assert float(mmd(one, 3 * two)) > 0.1


# Experiment 8


def test_objectives_save_under_their_own_index(numbers):
    own = numbers["coding"]["bd_rate_percent_against_same_search"]
    assert own["ssim"]["ssim"] < -5
    assert own["ssim"]["balanced"] < -5
    # What is won in SSIM is not won at edges.
    assert own["psnr_edge"]["ssim"] > own["ssim"]["ssim"] + 5
    assert own["psnr"]["balanced"] < own["psnr"]["ssim"]
    against = numbers["coding"]["bd_rate_percent"]
    # Against its own search without offsets it saves more than against what is tuned for SSIM.
    assert against["ssim"]["none"] > 2
    assert own["ssim"]["ssim"] < against["ssim"]["ssim"] - 2
    assert set(against["ssim"]) == {*coding.OBJECTIVES, "none"}
    assert set(metrics.names()) <= set(against)
    assert {"psnr_edge", "psnr_flat", "ssim_worst"} <= set(against)


def test_mean_rates_leave_out_what_is_not_defined():
    assert coding.mean_rate({"a": -4.0, "b": None, "c": -2.0}) == -3
    assert np.isnan(coding.mean_rate({"a": None}))


def test_series_are_the_folders_of_a_folder(tmp_path):
    assert real_series(None) == []
    with pytest.raises(InputError, match="no folders"):
        real_series(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        real_series(tmp_path / "missing")
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    assert [path.name for path in real_series(tmp_path)] == ["a", "b"]


# Images and indices


def test_indices_see_floats_with_any_range():
    frames = RangeFormat(20, 30, data_range=2500)
    assert (frames.peak, frames.shape, frames.dtype) == (2500, (20, 30), np.float32)
    x = np.random.default_rng(0).random((40, 40)) * 2500
    y = x + white_noise(x.shape, 900, 1)
    pair = pair_of(x, y, 2500)
    expected = ssim_of(pair.source, pair.shown, 2500)[5:-5, 5:-5].mean()
    assert metrics.get("ssim").value(pair) == pytest.approx(expected, abs=1e-5)
    assert loss(metrics.get("psnr"), pair) == pytest.approx(900 / 2500**2, rel=1e-3)
    assert loss(metrics.get("ssim"), pair) == pytest.approx(1 - expected, abs=1e-5)
    assert loss(metrics.get("mse"), pair) == pytest.approx(900, rel=1e-3)


# What is written


def test_every_experiment_compares_with_its_paper(results):
    for name, result in results.items():
        if result.outcome is None:
            assert name == "autoencoders"
            continue
        outcome = result.outcome
        assert outcome.findings
        assert outcome.panels
        assert outcome.tables
        assert all(one.paper and one.ours and one.verdict for one in outcome.findings)
        assert "nan" not in text_of(result).lower().split()


def test_progress_is_told(results, events):
    assert {event.what.split(":")[0] for event in events} == set(results)
    assert all(event.done <= event.total == len(results) for event in events)


def test_files_are_named_and_complete(folder, results):
    summary = json.loads((folder / "lab.json").read_text())
    assert list(summary["experiments"]) == list(lab.SUMMARIES)
    assert summary["quick"] is True
    for name, result in results.items():
        assert (folder / f"{name}.txt").read_text().startswith(result.experiment.title)
        for panel in result.outcome.panels if result.outcome else ():
            assert (folder / f"{name}-{panel.name}.svg").read_text().count("</svg>") == 1
        for table in result.outcome.tables if result.outcome else ():
            text = (folder / running.file_of(name, table)).read_bytes().decode()
            rows = list(csv.reader(io.StringIO(text)))
            assert len(rows) == len(table.rows) + 1
            assert {len(row) for row in rows} == {len(table.heads)}


def test_keys_are_documented(results):
    known = documented("`lab.json` of the laboratory")
    record = running.summary(list(results.values()), QUICK)
    assert keys_of(record, "experiments") | {"output", "files"} <= known
    assert keys_of(list(record["experiments"].values()), "numbers") <= known


def test_data_keep_all_digits():
    table = Table("", "", ["a", "b", "c"], [[0.1 + 0.2, None, "=1"], [np.float64(0.5), 3, "x"]])
    assert list(csv.reader(io.StringIO(csv_of(table))))[1:] == [
        ["0.30000000000000004", "", "'=1"],
        ["0.5", "3", "x"],
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.123"),
        (-12.3456, "\N{MINUS SIGN}12.3"),
        (123456.0, "123456"),
        (0.00001234, "1.23e\N{MINUS SIGN}05"),
        (0.0, "0"),
    ],
)
def test_numbers_on_the_page(value, text):
    assert rounded(value, 3) == text


def test_cells_that_are_no_numbers():
    assert [cell_text(cell, 3) for cell in (None, float("nan"), "blind", -4)] == [
        "–",
        "–",
        "blind",
        "\N{MINUS SIGN}4",
    ]


def test_page_holds_everything_and_loads_nothing(folder, results):
    page = (folder / "lab.html").read_text()
    for result in results.values():
        assert f'id="{result.experiment.name}"' in page
        for finding in result.outcome.findings if result.outcome else ():
            assert finding.verdict in page
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert all(link.startswith(("#", "data:")) for link in links)
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    used = set(re.findall(r"url\(#([^)]+)\)", page)) | {
        link[1:] for link in links if link[0] == "#"
    }
    assert used <= set(names)
    assert "quick version" in page


def test_pictures_take_the_colours_of_the_page(folder):
    sheet = (resources.files("ssimrdo.html") / "templates/report.css").read_text()
    light = sheet.partition("@media")[0]
    for name, colour in drawing.COLOURS.items():
        assert f"--{name}: {colour};" in light
    page = (folder / "lab.html").read_text().partition("</style>")[2]
    assert not [colour for colour in drawing.COLOURS.values() if colour in page]
    assert "var(--ink)" in page
    assert "DejaVu" not in page
    assert drawing.COLOURS["ink"] in (folder / "terms-contrast.svg").read_text()


def test_pictures_are_the_same_again():
    def draw(figure):
        drawing.curves(figure.subplots(), [0, 1], {"a": [0, 1], "b": [1, 0]})

    assert drawing.svg(draw) == drawing.svg(draw)


def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    drawing.svg(lambda _: None)
    assert dict(matplotlib.rcParams) == before


# How it is run


def fake(name, run, needs=()):
    return Experiment(name, name.title(), "nobody", run, needs)


def outcome(**values):
    return Outcome((), (Finding("a", "b", "c", "d"),), (), (), (), **values)


def test_an_experiment_whose_library_is_missing_is_left_out_of_many(monkeypatch, tmp_path):
    known = {
        "terms": fake("terms", lambda *_: outcome()),
        "autoencoders": fake("autoencoders", lambda *_: outcome(), ("torch",)),
    }
    monkeypatch.setattr(lab, "get", known.__getitem__)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "ssimrdo.extras.find_spec", lambda name: None if name == "torch" else found(name)
    )
    told = []
    results = run_lab(list(known), finished=told.append)
    assert [bool(result.skipped) for result in results] == [False, True]
    assert results == told
    assert "needs torch" in results[1].skipped
    write_lab(results, tmp_path / "out", LabSettings())
    assert "needs torch" in (tmp_path / "out/lab.html").read_text()
    assert "needs torch" in (tmp_path / "out/autoencoders.txt").read_text()
    record = json.loads((tmp_path / "out/lab.json").read_text())["experiments"]["autoencoders"]
    assert record["skipped"]
    assert record["numbers"] == {}
    with pytest.raises(InputError, match="torch"):
        run_lab(["autoencoders"])


def test_an_experiment_that_fails_spoils_no_others(monkeypatch, tmp_path, capfd):
    def fail(*_):
        raise BadSliceError(str(tmp_path / "SMITH.dcm"), "it has no pixels")

    def stumble(*_):
        raise ZeroDivisionError("SMITH")

    known = {
        "terms": fake("terms", fail),
        "grating": fake("grating", stumble),
        "lung": fake("lung", lambda *_: outcome()),
    }
    monkeypatch.setattr(lab, "get", known.__getitem__)
    monkeypatch.setattr(lab, "SUMMARIES", dict.fromkeys(known, ""))
    output = tmp_path / "out"
    done = run_command(capfd, "lab", "all", "-o", output)
    assert done.status == 3
    record = json.loads(done.out)["experiments"]
    assert [one["failed"] for one in record.values()] == [True, True, False]
    written = "".join(path.read_text() for path in output.iterdir())
    assert "it has no pixels" in written
    assert "ZeroDivisionError" in written
    assert "SMITH" not in written + done.out
    with pytest.raises(BadSliceError):
        run_lab(["terms"])


def test_real_series_are_looked_for_before_the_work(monkeypatch, tmp_path):
    def run(*_):
        raise AssertionError

    known = {
        "terms": Experiment("terms", "", "", run),
        "coding": Experiment("coding", "", "", run, uses_ct=True),
    }
    monkeypatch.setattr(lab, "get", known.__getitem__)
    with pytest.raises(InputError, match="no such folder"):
        run_lab(list(known), LabSettings(ct_folder=tmp_path / "missing"))
    assert lab.get("coding").uses_ct


def test_nothing_is_written_if_the_page_fails(monkeypatch, tmp_path, results):
    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr("ssimrdo.lab.page.render_template", fail)
    with pytest.raises(RuntimeError):
        write_lab([results["terms"]], tmp_path / "out", QUICK)
    assert list(tmp_path.iterdir()) == []


def test_long_work_can_be_cancelled():
    from ssimrdo import CancelledError

    observer = Observer()
    observer.cancel.set()
    for name in lab.SUMMARIES:
        if name == "autoencoders" and not HAS_TORCH:
            continue
        with pytest.raises(CancelledError):
            lab.get(name).run(QUICK, observer)


def test_events_within_an_experiment_count_as_a_part():
    told = []
    running._within(Observer(told.append), 2, 8, "lung").tell(Event(1, 5, "maps"))
    assert told == [Event(2, 8, "lung: maps 1/5")]


def test_command_writes_and_summarises(tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("SSIMRDO_CT_DATA", raising=False)
    output = tmp_path / "out"
    done = run_command(capfd, "lab", "terms", "-o", output, "--quick")
    assert done.status == 0
    record = json.loads(done.out)
    assert record["output"] == str(output)
    assert set(record["files"]) == {path.name for path in output.iterdir()}
    assert record["experiments"]["terms"]["numbers"]["loss_ratio_0_to_30"]
    assert re.fullmatch(r"ssimrdo: terms: \d+ s\n", done.err)
    again = run_command(capfd, "lab", "terms", "-o", output)
    assert again.status == 2
    assert "--overwrite" in again.err
    assert run_command(capfd, "lab", "terms", "-o", output, "--overwrite").status == 0


def test_command_refuses_what_it_does_not_know(tmp_path, capfd):
    done = run_command(capfd, "lab", "nothing", "-o", tmp_path / "out")
    assert done.status == 2
    assert "terms" in done.err
    assert not (tmp_path / "out").exists()
    missing = tmp_path / "ct"
    done = run_command(capfd, "lab", "coding", "-o", tmp_path / "out", "--ct", missing, "--quick")
    assert done.status == 2
    assert str(missing) in done.err


def test_help_lists_the_experiments(capfd):
    done = run_command(capfd, "lab", "--help")
    assert done.status == 0
    for name in (*lab.SUMMARIES, "all"):
        assert re.search(rf"^  {name} +\w", done.out, re.MULTILINE)


def test_experiments_are_called_like_their_modules():
    for name in lab.SUMMARIES:
        assert lab.get(name).name == name
    with pytest.raises(InputError, match="unknown"):
        lab.get("nothing")
    assert Path(lab.__file__).with_name("lung.py").exists()
