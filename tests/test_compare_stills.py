"""Codecs of still images and lossy CT in comparisons, decoded by others, and --protect."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context

import imagecodecs
import numpy as np
import openjpeg
import pytest
from dicom_files import write_series
from messages import others
from skimage.metrics import structural_similarity
from video_files import SOFT_TISSUE, ct_volume, run_command, windowed

from ssimrdo import InputError, Window, encode, objective
from ssimrdo.comparison import CompareSettings, compare
from ssimrdo.comparison.encoders import make_contenders
from ssimrdo.comparison.lossy_ct import HUCount
from ssimrdo.comparison.output import rd_points_csv
from ssimrdo.dicom import NAMED_WINDOWS
from ssimrdo.encoding.ct_series import CTGoal, encode_ct
from ssimrdo.encoding.settings import Floor
from ssimrdo.encoding.views import protected, views_of
from ssimrdo.metrics.tissue import Area, GreyScale, tissue_map

SLICES, ROWS, COLUMNS = 3, 72, 96
SOFT = Window(*SOFT_TISSUE)
LOW, SPAN = SOFT_TISSUE[0] - 0.5 - (SOFT_TISSUE[1] - 1) / 2, SOFT_TISSUE[1] - 1
LOSSY = ("ct-htj2k", "ct-j2k")
POINTS = (18, 23, 28, 33)


def settings(**values):
    given = {"preset": "ultrafast", "window": SOFT, "tests": ("off",), "points": POINTS}
    return CompareSettings(**{**given, **values})


@pytest.fixture(scope="module")
def hu():
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def series(hu, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "chest"
    write_series(folder, hu)
    return folder


@pytest.fixture(scope="module")
def found(series):
    with compare([series], settings(anchors=("x264", "jpegxl:3", *LOSSY))) as comparison:
        yield comparison


def curve_of(comparison, encoder):
    (one,) = comparison.report.series
    return one.curves[encoder]


def pictures_of(comparison, encoder, point):
    with zipfile.ZipFile(comparison.encodes["chest", encoder, point]) as archive:
        return [archive.read(name) for name in archive.namelist()]


def ssim(x, y):
    return structural_similarity(
        x, y, data_range=255, gaussian_weights=True, use_sample_covariance=False
    )


@pytest.mark.parametrize("encoder", ["jpegxl:3", *LOSSY])
def test_what_counts_is_the_pictures_themselves(found, encoder):
    kbps = []
    for point in curve_of(found, encoder):
        pictures = pictures_of(found, encoder, point.point)
        assert len(pictures) == SLICES
        assert point.bytes == sum(map(len, pictures))
        kbps.append(point.kbps)
    assert kbps == sorted(kbps, reverse=True)


def test_jpeg_xl_is_measured_as_it_decodes(found, hu):
    for point in curve_of(found, "jpegxl:3"):
        shown = [
            np.asarray(imagecodecs.jpegxl_decode(data)).reshape(ROWS, COLUMNS)
            for data in pictures_of(found, "jpegxl:3", point.point)
        ]
        expected = [ssim(windowed(x), y) for x, y in zip(hu, shown, strict=True)]
        assert point.per_slice["ssim"] == pytest.approx(expected, abs=1e-4)
        again = found.decoded("chest", "jpegxl:3", point.point)
        assert all((one == other).all() for one, other in zip(again, shown, strict=True))


def ct_of(comparison, encoder, point):
    """Return decoded slices in HU: those of OpenJPEG, which encodes neither."""
    decoded = [openjpeg.decode(data) for data in pictures_of(comparison, encoder, point)]
    return [one.reshape(ROWS, COLUMNS).astype(float) - 1024 for one in decoded]


@pytest.mark.parametrize("encoder", LOSSY)
def test_lossy_ct_is_looked_at_in_the_window(found, hu, encoder):
    for point in curve_of(found, encoder):
        shown = [windowed(one) for one in ct_of(found, encoder, point.point)]
        expected = [ssim(windowed(x), y) for x, y in zip(hu, shown, strict=True)]
        # OpenJPEG may round the other way.
        assert point.per_slice["ssim"] == pytest.approx(expected, abs=2e-3)
        # What its points say.
        assert min(point.per_slice["psnr"]) >= point.point
        assert max(point.per_slice["psnr"]) < point.point + 1.5


def test_padding_is_no_error_of_lossy_ct(hu, tmp_path):
    # It is black in the source's frames, and air in lossy CT: dark grey in this window.
    padded = np.where(np.arange(COLUMNS) < 20, -1024, np.maximum(hu, -1023))
    write_series(tmp_path / "ct", padded, PixelPaddingValue=0)
    wanted = settings(anchors=("x264", "ct-htj2k"), window=NAMED_WINDOWS["lung"])
    with compare([tmp_path / "ct"], wanted) as comparison:
        for point in curve_of(comparison, "ct-htj2k"):
            assert min(point.per_slice["psnr"]) >= point.point


@pytest.mark.parametrize("encoder", LOSSY)
def test_errors_by_tissue_of_lossy_ct_are_those_of_hu(found, hu, encoder):
    scale = GreyScale(LOW, SPAN / 255)
    for point in curve_of(found, encoder):
        squares, samples, largest = 0.0, 0, 0.0
        for source, shown in zip(hu, ct_of(found, encoder, point.point), strict=True):
            body = tissue_map(windowed(source), scale=scale).mask(Area.BODY)
            # What the window shows of them.
            clipped = [np.clip(np.rint(one) - LOW, 0, SPAN)[body] for one in (source, shown)]
            error = clipped[1] - clipped[0]
            squares, samples = squares + (error**2).sum(), samples + error.size
            largest = max(largest, np.abs(error).max())
        errors = point.tissue.errors[Area.BODY]
        assert (point.tissue.unit, point.tissue.span) == ("HU", SPAN)
        assert errors.samples == samples
        rmse = math.sqrt(squares / samples)
        assert errors.rmse == pytest.approx(rmse, rel=0.01)
        assert errors.maximum == pytest.approx(largest, abs=2)
        assert point.classes["psnr_body"] == pytest.approx(20 * math.log10(SPAN / rmse), abs=0.1)


@pytest.mark.parametrize("encoder", LOSSY)
def test_lossy_ct_is_what_encode_writes(found, series, tmp_path, encoder):
    for point in curve_of(found, encoder)[1:3]:
        goal = CTGoal(Floor("psnr", point.point))
        written = encode_ct(
            series, tmp_path / f"{point.point}", goal, window=SOFT, syntax=encoder[3:]
        )
        assert written.payload_bytes == point.bytes


def test_a_report_says_what_the_points_are(found):
    encoders = {one.name: one for one in found.report.encoders}
    assert encoders["ct-htj2k"].points == pytest.approx([54.8 - 0.7 * p for p in POINTS])
    assert "psnr=POINT" in encoders["ct-htj2k"].settings
    assert "1.2.840.10008.1.2.4.203" in encoders["ct-htj2k"].settings
    assert encoders["ct-j2k"].label == "lossy CT, JPEG 2000"
    assert encoders["jpegxl:3"].label == "JPEG XL 3"
    rows = csv.DictReader(io.StringIO(rd_points_csv(found.report)))
    assert {row["error_unit"] for row in rows if row["encoder"] in LOSSY} == {"HU"}


@pytest.mark.parametrize("reference", ["jpegxl:3", "ct-htj2k"])
def test_pages_show_them_beside_ours(reference, series, tmp_path, capfd):
    """As the reference, whose slices the page shows."""
    arguments = ("compare", series, "-o", tmp_path / "report", "--window", "40/400", "--no-cache")
    done = run_command(capfd, *arguments, "--anchor", reference, "--metric", "ssim")
    assert (done.status, others(done.err)) == (0, "")
    label = "JPEG XL 3" if reference == "jpegxl:3" else "lossy CT, HTJ2K"
    page = (tmp_path / "report/report.html").read_text()
    assert f'"reference": "{label}, ' in page
    assert "No slices are shown" not in page


def test_another_process_measures_the_same(found, series):
    """Encoders are sent as they are before the clip is known."""
    options = settings(anchors=("x264", "jpegxl:3", *LOSSY), threads=2)
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as executor,
        compare([series], options, executor=executor) as other,
    ):
        (theirs,) = other.report.series
    (ours,) = found.report.series
    for encoder in ("jpegxl:3", *LOSSY):
        assert [one.bytes for one in theirs.curves[encoder]] == [
            one.bytes for one in ours.curves[encoder]
        ]
        assert [one.tissue for one in theirs.curves[encoder]] == [
            one.tissue for one in ours.curves[encoder]
        ]


def test_odd_sides_other_slopes_and_inverted_frames(tmp_path):
    """All in one: what decodes has the size of the source, and the errors the goal asks for."""
    volume = ct_volume(2, 51, 47)
    write_series(tmp_path / "odd", volume, slope=0.5, PhotometricInterpretation="MONOCHROME1")
    options = settings(anchors=("x264", "jpegxl:3", "ct-htj2k"), slices=2)
    with compare([tmp_path / "odd"], options) as found:
        source = found.frames("odd")
        assert (source[0] == 255 - windowed(volume[0]).astype(int)).all()
        for encoder in ("jpegxl:3", "ct-htj2k"):
            (one,) = found.report.series
            for point in one.curves[encoder]:
                shown = np.array(list(found.decoded("odd", encoder, point.point)), float)
                assert shown.shape == source.shape
                error = np.square(shown - source).mean((1, 2))
                psnr = 10 * np.log10(255**2 / error)
                assert point.per_slice["psnr"] == pytest.approx(psnr, abs=1e-3)


def test_a_volume_without_stored_values(tmp_path):
    volume = ct_volume(2, 48, 64)
    np.save(tmp_path / "volume.npy", volume.astype(np.float32) + np.float32(0.25))
    options = settings(anchors=("x264", "ct-j2k"), slices=2)
    with compare([tmp_path / "volume.npy"], options) as found:
        (one,) = found.report.series
        assert [min(p.per_slice["psnr"]) >= p.point for p in one.curves["ct-j2k"]] == [True] * 4


def test_what_was_measured_is_found_again(series, tmp_path):
    options = settings(anchors=("x264", "jpegxl:3", "ct-htj2k"))
    reports = []
    for _ in range(2):
        with compare([series], options, cache_folder=tmp_path / "cache") as found:
            reports.append(found.report)
            assert len(list(found.decoded("chest", "ct-htj2k", 38.7))) == SLICES
    assert [one.encodes.made for one in reports] == [12, 0]
    assert reports[0].series == reports[1].series
    # In another window its points mean something else.
    with compare(
        [series],
        settings(anchors=("x264", "ct-htj2k"), window=Window(-600, 1500)),
        cache_folder=tmp_path / "cache",
    ) as found:
        assert found.report.encodes.made == 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "bitrate", "points": (100, 200, 300, 400)}, "ct-j2k.* has no mean bit rate"),
        ({"anchors": ("x264", "ct-j2k:9")}, "ct-j2k has no presets"),
        ({"anchors": ("x264", "jpegxl:11")}, "effort: 11 is unknown: use one of 1, 2"),
        ({"anchors": ("x265:slow", "x265-ssim:slow")}, "are the same encoder"),
    ],
)
def test_what_they_do_not_take(values, message):
    with pytest.raises(InputError, match=message):
        make_contenders(settings(**{"anchors": ("x264", "ct-j2k"), **values}))


@pytest.mark.parametrize("encoder", ["htj2k", "jpegxl", *LOSSY])
def test_a_missing_library_is_one_line(encoder, series, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("ssimrdo.extras.find_spec", {}.get)
    done = run_command(capfd, "compare", series, "-o", tmp_path / "report", "--anchor", encoder)
    line, hint = others(done.err).splitlines()
    assert done.status == 2
    assert f"{encoder}: " in line
    assert "needs imagecodecs, which is not installed" in line
    assert "archive" in hint


FIRST_USE = """
from threading import Barrier, Thread
import sys
import imagecodecs
import numpy as np
from ssimrdo.codecs import openjph

sys.setswitchinterval(1e-6)
image = np.random.default_rng(1).integers(0, 2000, (72, 96)).astype(np.uint16)
together, found = Barrier(4), []

def encode():
    together.wait()
    found.append(openjph.encode(image, 2.0**-12))

threads = [Thread(target=encode) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(found), len(set(found)))
"""


def test_threads_that_use_openjph_first_make_the_same_codestream():
    """Without care one in forty starts or so does not."""
    for _ in range(20):
        done = subprocess.run(
            (sys.executable, "-c", FIRST_USE), capture_output=True, text=True, check=True
        )
        assert done.stdout == "4 1\n"


def test_the_anchors_are_run_as_those_run_them_who_know_them():
    names = ("x264", "x265", "x265-ssim", "x265-tskip", "x265-untuned", "svtav1", "svtav1-scm")
    contenders = make_contenders(CompareSettings(anchors=names, tests=("off,preset=fast",)))
    settings = {one.name: one.codec.label for one in contenders}
    assert [settings[name] for name in names[1:]] == [
        "x265 slow --tune ssim",
        "x265 medium --tune ssim",
        "x265 slow --tune ssim --tskip",
        "x265 medium",
        "SVT-AV1 6",
        "SVT-AV1 6 --scm 1",
    ]


@pytest.fixture(scope="module")
def full(series):
    options = settings(window=NAMED_WINDOWS["full"], bit_depth=10, tests=("balanced", "off"))
    with compare([series], options) as comparison:
        yield comparison.report


def test_the_whole_range_is_encoded_as_encode_does(full, series, tmp_path):
    """Bytes of the same packets, and the same errors in HU."""
    (one,) = full.series
    written = encode(series, tmp_path / "a.mkv", crf=23, window="full")
    point = one.curves["balanced"][1]
    assert point.tissue.unit == "HU"
    assert point.tissue.errors[Area.BODY].rmse == pytest.approx(
        written.tissue.errors[Area.BODY].rmse
    )
    assert point.tissue == written.tissue
    (ours,) = (encoder for encoder in full.encoders if encoder.name == "balanced")
    assert ours.settings.startswith("rdo=balanced; protect=lung,soft-tissue,bone; ")


def test_windows_can_be_chosen(full, series, tmp_path):
    for given, protect in (("none", ()), ("lung", (NAMED_WINDOWS["lung"],))):
        options = settings(
            window=NAMED_WINDOWS["full"], bit_depth=10, tests=("balanced",), protect=protect
        )
        with compare([series], options) as comparison:
            (one,) = comparison.report.series
        written = encode(series, tmp_path / f"{given}.mkv", crf=23, window="full", protect=given)
        point = one.curves["balanced"][1]
        assert point.tissue == written.tissue
        assert point.bytes != full.series[0].curves["balanced"][1].bytes
        # Plain x264 looks at frames as they are.
        assert one.curves["x264"][1].bytes == full.series[0].curves["x264"][1].bytes


def test_a_window_of_its_own_can_be_protected(series, tmp_path, capfd):
    given = ("--window", "-600/1500", "--protect", "soft-tissue", "--preset", "ultrafast")
    arguments = ("compare", series, "-o", tmp_path / "report", *given, "--no-cache", "--json")
    done = run_command(capfd, *arguments)
    assert done.status == 0
    report = json.loads(done.out)
    assert report["encoders"][1]["settings"].startswith("rdo=balanced; protect=soft-tissue; ")
    written = encode(series, tmp_path / "a.mkv", crf=23, window="-600/1500", protect="soft-tissue")
    (one,) = report["series"]
    assert one["curves"]["balanced"][1]["tissue"] == written.tissue.as_dict()


def test_the_command_takes_10_bit_for_the_whole_range(series, tmp_path, capfd):
    arguments = ("compare", series, "-o", tmp_path / "report", "--window", "full")
    more = ("--preset", "ultrafast", "--no-cache", "--json", "--anchor", "x264")
    done = run_command(capfd, *arguments, *more, "--anchor", "ct-htj2k")
    assert done.status == 0
    report = json.loads(done.out)
    assert report["bit_depth"] == 10
    (one,) = report["series"]
    for encoder in ("x264", "balanced", "ct-htj2k"):
        for point in one["curves"][encoder]:
            assert (point["tissue"]["unit"], point["tissue"]["span"]) == ("HU", 4095)


def test_what_is_shown_of_the_model_is_what_is_protected(series):
    lung = NAMED_WINDOWS["lung"]
    options = settings(tests=("balanced", "off"), protect=(lung,))
    with compare([series], options) as comparison:
        frames = comparison.frame_format("chest")
        source = np.asarray(comparison.frames("chest")[0])
        used = comparison.objective("chest", "balanced")
        assert comparison.objective("chest", "off") is None
        ratios = [one.lagrange_ratio(source, frames) for one in (used, objective.BALANCED)]
        assert not np.allclose(*ratios)
        (own,) = views_of([lung], SOFT, frames)
        expected = protected(objective.BALANCED, [own])
        assert (ratios[0] == expected.lagrange_ratio(source, frames)).all()


def test_bad_windows_are_refused(series, tmp_path, capfd):
    arguments = ("compare", series, "-o", tmp_path / "report", "--protect", "auto")
    done = run_command(capfd, *arguments)
    assert done.status == 2
    assert "--protect: auto is not one window; name it" in done.err


def test_steps_of_hu_are_counted_within_the_window():
    soft = HUCount.of(SOFT)
    assert (soft.scale, soft.top) == (GreyScale(LOW, 1.0), SPAN)
    wide = HUCount.of(Window(1000, 10000, "LINEAR_EXACT"))
    assert wide.scale.hu_per_level == pytest.approx(10000 / 4095)
    assert wide.top == 4095
    assert HUCount.of(Window(40, 400, "SIGMOID")) is None
    assert HUCount.of(NAMED_WINDOWS["full"]).is_wide


def test_frame_rates_count_for_pictures_too(series):
    rates = [make_kbps(series, fps) for fps in (Fraction(25), Fraction(50))]
    assert rates[1] == pytest.approx([2 * kbps for kbps in rates[0]])


def make_kbps(series, fps):
    with compare([series], settings(anchors=("jpegxl:1",), tests=(), fps=fps)) as found:
        return [point.kbps for point in found.report.series[0].curves["jpegxl:1"]]
