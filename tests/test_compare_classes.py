"""Comparisons by class: quality by tissue and of the worst slices, BD-rates, and warnings."""

from __future__ import annotations

import csv
import io
import json
import logging
from dataclasses import replace

import bjontegaard as package
import numpy as np
import pytest
from dicom_files import write_series
from tissue_masks import masks
from video_files import frames_of, plane, windowed

from ssimrdo import Window
from ssimrdo.comparison import CompareSettings, ComparisonReport, compare
from ssimrdo.comparison.classes import (
    CLASSES,
    class_deltas,
    class_values,
    class_warnings,
    rates_by_class,
)
from ssimrdo.comparison.output import bd_rates_csv, rd_points_csv
from ssimrdo.comparison.results import CurveDelta, RatePoint, SeriesResult
from ssimrdo.dicom import load_hu, open_series
from ssimrdo.encoding import views
from ssimrdo.metrics.tissue import Area

WINDOWS = {"soft": (40.0, 400.0), "lung": (-600.0, 1500.0)}
SLICES = 4
AREAS = ("body", "edge", "dense", "flat", "lung")


@pytest.fixture(scope="module")
def folders(phantom_folder, tmp_path_factory):
    """Return a part of the phantom with lung, and one without."""
    parent = tmp_path_factory.mktemp("data")
    series, _ = open_series(phantom_folder)
    hu = np.stack([load_hu(header) for header in series.slices[8 : 8 + 2 * SLICES : 2]])
    write_series(parent / "lung", hu[:, 100:400, 60:460], WindowCenter=-600, WindowWidth=1500)
    write_series(parent / "soft", hu[:, 100:401, 60:457], WindowCenter=40, WindowWidth=400)
    return parent


@pytest.fixture(scope="module")
def comparison(folders):
    settings = CompareSettings(
        preset="veryfast",
        anchors=("x264-ssim", "x264", "svtav1:12"),
        tests=("ssim", "balanced"),
        threads=1,
    )
    with compare([folders / "soft", folders / "lung"], settings) as found:
        yield found


def volume_of(folders, name):
    return np.stack([load_hu(header) for header in open_series(folders / name)[0].slices])


@pytest.fixture(scope="module")
def truth(comparison, folders):
    """Return the quality of every encode in every class, found without our code."""
    found = {}
    for name, (center, width) in WINDOWS.items():
        step, black = (width - 1) / 255, center - 0.5 - (width - 1) / 2
        sources = [windowed(hu, (center, width)) for hu in volume_of(folders, name)]
        areas = [masks(x, black + step * x, 255) for x in sources]
        for (series, encoder, point), path in comparison.encodes.items():
            if series != name:
                continue
            rows, columns = sources[0].shape
            shown = [plane(frame)[:rows, :columns].astype(int) for frame in frames_of(path)]
            for area in AREAS:
                errors = np.concatenate(
                    [(y - x)[mask[area]] for x, y, mask in zip(sources, shown, areas, strict=True)]
                )
                if errors.size:
                    psnr = 10 * np.log10(255**2 / np.mean(errors**2.0))
                    found[series, encoder, point, f"psnr_{area}"] = psnr
    return found


def test_quality_in_a_class_is_psnr_of_the_pooled_error(comparison, truth):
    seen = 0
    for series in comparison.report.series:
        for encoder, curve in series.curves.items():
            for point in curve:
                key = series.name, encoder, point.point
                for area in AREAS:
                    told = point.classes.get(f"psnr_{area}")
                    known = truth.get((*key, f"psnr_{area}"))
                    assert (told is None) == (known is None), (key, area)
                    assert told == (known and pytest.approx(known, abs=0.01))
                    seen += told is not None
                assert point.classes["ssim_worst"] == min(point.per_slice["ssim"])
                assert point.classes["ssim_p5"] == min(point.per_slice["ssim"])
                assert point.tissue.unit == "HU"
    assert seen == 5 * 4 * (4 + 5)


def test_lung_counts_where_there_is_some(comparison):
    soft, lung = comparison.report.series
    for name in ("x264", "svtav1:12", "ssim", "balanced"):
        assert "psnr_lung" not in soft.classes[name]
        assert set(lung.classes[name]) == {one.name for one in CLASSES}
    spreads = comparison.report.classes["ssim"]
    assert (spreads["psnr_lung"].count, spreads["psnr_edge"].count) == (1, 2)
    assert spreads["psnr_lung"].mean == lung.classes["ssim"]["psnr_lung"].rate_percent


def test_bd_rates_by_class_are_those_of_another_package(comparison, truth):
    for series in comparison.report.series:
        for encoder, deltas in series.classes.items():
            for area in ("body", "edge", "dense", "flat"):
                curves = []
                for name in ("x264-ssim", encoder):
                    points = series.curves[name]
                    curves += [
                        [point.kbps for point in points],
                        [truth[series.name, name, one.point, f"psnr_{area}"] for one in points],
                    ]
                expected = package.bd_rate(
                    *curves, method="pchip", require_matching_points=False, min_overlap=0
                )
                told = deltas[f"psnr_{area}"].rate_percent
                assert told == pytest.approx(expected, abs=0.25)


def test_the_table_has_every_pair_of_encoders(comparison):
    report = ComparisonReport.from_json(json.loads(json.dumps(comparison.report.to_json())))
    assert report == comparison.report
    table = rates_by_class(report)
    assert list(table) == ["x264", "svtav1:12", "ssim", "balanced"]
    names = ["ssim", "weighted_ssim", "ms_ssim", "psnr", *(one.name for one in CLASSES)]
    for encoder, rates in table.items():
        assert sorted(rates) == sorted(names)
        for series in report.series:
            assert rates["psnr_edge"][series.name] == (
                series.classes[encoder]["psnr_edge"].rate_percent
            )
            assert rates["ssim"][series.name] == series.bd[encoder]["ssim"].rate_percent
        assert list(rates["psnr_lung"]) == ["lung"]
    others = rates_by_class(report, "x264")
    assert list(others) == ["x264-ssim", "svtav1:12", "ssim", "balanced"]
    for name, rate in others["x264-ssim"]["psnr_edge"].items():
        # There and back again.
        back = table["x264"]["psnr_edge"][name]
        assert (1 + rate / 100) * (1 + back / 100) == pytest.approx(1, abs=1e-6)
    with pytest.raises(KeyError):
        rates_by_class(report, "x266")


def test_masks_are_made_once_for_all_encoders(folders, monkeypatch, tmp_path):
    made = []

    def counted(luma, **options):
        made.append(options["scale"])
        return original(luma, **options)

    original = views.tissue_map
    monkeypatch.setattr(views, "tissue_map", counted)
    settings = CompareSettings(preset="ultrafast", tests=("ssim",), jobs=2)
    options = {"cache_folder": tmp_path, "settings": settings}
    with compare([folders / "soft"], **options) as found:
        first = found.report.series
    assert len(made) == SLICES
    assert len(set(made)) == 1
    with compare([folders / "soft"], **options) as found:
        assert found.report.encodes.made == 0
        assert found.report.series == first


def test_what_luma_means_counts_for_what_is_kept(tmp_path, caplog):
    """The same samples in another window have other tissues, but the same streams."""
    hu = np.zeros((3, 64, 64))
    hu[:, 8:56, 8:32], hu[:, 8:56, 32:56] = 30, 70
    hu[:, 8:56, 8:56] += np.random.default_rng(1).integers(-20, 20, (3, 48, 48))
    write_series(tmp_path / "ct", np.where(hu > 0, hu + 60, -1000))
    write_series(tmp_path / "moved", np.where(hu > 0, hu - 540, -1000))
    encoded = []
    for name, window in (("ct", Window(100, 100)), ("moved", Window(-500, 100))):
        settings = CompareSettings(preset="ultrafast", window=window, tests=("off",))
        with (
            caplog.at_level(logging.INFO, logger="ssimrdo.comparison.encodes"),
            compare([tmp_path / name], settings, cache_folder=tmp_path / "cache") as found,
        ):
            encoded.append(found.report)
    first, second = ([p.tissue for p in one.series[0].curves["x264"]] for one in encoded)
    assert encoded[1].encodes.made == 0
    for one, other in zip(first, second, strict=True):
        assert other.errors[Area.BODY].samples < 0.7 * one.errors[Area.BODY].samples
        assert other.errors[Area.EDGE] == one.errors[Area.EDGE]


def test_csv_has_figures_and_bd_rates_by_class(comparison):
    report = comparison.report
    rows = list(csv.DictReader(io.StringIO(rd_points_csv(report))))
    points = [point for one in report.series for curve in one.curves.values() for point in curve]
    for row, point in zip(rows, points, strict=True):
        assert row["error_unit"] == "HU"
        for area in AREAS:
            value = point.classes.get(f"psnr_{area}")
            assert row[f"{area}_psnr"] == ("" if value is None else repr(value))
        assert float(row["body_ssim_mean"]) == point.classes["ssim_body"]
        assert float(row["ssim_p5"]) == point.classes["ssim_p5"]
        assert float(row["noise_kept"]) == point.tissue.noise_kept
    rows = list(csv.DictReader(io.StringIO(bd_rates_csv(report))))
    found = {(r["series"], r["encoder"], r["quality"]): r["bd_rate_percent"] for r in rows}
    assert len(found) == len(rows)
    for series in report.series:
        for deltas in (series.bd, series.classes):
            for encoder, one in deltas.items():
                for name, delta in one.items():
                    rate = delta.rate_percent
                    text = "" if rate is None else repr(rate)
                    assert found.pop((series.name, encoder, name)) == text
    assert not found


def a_delta(rate):
    return CurveDelta(rate, None, None, 1.0)


def a_result(ssim, **classes):
    return SeriesResult(
        "chest",
        bd={"ours": {"ssim": a_delta(ssim), "psnr": a_delta(9.0)}},
        classes={"ours": {name: a_delta(rate) for name, rate in classes.items()}},
    )


def test_who_gains_in_ssim_and_loses_in_a_class_is_warned_of():
    losing = a_result(-10.4, psnr_body=-1.0, psnr_edge=2.04, psnr_dense=5.4, ssim_p5=0.06)
    (warning,) = class_warnings(losing, {"ours": "Ours, quickly"})
    assert (warning.series, warning.encoder) == ("chest", "ours")
    assert warning.classes == ("psnr_edge", "psnr_dense", "ssim_p5")
    assert warning.text == (
        "chest: Ours, quickly saves 10.4 % at equal SSIM, but loses at edges (+2.0 %), in small "
        "dense structures (+5.4 %), in the 5th percentile of slices (+0.1 %)"
    )


@pytest.mark.parametrize(
    "result",
    [
        a_result(-10.4, psnr_edge=-2.0, psnr_dense=0.049),
        a_result(-10.4, psnr_edge=None),
        a_result(-0.04, psnr_edge=5.0),
        a_result(3.0, psnr_edge=5.0),
        a_result(None, psnr_edge=5.0),
        SeriesResult("failed", error="no slices"),
    ],
)
def test_nobody_else_is_warned_of(result):
    assert list(class_warnings(result, {"ours": "ours"})) == []


def test_warnings_are_logged_and_stand_in_the_report(folders, caplog):
    """``--tune ssim`` takes from edges."""
    settings = CompareSettings(preset="medium", anchors=("x264", "x264-ssim"), tests=("off",))
    with compare([folders / "soft"], settings) as found:
        report = found.report
    (series,) = report.series
    labels = {one.name: one.label for one in report.encoders}
    assert tuple(class_warnings(series, labels)) == report.warnings
    assert "x264 medium" in labels["x264-ssim"]
    assert f": {labels['x264-ssim']} saves" in report.warnings[0].text
    told = [one.getMessage() for one in caplog.records if "at equal SSIM" in one.getMessage()]
    assert told == [warning.text for warning in report.warnings]
    assert [one.encoder for one in report.warnings] == ["x264-ssim"]
    assert "psnr_edge" in report.warnings[0].classes


def test_what_a_delta_rests_on_is_told_with_it():
    """Curves that hardly overlap, and ones that do not at all."""

    def curve(offset):
        return tuple(
            RatePoint(
                one, 100 * 2**one, 1, 1.0, {}, {}, classes={"psnr_edge": 30 + 3 * one + offset}
            )
            for one in range(4)
        )

    assert class_deltas(curve(0), curve(0))["psnr_edge"].warnings == ()
    (warning, *_) = class_deltas(curve(0), curve(5))["psnr_edge"].warnings
    assert "of the range of the curves" in warning
    apart = class_deltas(curve(0), curve(20))["psnr_edge"]
    assert apart.rate_percent is None
    assert "overlap" in apart.reason


def test_classes_of_ssim_have_no_unit():
    units = {one.name: (one.unit, one.decimals) for one in CLASSES}
    assert {units[name] for name in ("ssim_body", "ssim_worst", "ssim_p5")} == {("", 4)}
    assert {units[f"psnr_{area}"] for area in AREAS} == {("dB", 2)}


def test_reports_of_before_have_no_classes(comparison):
    record = json.loads(json.dumps(comparison.report.to_json()))
    for part in (record, *record["series"]):
        part.pop("classes")
    del record["warnings"]
    for series in record["series"]:
        del series["window_source"]
        for curve in series["curves"].values():
            for point in curve:
                del point["tissue"], point["classes"]
    old = ComparisonReport.from_json(record)
    assert (old.classes, old.warnings) == ({}, ())
    plain = replace(old.series[0].curves["x264"][0], classes={})
    assert class_deltas((plain,) * 4, (plain,) * 4) == {}
    assert class_values(None, ()) == {}
