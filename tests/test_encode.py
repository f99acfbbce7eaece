from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_series
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from video_files import (
    SOFT_TISSUE,
    ct_volume,
    frames_of,
    packets_of,
    plane,
    slices_of,
    weighted_ssim,
    windowed,
)

from ssimrdo import EncodeResult, EncodeSettings, InputError, Observer, Window, encode
from ssimrdo.codecs.x264.codec import X264Session

X264 = shutil.which("x264")
# With AVX-512, x264 0.164 reads uninitialised memory in MB-tree unless 16 divides the number of
# macroblocks in a row, and the stream then varies by chance.
ROWS, COLUMNS, SLICES = 48, 256, 12
SOFT = Window(*SOFT_TISSUE)


@pytest.fixture(scope="module")
def volume():
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def series(volume, tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    write_series(folder, volume)
    return folder


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".h264"])
@pytest.mark.parametrize(("bit_depth", "size"), [(8, (64, 96)), (10, (64, 96)), (8, (49, 75))])
def test_result_agrees_with_an_independent_look_at_the_file(suffix, bit_depth, size, tmp_path):
    volume = ct_volume(7, *size)
    write_series(tmp_path / "ct", volume)
    output = tmp_path / f"out{suffix}"
    result = encode(tmp_path / "ct", output, window=SOFT, bit_depth=bit_depth)

    assert isinstance(result, EncodeResult)
    rows, columns = size
    shown = [plane(frame)[:rows, :columns] for frame in frames_of(output)]
    source = [windowed(hu, bit_depth=bit_depth) for hu in volume]
    peak = 2**bit_depth - 1
    options = {"data_range": peak, "gaussian_weights": True, "use_sample_covariance": False}
    pairs = list(zip(source, shown, strict=True))
    ssim = [structural_similarity(a, b.astype(int), **options) for a, b in pairs]
    weighted = [weighted_ssim(a, b, bit_depth=bit_depth) for a, b in pairs]
    psnr = [peak_signal_noise_ratio(a, b.astype(int), data_range=peak) for a, b in pairs]
    for summary, values, tolerance in (
        (result.ssim, ssim, 1e-4),
        (result.quality["weighted_ssim"], weighted, 1e-4),
        (result.quality["psnr"], psnr, 1e-3),
    ):
        assert summary.mean == pytest.approx(np.mean(values), abs=tolerance)
        assert summary.worst == summary.min == pytest.approx(min(values), abs=tolerance)
    assert list(result.quality) == ["ssim", "weighted_ssim", "psnr"]
    assert (result.frames, result.bit_depth) == (7, bit_depth)
    assert (result.width, result.height) == (columns + columns % 2, rows + rows % 2)
    assert (result.window.center, result.window.width) == SOFT_TISSUE
    assert result.output == str(output)
    assert result.bytes == output.stat().st_size
    payload = sum(packet.size for packet in packets_of(output))
    assert result.kbps == pytest.approx(payload * 8 * 25 / 7 / 1000, rel=2e-3)
    assert result.codec.settings.encode() in output.read_bytes()
    assert result.codec.name == "x264"
    assert result.objective == "balanced"
    assert result.skipped == ()
    # Slices are read and analysed beside encoding, so only each step fits into the total.
    seconds = result.seconds
    for step in (seconds.load, seconds.analyse, seconds.encode, seconds.verify):
        assert 0 < step < seconds.total


def test_frames_are_the_slices_in_order(volume, series, tmp_path):
    encode(series, tmp_path / "out.mp4", qp=4, window=SOFT)
    for frame, hu in zip(frames_of(tmp_path / "out.mp4"), volume, strict=True):
        assert np.abs(plane(frame) - windowed(hu)).max() <= 6


def test_window_of_the_header_by_default(volume, tmp_path):
    write_series(tmp_path / "ct", volume[:2], WindowCenter=-600, WindowWidth=1500)
    result = encode(tmp_path / "ct", tmp_path / "out.mp4", qp=4)
    assert (result.window.center, result.window.width) == (-600, 1500)
    frame = frames_of(tmp_path / "out.mp4")[0]
    assert np.abs(plane(frame) - windowed(volume[0], (-600, 1500))).max() <= 6


def test_sidecar_holds_settings_and_results(series, tmp_path):
    settings = EncodeSettings.of(qp=30, fps=Fraction(25, 2), x264_params=(("bframes", "2"),))
    result = encode(series, tmp_path / "out.mkv", settings)
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert sidecar["settings"] == settings.as_dict()
    shared = {**result.as_dict(), "output": "out.mkv"}
    assert shared.items() <= sidecar.items()


def test_rate_options_reach_x264(series, tmp_path):
    def words(**settings):
        output = tmp_path / f"{len(list(tmp_path.iterdir()))}.h264"
        return encode(series, output, **settings).codec.settings.split()

    assert "crf=23.0" in words()
    assert {"crf=31.5", "psy=0"} <= set(words(crf=31.5))
    assert {"qp=31", "psy=1"} <= set(words(qp=31, rdo="off", preset="slow"))
    assert {"rc=2pass", "bitrate=200"} <= set(words(bitrate_kbps=200))
    assert {"bframes=0", "psy=1", "threads=1"} <= set(
        words(x264_params=(("bframes", "0"), ("psy", "1")), threads=1)
    )


def test_rdo_changes_the_stream_and_strength_zero_differs(series, tmp_path):
    streams = set()
    for index, (rdo, strength) in enumerate([("off", 0.5), ("ssim", 0), ("ssim", 0.5)]):
        output = tmp_path / f"{index}.h264"
        encode(series, output, qp=30, rdo=rdo, rdo_strength=strength)
        streams.add(b"".join(slices_of(output)))
    assert len(streams) == 3


@pytest.mark.parametrize("rdo", ["ssim", "off"])
def test_two_passes_hit_the_bit_rate(rdo, tmp_path):
    write_series(tmp_path / "ct", ct_volume(120, 80, 112))
    for kbps in (150, 400):
        settings = {"bitrate_kbps": kbps, "rdo": rdo, "preset": "veryfast", "window": SOFT}
        result = encode(tmp_path / "ct", tmp_path / f"{kbps}.mp4", **settings)
        assert result.kbps == pytest.approx(kbps, rel=0.05)


def test_both_passes_take_the_same_ratios_and_roles(series, tmp_path, monkeypatch):
    seen = []
    encode_frame = X264Session.encode

    def recorded(self, luma, steering, index):
        seen.append((index, steering.role, steering.lagrange_ratio, luma))
        return encode_frame(self, luma, steering, index)

    monkeypatch.setattr(X264Session, "encode", recorded)
    encode(series, tmp_path / "out.mp4", bitrate_kbps=200)
    assert len(seen) == 2 * SLICES
    for first, second in zip(seen[:SLICES], seen[SLICES:], strict=True):
        assert first[:2] == second[:2]
        np.testing.assert_array_equal(first[2], second[2])
        np.testing.assert_array_equal(first[3], second[3])
    assert [index for index, *_ in seen[:SLICES]] == list(range(SLICES))
    assert np.std(seen[0][2]) > 0


def test_progress_counts_both_passes(series, tmp_path):
    events = []
    encode(series, tmp_path / "out.mp4", bitrate_kbps=200, observer=Observer(events.append))
    told = [(event.done, event.total) for event in events]
    assert told == [(done, 2 * SLICES) for done in range(1, 2 * SLICES + 1)]


@pytest.mark.parametrize("rate", [{"crf": 28}, {"bitrate_kbps": 200}])
def test_a_truncated_slice_in_the_middle_is_left_out(rate, volume, tmp_path):
    files = write_series(tmp_path / "ct", volume)
    files[5].write_bytes(files[5].read_bytes()[:2000])
    output = tmp_path / "out.mp4"
    result = encode(tmp_path / "ct", output, skip_bad=True, **rate)
    assert result.frames == len(frames_of(output)) == SLICES - 1
    assert [file.path for file in result.skipped] == [files[5].name]
    sidecar = json.loads((tmp_path / "out.json").read_text())
    assert sidecar["skipped"] == [{"reason": result.skipped[0].reason, "files": 1}]


def test_a_slice_that_does_not_decode_is_left_out_of_both_passes(volume, tmp_path):
    files = write_series(tmp_path / "ct", volume, compress="1.2.840.10008.1.2.4.80")
    data = files[5].read_bytes()
    start = data.index(b"\xff\xd8\xff\xf7")
    files[5].write_bytes(data[: start + 2] + bytes(len(data) - start - 4) + data[-2:])
    settings = EncodeSettings.of(bitrate_kbps=200, window=SOFT)
    with pytest.raises(InputError, match=files[5].name):
        encode(tmp_path / "ct", tmp_path / "out.mp4", settings)
    assert not (tmp_path / "out.mp4").exists()
    result = encode(tmp_path / "ct", tmp_path / "out.mp4", settings, skip_bad=True)
    assert [file.path for file in result.skipped] == [files[5].name]
    shown = [plane(frame).astype(int) for frame in frames_of(tmp_path / "out.mp4")]
    kept = [windowed(hu) for index, hu in enumerate(volume) if index != 5]
    nearest = [np.argmin([np.abs(a - b).mean() for b in kept]) for a in shown]
    assert nearest == list(range(SLICES - 1))


def test_encodes_in_threads_give_the_same_bytes(tmp_path):
    folders = []
    for seed in range(4):
        folders.append(tmp_path / f"ct{seed}")
        write_series(folders[-1], ct_volume(10, 32, COLUMNS, seed=seed))
    settings = EncodeSettings.of(crf=25, preset="veryfast")

    def run(folder, name):
        encode(folder, tmp_path / name, settings)
        return (tmp_path / name).read_bytes()

    one_by_one = [run(folder, f"{folder.name}.mp4") for folder in folders]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, folders, [f"{folder.name}-t.mp4" for folder in folders]))
    assert together == one_by_one


def stock_x264(frames, rate, bit_depth, output: Path) -> None:
    """Encode frames with the x264 program."""
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    rows, columns = frames[0].shape
    chroma = np.full(rows * columns // 2, 1 << (bit_depth - 1), dtype).tobytes()
    raw = output.with_suffix(".yuv")
    raw.write_bytes(b"".join(frame.astype(dtype).tobytes() + chroma for frame in frames))
    command = [
        *(X264, "--quiet", "--preset", "fast", *rate, "--demuxer", "raw", "--input-csp", "i420"),
        *("--input-res", f"{columns}x{rows}", "--fps", "25"),
        *("--input-range", "pc", "--range", "pc"),
        *("--input-depth", str(bit_depth), "--output-depth", str(bit_depth)),
        *("-o", str(output), str(raw)),
    ]
    stats = ["--stats", str(output.with_suffix(".stats"))]
    passes = [["--pass", "1", *stats], ["--pass", "2", *stats]] if "--bitrate" in rate else [[]]
    for options in passes:
        subprocess.run([*command[:-3], *options, *command[-3:]], check=True, capture_output=True)


@pytest.mark.skipif(X264 is None, reason="the x264 program is not installed")
@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize(
    ("settings", "rate"),
    [
        ({"crf": 21.5}, ["--crf", "21.5"]),
        ({"qp": 27}, ["--qp", "27"]),
        ({"bitrate_kbps": 180}, ["--bitrate", "180"]),
    ],
)
def test_without_rdo_the_stream_is_that_of_the_stock_program(
    settings, rate, bit_depth, volume, series, tmp_path
):
    frames = [windowed(hu, bit_depth=bit_depth) for hu in volume]
    wanted = EncodeSettings.of(
        **settings, preset="fast", rdo="off", bit_depth=bit_depth, window=SOFT
    )
    stock_x264(frames, rate, bit_depth, tmp_path / "stock.h264")
    encode(series, tmp_path / "ours.h264", wanted)
    assert (tmp_path / "ours.h264").read_bytes() == (tmp_path / "stock.h264").read_bytes()
    # The second pass counts the parameter sets, which a container keeps apart.
    stock_x264(frames, rate, bit_depth, tmp_path / "stock.mkv")
    for suffix in (".mp4", ".mkv"):
        encode(series, tmp_path / f"{suffix[1:]}{suffix}", wanted)
        assert slices_of(tmp_path / f"{suffix[1:]}{suffix}") == slices_of(tmp_path / "stock.mkv")


@pytest.mark.skipif("SSIMRDO_CT_DATA" not in os.environ, reason="SSIMRDO_CT_DATA is not set")
def test_real_ct(tmp_path):
    folder = Path(os.environ["SSIMRDO_CT_DATA"]) / "head-bone"
    result = encode(folder, tmp_path / "out.mp4", preset="veryfast")
    assert result.frames == len(frames_of(tmp_path / "out.mp4"))
    assert 0.5 < result.ssim.min <= result.ssim.mean < 1


def test_types_are_x264s_where_the_users_parameters_ask_for_that(series, tmp_path):
    params = (("keyint", "4"), ("min-keyint", "1"))
    used = encode(series, tmp_path / "out.mp4", x264_params=params).codec.settings.split()
    assert {"b_adapt=1", "scenecut=40", "keyint=4"} <= set(used)
