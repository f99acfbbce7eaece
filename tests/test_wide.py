"""The whole range of HU: the curve, what windows show of it, and what bits are spent for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import error_of
from numpy.testing import assert_array_equal
from skimage.metrics import structural_similarity
from video_files import ct_volume, frames_of, plane, run_command

from ssimrdo import EncodeSettings, InputError, Volume, Window, encode
from ssimrdo.decoding import decode, view
from ssimrdo.dicom import NAMED_WINDOWS, Geometry, load_volume
from ssimrdo.dicom.grey import (
    FULL,
    apply_window,
    hu_of_luma,
    hu_of_shares,
    parse_window,
    shares_of_hu,
    wide_curve,
)
from ssimrdo.dicom.luma import choose_window
from ssimrdo.encoding.views import PROTECTED, views_of
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import ssim
from ssimrdo.objective import BALANCED, SSIM
from ssimrdo.objective.protect import protecting

ALL_HU = np.arange(-1024, 3072, dtype=np.float32)
LUNG, SOFT, BONE = PROTECTED


@pytest.fixture(scope="module")
def volume():
    geometry = Geometry(
        pixel_spacing_mm=(0.7, 0.7),
        orientation=(1, 0, 0, 0, 1, 0),
        positions_mm=tuple((0, 0, 1.25 * z) for z in range(6)),
        along_mm=tuple(1.25 * z for z in range(6)),
    )
    return Volume(ct_volume(6, 64, 64), geometry=geometry)


@pytest.fixture(scope="module")
def wide(volume, tmp_path_factory):
    """A video of the whole range, and its result."""
    path = tmp_path_factory.mktemp("wide") / "all.mkv"
    return path, encode(volume, path, window="full", effort="fast", crf=12)


def luma_of(path):
    """Luma of a video as FFmpeg decodes it."""
    return np.stack([plane(frame) for frame in frames_of(path)])


def hu_of(path):
    """HU of a video of the whole range."""
    return hu_of_luma(FULL, 1023).astype(np.float32)[luma_of(path)]


def test_the_curve_rises_from_end_to_end():
    hu, share = wide_curve(-1024.5, 3071.5)
    assert (hu[0], hu[-1], share[0], share[-1]) == (-1024.5, 3071.5, 0, 1)
    assert (np.diff(hu) > 0).all()
    assert (np.diff(share) > 0).all()


@pytest.mark.parametrize(("inside", "width"), [(40, 256), (500, 600), (1000, 1800), (-900, 1500)])
def test_slopes_go_with_the_cube_root_of_the_narrowest_window(inside, width):
    """Against air-like -300 HU, which only the window of the lung shows, 1500 HU wide."""
    shares = shares_of_hu(FULL, np.array([inside, inside + 1, -300, -299], np.float64))
    slope = (shares[1] - shares[0]) / (shares[3] - shares[2])
    assert slope == pytest.approx(np.cbrt(1500 / width), rel=1e-3)


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_the_curve_is_undone_within_half_a_step(bit_depth):
    peak = 2**bit_depth - 1
    luma = apply_window(ALL_HU, FULL, bit_depth=bit_depth)
    assert (luma[0], luma[-1]) == (0, peak)
    back = hu_of_luma(FULL, peak)
    assert back is not None
    steps = np.diff(back)
    assert (steps > 0).all()
    half = np.maximum(np.append(steps, steps[-1]), np.append(steps[0], steps))[luma] / 2
    assert (np.abs(back[luma] - ALL_HU) <= half + 0.01).all()
    # A code that is decoded and shown again is the same code.
    assert_array_equal(
        apply_window(back.astype(np.float32), FULL, bit_depth=bit_depth), range(peak + 1)
    )


@given(st.floats(-2000, 5000))
def test_any_hu_is_shown_where_the_curve_has_it(hu):
    corners, shares = wide_curve(-1024.5, 3071.5)
    expected = np.interp(hu, corners, shares)
    assert shares_of_hu(FULL, np.array([hu]))[0] == pytest.approx(expected, abs=1e-5)


def test_only_a_user_gets_the_curve():
    assert parse_window("full") is FULL is NAMED_WINDOWS["full"]
    assert choose_window(None, FULL) is FULL
    assert EncodeSettings.of(window="full").bit_depth == 10
    assert EncodeSettings.of(window="full", bit_depth=8).bit_depth == 8
    assert EncodeSettings.of(window="lung").bit_depth == 8


def test_windows_that_are_protected():
    assert EncodeSettings.of(window="full").protected == PROTECTED
    assert EncodeSettings.of(window="full", protect="none").protected == ()
    assert EncodeSettings.of(window="lung").protected == ()
    given_twice = EncodeSettings.of(window="full", protect="bone,40/80,bone")
    assert given_twice.protected == (BONE, Window(40, 80))
    for wrong in ("auto", "nothing", "lung,auto", 5):
        with pytest.raises(InputError) as caught:
            EncodeSettings.of(window="full", protect=wrong)
        assert caught.value.field == "protect"


def test_protecting_the_frames_own_window_changes_nothing(phantom_luma):
    """At small variance of nothing else: a straight line from codes to the same window's grey."""
    frames = FrameFormat(*phantom_luma[0].shape)
    own = np.arange(256) / 255
    ours = protecting(BALANCED, [own]).sensitivity(phantom_luma[0], frames)
    expected = BALANCED.sensitivity(phantom_luma[0], frames)
    assert ours == pytest.approx(expected * (1 + 1 / 64), rel=1e-5)


def test_what_a_window_saturates_costs_it_nothing(phantom_luma):
    luma = phantom_luma[0].copy()
    frames = FrameFormat(*luma.shape)
    grey = np.clip((np.arange(256) - 128) / 64, 0, 1)
    luma[:64] = luma[:64] // 4
    seen = protecting(SSIM, [grey]).sensitivity(luma, frames)
    assert seen[:3] == pytest.approx(SSIM.sensitivity(luma, frames)[:3] / 64, rel=1e-5)


def test_the_sum_of_windows_is_the_sum_of_what_they_cost(phantom_luma):
    frames = FrameFormat(*phantom_luma[0].shape)
    greys = [np.clip((np.arange(256) - 64 * k) / 100, 0, 1) for k in range(2)]
    one, two, both = (
        protecting(SSIM, chosen).sensitivity(phantom_luma[0], frames)
        for chosen in ([greys[0]], [greys[1]], greys)
    )
    unseen = SSIM.sensitivity(phantom_luma[0], frames) / 64
    assert both == pytest.approx(one + two - unseen, rel=1e-4)


def test_nothing_to_protect_is_an_error():
    with pytest.raises(ValueError, match="no window"):
        protecting(SSIM, [])


@pytest.mark.parametrize("inverted", [False, True])
def test_views_are_what_a_viewer_shows(inverted):
    frames = FrameFormat(64, 64, 10)
    luma = apply_window(ALL_HU.reshape(64, 64), FULL, bit_depth=10, inverted=inverted)
    [view_of] = views_of([SOFT], FULL, frames, inverted=inverted)
    shown = np.rint(255 * view_of.grey[luma])
    expected = apply_window(ALL_HU.reshape(64, 64), SOFT, inverted=inverted)
    # Half a step of the curve is about one HU there, 0.64 grey levels, and each is rounded.
    assert np.abs(shown - expected.astype(float)).max() <= 2


def test_a_window_of_black_and_white_leaves_nothing_to_protect(volume, tmp_path):
    with pytest.raises(InputError) as caught:
        encode(volume, tmp_path / "a.mkv", window="40/1", protect="lung")
    assert caught.value.field == "protect"
    assert not list(tmp_path.iterdir())


def test_quality_through_windows_is_that_of_what_ffmpeg_decodes(volume, wide):
    path, result = wide
    assert [one.window for one in result.windows] == list(PROTECTED)
    for one in result.windows:
        values = [
            structural_similarity(
                apply_window(np.float32(x), one.window),
                apply_window(y, one.window),
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=255,
            )
            for x, y in zip(volume.hu, hu_of(path), strict=True)
        ]
        # The program's mean leaves out the border; scikit-image's does too. Grey differs by the
        # rounding of the curve, which the program takes for the source's.
        assert one.quality["ssim"].mean == pytest.approx(np.mean(values), abs=0.01)
        assert one.tissue.unit == "HU"


def test_errors_of_the_whole_range_are_in_hu(volume, wide):
    path, result = wide
    hu = hu_of_luma(FULL, 1023)
    source = apply_window(np.float32(volume.hu), FULL, bit_depth=10)
    errors = np.rint(hu)[source] - np.rint(hu)[luma_of(path)]
    found = [one for one in result.tissue.errors.values() if one is not None]
    assert result.tissue.unit == "HU"
    assert max(one.maximum for one in found) <= np.abs(errors).max()
    unclipped = result.tissue.errors[
        next(a for a in result.tissue.errors if a.value == "unclipped")
    ]
    assert unclipped.rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=0.1)


def test_protected_windows_are_in_the_record(wide):
    path, result = wide
    record = json.loads(path.with_suffix(".json").read_text())
    assert [one["window"] for one in record["windows"]] == [one.as_dict() for one in PROTECTED]
    assert record["windows"][1]["ssim"]["mean"] == result.windows[1].quality["ssim"].mean


def test_bits_go_where_windows_look(volume, tmp_path):
    """At one size a window shows more quality if it is protected than if another one is."""

    def quality_db(path, window):
        pairs = zip(np.float32(volume.hu), hu_of(path), strict=True)
        values = [ssim(apply_window(x, window), apply_window(y, window)) for x, y in pairs]
        return -10 * np.log10(1 - np.mean(values))

    def curve(name):
        points = []
        for crf in (12, 18, 24):
            path = tmp_path / f"{name}{crf}.mkv"
            settings = {"protect": name, "effort": "fast", "crf": crf, "threads": 1}
            result = encode(volume, path, window="full", **settings)
            points.append([np.log(result.kbps), quality_db(path, LUNG), quality_db(path, SOFT)])
        return np.array(points)[::-1]

    lung, soft = curve("lung"), curve("soft-tissue")
    size = (max(lung[0, 0], soft[0, 0]) + min(lung[-1, 0], soft[-1, 0])) / 2

    def at(points, column):
        return np.interp(size, points[:, 0], points[:, column])

    assert at(lung, 1) > at(soft, 1) + 0.2
    assert at(soft, 2) > at(lung, 2) + 0.2


def test_decode_gives_back_all_hu(volume, wide, tmp_path):
    path, _ = wide
    decode(path, tmp_path / "series")
    again = load_volume(tmp_path / "series")
    # Stored values are steps of a sixteen-thousandth of the range.
    assert np.abs(np.stack(list(again.hu)) - hu_of(path)).max() < 0.1
    assert again.geometry.positions_mm == volume.geometry.positions_mm


def test_view_shows_a_window_of_it(volume, wide, tmp_path):
    path, _ = wide
    result = view(path, tmp_path / "soft.mkv", window="soft-tissue", crf=4, effort="fast")
    assert (result.grey.center, result.grey.width, result.frames) == (40, 400, 6)
    error = apply_window(hu_of(path), SOFT).astype(float) - luma_of(tmp_path / "soft.mkv")
    psnr_db = 10 * np.log10(255**2 / np.mean(error**2, axis=(1, 2)))
    assert [one["psnr"] for one in result.slices] == pytest.approx(psnr_db, abs=1e-3)
    assert result.geometry == volume.geometry


@pytest.mark.parametrize(("window", "is_told"), [("lung", True), ("brain", False)])
def test_hu_that_a_video_has_lost_are_told(volume, tmp_path, caplog, window, is_told):
    encode(volume, tmp_path / "soft.mkv", window="40/400", effort="fast")
    view(tmp_path / "soft.mkv", tmp_path / "out.mkv", window=window, effort="fast")
    lost = "made in the window 40/400 HU: HU below -160 and above 239 are lost"
    assert (lost in caplog.text) == is_told


def test_nothing_is_lost_of_all_hu(wide, tmp_path, caplog):
    path, _ = wide
    view(path, tmp_path / "lung.mkv", window="lung", effort="fast")
    assert "are lost" not in caplog.text


def test_view_from_the_command_line(wide, tmp_path, capfd):
    path, _ = wide
    done = run_command(capfd, "view", path, "-o", tmp_path / "a.mp4", "--window", "lung", "--json")
    assert json.loads(done.out)["window"] == {"center": -600, "width": 1500}
    done = run_command(capfd, "view", path, "-o", tmp_path / "b.mp4")
    assert done.status == 2
    assert done.err.startswith("ssimrdo: error: --window: ")
    assert error_of(done.err)


def test_shares_of_other_windows_are_undone_too():
    shares = np.linspace(0.1, 0.9, 9)
    for window in (SOFT, Window(10, 50, "SIGMOID"), Window(0, 90, "LINEAR_EXACT"), FULL):
        hu = hu_of_shares(window, shares, step=1 / 255)
        assert shares_of_hu(window, hu) == pytest.approx(shares, abs=1e-5)
    assert hu_of_shares(Window(40, 1), shares, step=1 / 255) is None
