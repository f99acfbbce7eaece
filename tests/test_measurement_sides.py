"""What can be measured: series, videos of any kind, folders of pictures; and damage in each."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from dicom_files import write_series
from numpy.typing import NDArray
from PIL import Image
from video_files import ct_volume, windowed

from ssimrdo import InputError, Volume, encode, measure
from ssimrdo.measurement import open_side
from ssimrdo.measurement.sides import Damaged

SLICES, ROWS, COLUMNS = 8, 48, 64


@pytest.fixture(scope="module")
def volume() -> NDArray[np.int16]:
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def luma(volume: NDArray[np.int16]) -> NDArray[np.uint8]:
    return windowed(volume).astype(np.uint8)


@pytest.fixture
def series(volume: NDArray[np.int16], tmp_path: Path) -> Path:
    write_series(tmp_path / "series", volume, WindowCenter=40, WindowWidth=400)
    return tmp_path / "series"


@pytest.fixture
def video(series: Path, tmp_path: Path) -> Path:
    encode(series, tmp_path / "video.mp4", crf=15)
    return tmp_path / "video.mp4"


def ffmpeg(*arguments: object, data: bytes = b"") -> bytes:
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def made(luma: NDArray[Any], path: Path, *options: str) -> Path:
    """Encode full-range luma with the ffmpeg program."""
    kind = "gray" if luma.dtype == np.uint8 else "gray10le"
    size = f"{luma.shape[2]}x{luma.shape[1]}"
    source = ["-f", "rawvideo", "-pix_fmt", kind, "-s", size, "-i", "-"]
    ffmpeg(*source, *options, path, data=luma.tobytes())
    return path


def frames_of(path: Path, **options: Any) -> NDArray[Any]:
    frames = list(open_side(path, field="reference", **options).frames())
    assert not any(isinstance(one, Damaged) for one in frames)
    return np.stack(frames)


# Videos


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mkv", ["-c:v", "ffv1"]),
        ("a.mkv", ["-c:v", "ffv1", "-pix_fmt", "gray"]),
        ("a.mkv", ["-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuvj420p"]),
        ("a.avi", ["-c:v", "huffyuv", "-pix_fmt", "rgb24"]),
        ("a.mkv", ["-c:v", "ffv1", "-pix_fmt", "bgr0"]),
        ("a.mkv", ["-c:v", "libx264rgb", "-qp", "0", "-pix_fmt", "rgb24"]),
        ("a.mkv", ["-c:v", "libx265", "-x265-params", "lossless=1:log-level=none"]),
    ],
)
def test_lossless_videos_are_what_went_in(
    luma: NDArray[np.uint8], tmp_path: Path, name: str, options: list[str]
) -> None:
    assert np.array_equal(frames_of(made(luma, tmp_path / name, *options)), luma)


def test_ten_bits(luma: NDArray[np.uint8], tmp_path: Path) -> None:
    ten = luma.astype(np.uint16) * 4 + 3
    path = made(ten, tmp_path / "a.mkv", "-c:v", "ffv1")
    side = open_side(path, field="reference")
    assert (side.peak, side.count, side.shape) == (1023, SLICES, (ROWS, COLUMNS))
    assert np.array_equal(frames_of(path), ten)


@pytest.mark.parametrize("bits", [8, 10])
def test_limited_range_is_expanded_as_ffmpeg_does(
    luma: NDArray[np.uint8], tmp_path: Path, bits: int
) -> None:
    kind, wide = ("yuv420p", "gray") if bits == 8 else ("yuv420p10le", "gray10le")
    path = made(luma, tmp_path / "a.mkv", "-c:v", "libx264", "-qp", "0", "-pix_fmt", kind)
    expected = np.frombuffer(
        ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", wide, "-"),
        np.uint8 if bits == 8 else np.uint16,
    ).reshape(luma.shape)
    found = frames_of(path)
    # FFmpeg's own conversion at 10 bit is off by as much.
    assert np.abs(found.astype(int) - expected).max() <= (1 if bits == 8 else 3)
    levels = luma.astype(int) if bits == 8 else np.rint(luma * (1023 / 255)).astype(int)
    # The coded levels are fewer than those that they came from.
    assert np.abs(found - levels).max() <= 1 + (bits == 10) * 2
    assert "limited range" in open_side(path, field="reference").notes[0]
    as_coded = frames_of(path, video_range="full")
    assert as_coded.min() >= 16 << (bits - 8)
    assert as_coded.max() <= 235 << (bits - 8)


def test_a_raw_stream_has_no_times(luma: NDArray[np.uint8], tmp_path: Path) -> None:
    options = ["-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuvj420p", "-f", "h264"]
    assert np.array_equal(frames_of(made(luma, tmp_path / "a.h264", *options)), luma)


def test_a_video_in_colour_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (2, 32, 32, 3), np.uint8).tobytes()
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "32x32", "-i", "-"]
    ffmpeg(*source, "-c:v", "ffv1", "-pix_fmt", "bgr0", tmp_path / "a.mkv", data=data)
    with pytest.raises(InputError, match=r"a\.mkv: is in colour"):
        measure(tmp_path / "a.mkv", tmp_path / "a.mkv")


def test_odd_sizes_are_cut_to_those_of_the_series(tmp_path: Path) -> None:
    volume = ct_volume(2, 45, 63)
    write_series(tmp_path / "odd", volume)
    encode(tmp_path / "odd", tmp_path / "odd.mp4", crf=15, window="soft-tissue")
    found = measure(tmp_path / "odd", tmp_path / "odd.mp4", "psnr")
    assert (found.rows, found.columns) == (45, 63)
    with av.open(str(tmp_path / "odd.mp4")) as source:
        shown = next(source.decode(video=0)).to_ndarray()[:45, :63]
    error = shown - windowed(volume[0])
    assert found.slices[0].values["psnr"] == pytest.approx(
        20 * np.log10(255 / np.sqrt((error**2).mean()))
    )


def test_the_record_of_another_video_is_not_used(
    video: Path, series: Path, volume: NDArray[np.int16], tmp_path: Path
) -> None:
    write_series(tmp_path / "other", volume + 20, step=(0.0, 0.0, 3.0))
    encode(tmp_path / "other", tmp_path / "other.mp4", window="lung")
    shutil.copy(tmp_path / "other.json", video.with_suffix(".json"))
    found = measure(series, video, "ssim", window="soft-tissue")
    assert (found.matched_by, found.window_source) == ("order", "preset")
    assert found.notes == ("distorted: its record is of another video, and is not used",)


def test_an_encode_of_arrays_has_a_record_too(
    volume: NDArray[np.int16], series: Path, tmp_path: Path
) -> None:
    encode(Volume(volume), tmp_path / "a.mp4", window="lung")
    found = measure(series, tmp_path / "a.mp4", "ssim")
    assert (found.window_source, str(found.window)) == ("encode", "-600/1500 HU")


def test_bits_that_decode_to_something_else_are_told(video: Path, series: Path) -> None:
    """The record knows what every frame decoded to; without it nobody can tell."""
    whole = measure(series, video, "psnr")
    with av.open(str(video)) as source:
        packets = [(one.pts or 0, one.pos, one.size) for one in source.demux(video=0) if one.size]
    pts, position, size = packets[-1]
    number = 1 + sorted(one[0] for one in packets).index(pts)
    data = bytearray(video.read_bytes())
    data[position + size // 2] ^= 0x55
    video.write_bytes(data)
    with pytest.raises(InputError, match=rf"frame {number}: the frame "):
        measure(series, video, "psnr")
    found = measure(series, video, "psnr", skip_bad=True)
    assert [one.number for one in found.failures] == [number]
    assert found.slices == tuple(row for row in whole.slices if row.number != number)


def test_a_video_is_seen_in_another_window(
    video: Path, series: Path, volume: NDArray[np.int16], tmp_path: Path
) -> None:
    """Its luma is taken back to HU; what its own window clipped is lost."""
    found = measure(series, video, "mse", window="brain")
    assert (found.unit, found.data_range, found.window_source) == ("HU", 79, "preset")
    assert found.notes == ("distorted: was made with 40/400 HU, and is taken back to HU",)
    with av.open(str(video)) as source:
        shown = [one.to_ndarray()[:ROWS, :COLUMNS] for one in source.decode(video=0)]
    for row, hu, luma in zip(found.slices, volume, shown, strict=True):
        again = -160 + luma.astype(float) * 399 / 255
        error = np.clip(again, 0, 79) - np.clip(hu.astype(float), 0, 79)
        assert row.rmse == pytest.approx(np.sqrt((error**2).mean()), rel=1e-3)
    encode(series, tmp_path / "lung.mp4", window="lung")
    with pytest.raises(InputError, match="made with different windows") as caught:
        measure(video, tmp_path / "lung.mp4")
    assert "{window}" in (caught.value.remedy or "")
    both = measure(video, tmp_path / "lung.mp4", "mse", window="brain")
    assert (both.unit, both.data_range, len(both.notes)) == ("HU", 79, 2)
    same = measure(video, video, "ssim")
    assert (same.unit, same.matched_by, same.window_source) == ("HU", "position", "encode")


def test_a_video_of_the_whole_range_is_seen_in_a_window(series: Path, tmp_path: Path) -> None:
    encode(series, tmp_path / "full.mkv", window="full", crf=10)
    plain = measure(series, tmp_path / "full.mkv", "ssim")
    assert plain.unit == "grey levels"
    assert "give a window" in plain.notes[0]
    shown = measure(series, tmp_path / "full.mkv", "ssim", window="soft-tissue")
    assert (shown.unit, shown.data_range) == ("HU", 399)
    assert 0 < (shown.slices[0].rmse or 0) < 20


def test_a_video_in_dicom_is_a_video(series: Path, tmp_path: Path) -> None:
    encode(series, tmp_path / "a.dcm", crf=15)
    found = measure(series, tmp_path / "a.dcm", "psnr")
    assert (found.matched_by, found.window_source) == ("position", "encode")
    record = json.loads((tmp_path / "a.json").read_text())
    for row, one in zip(found.slices, record["slices"], strict=True):
        assert row.values["psnr"] == pytest.approx(one["psnr"], abs=1e-9)


@pytest.mark.parametrize(("kept", "reason"), [(0, "does not decode"), (0.5, "is damaged")])
def test_a_damaged_frame_is_named(video: Path, series: Path, kept: float, reason: str) -> None:
    whole = measure(series, video, "psnr")
    with av.open(str(video)) as source:
        packets = [(one.pts or 0, one.pos, one.size) for one in source.demux(video=0) if one.size]
    # On the last one in coding order no other depends.
    pts, position, size = packets[-1]
    number = 1 + sorted(one[0] for one in packets).index(pts)
    data = bytearray(video.read_bytes())
    begin = position + int(kept * size)
    data[begin : position + size] = bytes(position + size - begin)
    video.write_bytes(data)
    words = rf"video\.mp4, frame {number}: the frame {reason}"
    with pytest.raises(InputError, match=words) as caught:
        measure(series, video, "psnr")
    assert "{skip_bad}" in (caught.value.remedy or "")
    found = measure(series, video, "psnr", skip_bad=True)
    assert [(one.number, one.side) for one in found.failures] == [(number, "distorted")]
    assert found.slices == tuple(row for row in whole.slices if row.number != number)


def test_a_damaged_stream_without_times_is_refused(luma: NDArray[np.uint8], tmp_path: Path) -> None:
    options = ["-c:v", "libx264", "-qp", "20", "-pix_fmt", "yuvj420p", "-f", "h264"]
    path = made(luma, tmp_path / "a.h264", *options)
    bad = tmp_path / "b.h264"
    data = bytearray(path.read_bytes())
    begin = data.rindex(b"\0\0\1") + 4
    data[begin : begin + 20] = b"\xff" * 20
    bad.write_bytes(data)
    for skip_bad in (False, True):
        with pytest.raises(InputError, match="frames without times cannot be told apart"):
            measure(path, bad, "psnr", skip_bad=skip_bad)


def test_a_video_that_is_none(tmp_path: Path, series: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"a\.mp4: cannot be decoded: FFmpeg"):
        measure(series, path)
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=0.1", "-c:a", "aac"),
            tmp_path / "sound.mp4",
        ],
        check=True,
    )
    with pytest.raises(InputError, match=r"sound\.mp4: has no video"):
        measure(series, tmp_path / "sound.mp4")


# Pictures


def pictures(folder: Path, frames: NDArray[Any], suffix: str = ".png", **options: Any) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames, start=1):
        # Without leading zeros: 10 comes behind 9.
        Image.fromarray(frame).save(folder / f"slice{number + 5}{suffix}", **options)
    return folder


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".pgm", ".jp2", ".webp"])
def test_pictures_are_read_as_they_are(
    luma: NDArray[np.uint8], tmp_path: Path, suffix: str
) -> None:
    options = {".jp2": {"irreversible": False}, ".webp": {"lossless": True}}.get(suffix, {})
    assert np.array_equal(frames_of(pictures(tmp_path / "in", luma, suffix, **options)), luma)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pictures_of_16_bits(tmp_path: Path, suffix: str) -> None:
    frames = np.random.default_rng(0).integers(0, 65536, (3, 30, 41)).astype(np.uint16)
    folder = pictures(tmp_path / "in", frames, suffix)
    assert open_side(folder, field="reference").peak == 65535
    assert np.array_equal(frames_of(folder), frames)
    twelve = pictures(tmp_path / "12", frames >> 4, suffix)
    assert np.array_equal(frames_of(twelve, data_range=4095), frames >> 4)
    with pytest.raises(InputError, match="outside 0 to 4095"):
        frames_of(folder, data_range=4095)
    with pytest.raises(InputError, match="whole number from 1 to 65535"):
        frames_of(folder, data_range=4095.5)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_jpeg_2000_of_any_depth(tmp_path: Path, bits: int) -> None:
    """FFmpeg puts 10 and 12 bits into the upper ones of 16."""
    from openjpeg.utils import encode_array

    rng = np.random.default_rng(0)
    frames = rng.integers(0, 1 << bits, (2, 32, 40)).astype(np.uint8 if bits == 8 else np.uint16)
    packets = [encode_array(one, bits, photometric_interpretation=2) for one in frames]
    (tmp_path / "in").mkdir()
    for number, data in enumerate(packets):
        (tmp_path / f"in/{number}.j2k").write_bytes(data)
    assert open_side(tmp_path / "in", field="reference").peak == (1 << bits) - 1
    assert np.array_equal(frames_of(tmp_path / "in"), frames)
    ffmpeg("-i", tmp_path / "in/%d.j2k", "-c", "copy", tmp_path / "a.mkv")
    assert open_side(tmp_path / "a.mkv", field="reference").peak == (1 << bits) - 1
    assert np.array_equal(frames_of(tmp_path / "a.mkv"), frames)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_pictures_in_any_mode(luma: NDArray[np.uint8], tmp_path: Path, mode: str) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(luma[0]).convert(mode).save(tmp_path / "in/a.png")
    assert np.array_equal(frames_of(tmp_path / "in"), luma[:1])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_in_colour_is_refused(tmp_path: Path, suffix: str) -> None:
    grey = Image.fromarray(np.full((32, 32), 90, np.uint8))
    Image.merge("RGB", [grey, grey, grey.point(lambda v: v + 60)]).save(tmp_path / f"a{suffix}")
    with pytest.raises(InputError, match=r"a\.\w+: is in colour: give grey pictures"):
        measure(tmp_path / f"a{suffix}", tmp_path / f"a{suffix}")


def test_grey_jpeg_of_three_components(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32).astype(np.uint8))
    grey.convert("RGB").save(tmp_path / "a.jpg", quality=95)
    found = frames_of(tmp_path / "a.jpg")[0]
    with Image.open(tmp_path / "a.jpg") as shown:
        assert np.abs(found.astype(int) - np.asarray(shown.convert("L"))).max() <= 1


def test_a_video_against_its_pictures(video: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ffmpeg("-i", video, "-pix_fmt", "gray", tmp_path / "in/%d.png")
    found = measure(video, tmp_path / "in", ["ssim", "mse"])
    assert (found.matched_by, found.unit) == ("order", "HU")
    assert all(row.values == {"ssim": 1, "mse": 0} for row in found.slices)


def test_a_folder_of_pictures_may_hold_more(luma: NDArray[np.uint8], tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", luma)
    (folder / "notes.txt").write_text("notes")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "more").mkdir()
    assert np.array_equal(frames_of(folder), luma)


def test_dicom_beside_pictures_is_the_series(series: Path, luma: NDArray[np.uint8]) -> None:
    Image.fromarray(luma[0]).save(series / "a.png")
    assert open_side(series, field="reference").kind == "series"


def test_pictures_that_differ_or_are_damaged(luma: NDArray[np.uint8], tmp_path: Path) -> None:
    one = pictures(tmp_path / "one", luma)
    two = shutil.copytree(one, tmp_path / "two")
    (two / "slice7.png").write_bytes((one / "slice7.png").read_bytes()[:900])
    Image.fromarray(luma[0][:30]).save(two / "slice8.png")
    Image.fromarray(luma[0].astype(np.uint16)).save(two / "slice9.png")
    (two / "slice10.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"slice7\.png: "):
        measure(one, two, "mse")
    found = measure(one, two, "mse", skip_bad=True)
    assert [row.number for row in found.slices] == [1, 6, 7, 8]
    assert [failed.number for failed in found.failures] == [2, 3, 4, 5]
    reasons = [failed.reason for failed in found.failures]
    assert reasons[1] == "is 64x30, the others are 64x48"
    assert reasons[2] == "has samples up to 65535, the others up to 255"
    assert not any("png" in reason for reason in reasons)


# Series


def test_a_damaged_slice_is_named(series: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(series, tmp_path / "copy")
    files = sorted(copy.iterdir())
    # Positions grow with the number in this series, or fall.
    data = files[2].read_bytes()
    files[2].write_bytes(data[:-2000])
    with pytest.raises(InputError, match=files[2].name):
        measure(series, copy, "ssim")
    found = measure(series, copy, "ssim", skip_bad=True)
    assert len(found.failures) == 1
    assert found.matched_by == "position"
    assert len(found.slices) == SLICES - 1
    assert all(row.values["ssim"] == 1 for row in found.slices)


def test_slices_are_matched_by_position(series: Path, video: Path, tmp_path: Path) -> None:
    """A series that lacks one slice, against an encode of all: the record tells what lies where."""
    whole = measure(series, video, "psnr")
    copy = shutil.copytree(series, tmp_path / "copy")
    sorted(copy.iterdir())[3].unlink()
    for one, two in ((copy, video), (copy, series)):
        with pytest.raises(InputError, match="numbers of slices differ: 7 in"):
            measure(one, two, "psnr")
    found = measure(copy, video, "psnr", skip_bad=True)
    (failed,) = found.failures
    assert (failed.side, failed.reason) == ("reference", "there is no slice at its position")
    assert found.slices == tuple(row for row in whole.slices if row.number != failed.number)


def test_slices_elsewhere_are_refused(volume: NDArray[np.int16], tmp_path: Path) -> None:
    write_series(tmp_path / "one", volume)
    write_series(tmp_path / "two", volume, step=(0.0, 0.0, 2.5))
    with pytest.raises(InputError, match="nothing lies where its slice 2 does"):
        measure(tmp_path / "one", tmp_path / "two", "ssim")
    found = measure(tmp_path / "one", tmp_path / "two", "ssim", match="order")
    assert found.matched_by == "order"
    assert all(row.values["ssim"] == 1 for row in found.slices)


def test_a_folder_with_nothing_in_it(series: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds nothing"):
        measure(series, tmp_path / "empty")
    with pytest.raises(InputError, match="nix: no such file"):
        measure(series, tmp_path / "nix")
    (tmp_path / "empty/a.txt").write_text("text")
    with pytest.raises(InputError, match="no DICOM files here"):
        measure(series, tmp_path / "empty")
