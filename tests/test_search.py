from __future__ import annotations

import json
import re
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from dicom_files import write_series
from hypothesis import given
from hypothesis import strategies as st
from messages import error_of, others
from skimage.metrics import structural_similarity
from video_files import SOFT_TISSUE, ct_volume, frames_of, plane, run_command, windowed

from ssimrdo import EncodeSettings, InputError, Observer, Window, encode, metrics
from ssimrdo.codecs.base import QualityScale
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.encoding.search import (
    MAX_CRF_ENCODES,
    MAX_FLOOR_ENCODES,
    Goal,
    Trial,
    corrected_shifts,
    find_smallest,
    needed_crfs,
    next_crf,
)
from ssimrdo.text import size_text

# x264's streams are sure to repeat at this width; see test_encode.py.
SLICES, ROWS, COLUMNS = 10, 48, 256
GOAL = 0.93
SCALE = X264().scale("crf", 8)
BASE = {"window": Window(*SOFT_TISSUE), "preset": "veryfast"}


@pytest.fixture
def ssimrdo(capfd):
    return partial(run_command, capfd)


@pytest.fixture(scope="module")
def volume():
    """Slices whose contrast and noise grow, so that their SSIM differs at one CRF."""
    volume = ct_volume(SLICES, ROWS, COLUMNS)
    factors = np.linspace(0.3, 1, SLICES)[:, np.newaxis, np.newaxis]
    return np.where(volume > -500, 40 + factors * (volume - 40.0), volume).astype(np.int16)


@pytest.fixture(scope="module")
def series(volume, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, volume)
    return folder


def ssim_of(output, volume, bit_depth=8):
    """Return SSIM of what FFmpeg decodes, by scikit-image."""
    options = {
        "data_range": 2**bit_depth - 1,
        "gaussian_weights": True,
        "use_sample_covariance": False,
    }
    pairs = zip(volume, frames_of(output), strict=True)
    return np.array(
        [
            structural_similarity(
                windowed(hu, bit_depth=bit_depth), plane(shown).astype(int), **options
            )
            for hu, shown in pairs
        ]
    )


TARGETS = {"worst": np.min, "mean": np.mean, "p5": lambda ssim: sorted(ssim)[len(ssim) // 20]}


@pytest.mark.parametrize(
    ("target", "suffix", "bit_depth"),
    [("worst", ".mp4", 8), ("worst", ".h264", 10), ("mean", ".mkv", 8), ("p5", ".mp4", 10)],
)
def test_decoded_slices_keep_the_ssim_in_no_more_bytes(
    target, suffix, bit_depth, volume, series, tmp_path
):
    output = tmp_path / f"out{suffix}"
    settings = EncodeSettings.of(min_ssim=GOAL, over=target, bit_depth=bit_depth, **BASE)
    result = encode(series, output, settings)
    search = result.search
    reached = TARGETS[target](ssim_of(output, volume, bit_depth))
    assert reached >= GOAL - 1e-4
    assert search.reached == pytest.approx(reached, abs=1e-4)
    assert (search.index, search.goal, search.over) == ("ssim", GOAL, target)

    def plain(crf):
        path = tmp_path / f"{crf:g}{suffix}"
        encode(series, path, crf=crf, bit_depth=bit_depth, **BASE)
        return path.stat().st_size, TARGETS[target](ssim_of(path, volume, bit_depth))

    plain_bytes, plain_ssim = plain(search.plain_crf)
    assert plain_ssim >= GOAL - 1e-4
    # A small step further the plain answer falls short: it is the highest CRF.
    assert plain(search.plain_crf + 1)[1] < GOAL
    saved = 100 * (1 - search.payload_bytes / search.plain_payload_bytes)
    assert search.saved_percent == pytest.approx(saved)
    assert plain_bytes - result.bytes == pytest.approx(
        search.plain_payload_bytes - search.payload_bytes, abs=64
    )
    if target == "mean":
        assert (search.crf, search.raised_slices) == (search.plain_crf, 0)
    else:
        assert search.saved_percent > 3
        assert search.crf > search.plain_crf
        assert 0 < search.raised_slices <= SLICES


def test_search_is_in_the_sidecar_and_progress_adds_up(series, tmp_path):
    events = []
    result = encode(
        series, tmp_path / "out.mp4", min_ssim=GOAL, observer=Observer(events.append), **BASE
    )
    calls = [(event.done, event.total) for event in events if not event.note]
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert sidecar["search"] == result.as_dict()["search"]
    assert (sidecar["settings"]["min_ssim"], sidecar["settings"]["target"]) == (GOAL, "worst")
    assert [done for done, _ in calls] == list(range(1, SLICES * result.search.encodes + 1))
    totals = [total for _, total in calls]
    assert calls[-1] == (totals[-1], totals[-1])
    assert totals == sorted(totals, reverse=True)


def test_every_trial_is_told_and_the_last_to_keep_the_goal_is_the_file(series, tmp_path):
    events = []
    result = encode(
        series, tmp_path / "out.mp4", min_ssim=GOAL, observer=Observer(events.append), **BASE
    )
    notes = [event.note for event in events if event.note]
    # One encode more writes what was found.
    assert len(notes) == result.search.encodes - 1
    assert [note.partition(":")[0] for note in notes] == [
        f"trial {number}" for number in range(1, len(notes) + 1)
    ]
    for note in notes:
        quality = float(re.search(r"worst slice's SSIM ([0-9.]+)", note)[1])
        assert note.endswith(", not enough") == (quality < GOAL)
    kept = f"{size_text(result.search.payload_bytes)}, worst slice's SSIM {result.ssim.worst:.5f}"
    assert any(note.endswith(kept) for note in notes)


def test_bad_slices_are_left_out_of_every_encode(volume, tmp_path):
    files = write_series(tmp_path / "ct", volume, compress="1.2.840.10008.1.2.4.80")
    data = files[5].read_bytes()
    start = data.index(b"\xff\xd8\xff\xf7")
    files[5].write_bytes(data[: start + 2] + bytes(len(data) - start - 4) + data[-2:])
    result = encode(tmp_path / "ct", tmp_path / "out.mp4", min_ssim=GOAL, skip_bad=True, **BASE)
    assert [file.path for file in result.skipped] == [files[5].name]
    kept = [hu for index, hu in enumerate(volume) if index != 5]
    assert ssim_of(tmp_path / "out.mp4", kept).min() >= GOAL - 1e-4


def test_command_reports_the_search(ssimrdo, series, tmp_path):
    options = ["--window", "40/400", "--preset", "veryfast"]
    done = ssimrdo("encode", series, "-o", tmp_path / "a.mp4", "--target", "worst", *options)
    assert (done.status, others(done.err)) == (0, "")
    assert "search    CRF" in done.out
    sidecar = json.loads((tmp_path / "a.json").read_text())
    assert sidecar["settings"]["min_ssim"] == 0.95
    assert sidecar["ssim"]["min"] >= 0.95


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min-ssim", "0"], "out of range"),
        (["--min-ssim", "1"], "out of range"),
        (["--min-ssim", "nan"], "--min-ssim: 'nan' is not a number"),
        (["--min-ssim", "0.9", "--crf", "20"], "give one of --crf, --qp, --bitrate, --min-ssim"),
        (["--target", "mean", "--bitrate", "100"], "--over: goes with a quality to keep"),
        (["--min", "psnr=40", "--min-ssim", "0.9"], "give one of --crf, --qp"),
        (["--min", "vmaf=0.9"], "--min: quality index 'vmaf' is unknown"),
        (["--min", "psnr=100"], "--min: 100.0 is out of range for PSNR: above 0 and below 100"),
        (["--min-ssim", "0.9", "--target", "best"], "worst, mean, p5"),
        (["--min-ssim", "0.99999", "--preset", "ultrafast"], "cannot be reached"),
    ],
)
def test_refusals(ssimrdo, series, tmp_path, options, message):
    done = ssimrdo("encode", series, "-o", tmp_path / "out.mp4", *options)
    assert (done.status, done.out) == (2, "")
    assert message in error_of(done.err)
    assert list(tmp_path.iterdir()) == []


def test_the_highest_crf_where_all_are_above_the_goal(series, tmp_path):
    result = encode(series, tmp_path / "out.mp4", min_ssim=0.01, **BASE)
    assert (result.search.crf, result.search.raised_slices) == (51, 0)


def goal_of(value, over="worst", scale=SCALE, index=metrics.SSIM):
    return Goal(index, value, over, scale)


curves = st.builds(
    lambda crf, slope: lambda at: 1 / (1 + np.exp(slope * (at - crf))) * 0.9999,
    st.floats(20, 90),
    st.floats(0.1, 0.4),
)


@given(curves, st.floats(0.5, 0.995))
def test_crf_search_ends_close_below_the_crossing_of_a_curve(curve, goal):
    points = []
    crf = 23.0
    while crf is not None:
        assert 1 <= crf <= 51
        points.append((crf, float(curve(crf))))
        assert len(points) <= MAX_CRF_ENCODES
        crf = next_crf(points, goal_of(goal))
    reaching = [crf for crf, ssim in points if ssim >= goal]
    if curve(1) < goal:
        assert not reaching
        assert min(points)[0] == 1
    elif curve(51) >= goal:
        assert max(reaching) == 51
    else:
        assert curve(max(reaching) + 0.15) < goal


@given(st.floats(10, 40), st.floats(0.15, 0.3), st.floats(0.8, 0.99))
def test_needed_crf_is_exact_on_the_models_own_curve(needed, slope, goal):
    # ln(1/SSIM - 1) is a line that takes the goal's value at the needed CRF.
    crfs = np.array([30.0, 18.0, 25.0])
    error = np.log(1 / goal - 1) + slope * (crfs - needed)
    ssim = 1 / (1 + np.exp(error))
    found, slopes = needed_crfs(crfs, ssim[:, np.newaxis], goal_of(goal))
    assert found == pytest.approx([needed], abs=1e-4)
    assert slopes == pytest.approx([slope], abs=1e-5)


def test_shifts_go_down_where_short_and_up_where_there_is_much_to_spare():
    spare = np.array([-1.0, -3.0, 0.4, 4.0, 50.0])
    corrected = corrected_shifts(np.full(5, -2.0), spare, 0)
    assert corrected[0] < -3
    assert corrected[1] < -5
    assert corrected[2] == -2
    assert -2 < corrected[3] < 2
    assert corrected[4] == 0
    assert corrected_shifts(np.full(5, -2.0), spare, 1)[1] == -2


def synthetic(needed, goal):
    """Return an encoder of independent slices, each of which needs its own CRF."""
    calls = []

    def run(crf, shifts, encodes_left):
        calls.append(encodes_left)
        qp = crf + (np.zeros(len(needed)) if shifts is None else shifts)
        error = np.log(1 / goal - 1) + np.log(2) / 3 * (qp - needed)
        size = int(np.sum(1e6 * 2 ** (-qp / 6)))
        return Trial(crf, shifts, 1 / (1 + np.exp(error)), size)

    return run, calls


@given(st.lists(st.floats(15, 40), min_size=2, max_size=40), st.sampled_from(["worst", "p5"]))
def test_independent_slices_end_close_to_what_each_needs(needed, target):
    needed = np.array(needed)
    run, calls = synthetic(needed, GOAL)
    goal = goal_of(GOAL, target)
    found = find_smallest(run, goal)
    assert goal.quality(found.best.values) >= GOAL
    assert found.best.payload_bytes <= found.plain.payload_bytes
    assert found.encodes == len(calls) <= MAX_CRF_ENCODES + MAX_FLOOR_ENCODES
    assert all(later < earlier for earlier, later in pairwise(calls))
    # No encode of independent slices reaches the goal in less than this.
    may_fall_short = {"worst": 0, "p5": len(needed) // 20}[target]
    floor = np.maximum(needed, np.sort(needed)[may_fall_short])
    ideal = np.sum(1e6 * 2 ** (-np.minimum(floor, found.best.crf) / 6))
    assert found.best.payload_bytes <= 1.15 * ideal


@pytest.mark.parametrize(("slices", "may_fall_short"), [(1, 0), (19, 0), (20, 1), (96, 4)])
def test_p5_is_kept_by_95_percent_of_the_slices(slices, may_fall_short):
    ssim = np.linspace(0.9, 0.99, slices)[::-1]
    assert (ssim < goal_of(0.5, "p5").quality(ssim)).sum() == may_fall_short


def test_out_of_reach_names_the_best_that_was_reached():
    run, _ = synthetic(np.full(3, -20.0), GOAL)
    best = goal_of(GOAL).quality(run(1.0, None, 0).values)
    with pytest.raises(InputError, match=f"{best:.5f} at CRF 1") as caught:
        find_smallest(run, goal_of(GOAL))
    assert caught.value.field == "min"


@pytest.mark.parametrize(
    ("given", "option"), [({"min_ssim": 0.99999}, "min_ssim"), ({"min": "ssim=0.99999"}, "min")]
)
def test_out_of_reach_names_the_option_that_was_given(given, option, series, tmp_path):
    with pytest.raises(InputError, match=r"SSIM 0\.99999 cannot be reached") as caught:
        encode(series, tmp_path / "out.mp4", **given, **BASE)
    assert caught.value.field == option
    assert not list(tmp_path.glob("out*"))


RMS_ERROR = metrics.QualityIndex(
    "rms_error",
    "RMS error",
    lambda pair: float(np.sqrt(np.mean((pair.source.astype(float) - pair.shown) ** 2))),
    unit="levels",
    higher_is_better=False,
    high=255.0,
    log_loss=np.log,
    loss_per_qp=np.log(2) / 6,
)


def test_where_lower_is_better_a_floor_is_a_ceiling():
    goal = goal_of(4.0, index=RMS_ERROR)
    assert (goal.reached(3.9), goal.reached(4.0), goal.reached(4.1)) == (True, True, False)
    values = np.arange(1.0, 21.0)
    assert goal.quality(values) == 20
    assert goal_of(4.0, "p5", index=RMS_ERROR).quality(values) == 19
    assert goal_of(4.0, "mean", index=RMS_ERROR).quality(values) == 10.5


@given(st.lists(st.floats(15, 40), min_size=2, max_size=40), st.sampled_from(["worst", "p5"]))
def test_the_search_goes_the_other_way_where_lower_is_better(needed, over):
    needed = np.array(needed)
    goal = goal_of(4.0, over, index=RMS_ERROR)

    def run(crf, shifts, _encodes_left):
        qp = crf + (np.zeros(len(needed)) if shifts is None else shifts)
        return Trial(crf, shifts, 4 * 2 ** ((qp - needed) / 6), int(np.sum(1e6 * 2 ** (-qp / 6))))

    found = find_smallest(run, goal)
    assert goal.quality(found.best.values) <= 4.0
    assert found.best.payload_bytes <= found.plain.payload_bytes
    may_fall_short = {"worst": 0, "p5": len(needed) // 20}[over]
    floor = np.maximum(needed, np.sort(needed)[may_fall_short])
    ideal = np.sum(1e6 * 2 ** (-np.minimum(floor, found.best.crf) / 6))
    assert found.best.payload_bytes <= 1.15 * ideal
    with pytest.raises(InputError, match=r"worst slice's RMS error is \d\.\d{5} at CRF 1"):
        find_smallest(run, goal_of(1e-3, index=RMS_ERROR))


@given(st.floats(5, 31), st.integers(1, 5), st.floats(0.5, 2.0))
def test_a_coarse_scale_is_searched_in_its_own_steps(crossing, step, slope):
    """As that of MPEG-4's quantizer: whole numbers, each worth another share of a QP."""
    high = step * (31 // step)
    scale = QualityScale(step, high, step, default=3 * step, whole=True)
    goal = goal_of(GOAL, "mean", scale)
    tried = []

    def run(point, shifts, _encodes_left):
        scale.check(point, field="crf")
        assert point % step == 0
        assert shifts is None
        tried.append(point)
        error = np.log(1 / GOAL - 1) + slope * np.log(2) / 3 * (point - crossing)
        return Trial(point, None, np.full(3, 1 / (1 + np.exp(error))), int(1e6 / point))

    found = find_smallest(run, goal, may_raise=False)
    best = max(point for point in range(step, high + 1, step) if point <= crossing + 1e-9)
    assert len(set(tried)) == len(tried) == found.encodes
    # Near enough to the goal is good enough, by less than a step of the quantizer.
    assert best - step < found.best.crf <= best
    assert found.plain is found.best


STEP = 1 / 2.1
UNEVEN = QualityScale(8, 36, step=STEP, default=23, matched=True)


@given(st.floats(1, 40), st.floats(0.5, 2.0))
def test_a_scale_whose_steps_are_no_decimals_is_searched_without_repeating(crossing, slope):
    """As that of AV1, whose encoder takes whole numbers that are 2.1 of them to one of x264's."""
    goal = goal_of(GOAL, "mean", UNEVEN)
    tried = []

    def run(point, shifts, _encodes_left):
        UNEVEN.check(point, field="crf")
        tried.append(point)
        own = round(point / STEP - 14.5)
        error = np.log(1 / GOAL - 1) + slope * np.log(2) / 3 * ((own + 14.5) * STEP - crossing)
        return Trial(point, shifts, np.full(3, 1 / (1 + np.exp(error))), int(1e6 / own))

    if crossing < 7.9:
        with pytest.raises(InputError, match="at CRF 8, the lowest"):
            find_smallest(run, goal, may_raise=False)
        assert min(tried) == UNEVEN.low
    else:
        best = find_smallest(run, goal, may_raise=False).best
        assert crossing - 1.5 * STEP < best.crf or best.crf == UNEVEN.high
    assert len(tried) == len(set(tried))


def test_without_steering_one_crf_is_for_all(series, volume, tmp_path):
    result = encode(series, tmp_path / "out.mp4", min_ssim=GOAL, rdo="off", **BASE)
    assert (result.search.raised_slices, result.objective) == (0, None)
    assert result.search.crf == result.search.plain_crf
    assert ssim_of(tmp_path / "out.mp4", volume).min() >= GOAL - 1e-4


@pytest.mark.parametrize(("index", "goal"), [("psnr", 36.0), ("ms-ssim", 0.98)])
def test_other_indices_can_be_kept(index, goal, series, tmp_path):
    """Each slice keeps it, by the record of every slice, and a coarser file does not."""
    result = encode(series, tmp_path / "out.mp4", min=(index, goal), **BASE)
    name = index.replace("-", "_")
    assert (result.search.index, result.search.goal, result.search.over) == (name, goal, "worst")
    values = [one[name] for one in result.slices]
    assert min(values) == result.quality[name].worst == result.search.reached >= goal
    coarser = encode(
        series, tmp_path / "b.mp4", crf=result.search.plain_crf + 1, measure=name, **BASE
    )
    assert coarser.quality[name].worst < goal
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert sidecar["settings"]["min"] == f"{name}={goal:g}"
    assert sidecar["settings"]["min_ssim"] is None
    assert not {"min_ssim", "ssim", "target"} & sidecar["search"].keys()


def test_a_floor_on_the_command_line(ssimrdo, series, tmp_path):
    options = ["--window", "40/400", "--preset", "veryfast", "--min", "psnr=35", "--over", "mean"]
    done = ssimrdo("encode", series, "-o", tmp_path / "a.mp4", "--json", *options)
    assert (done.status, others(done.err)) == (0, "")
    record = json.loads(done.out)
    assert record["search"]["index"] == "psnr"
    assert record["psnr"]["mean"] == record["search"]["reached"] >= 35
