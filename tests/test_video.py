from __future__ import annotations

import io
import json
import shutil
import subprocess
from fractions import Fraction

import av
import av.logging
import numpy as np
import pytest
from av.video.frame import PictureType
from av.video.reformatter import ColorRange
from dicom_files import write_series
from video_files import SOFT_TISSUE, ct_volume, frames_of, packets_of, plane, windowed

from ssimrdo import EncodeSettings, Window, encode
from ssimrdo.codecs.base import Packet
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x264.encoder import x264_settings
from ssimrdo.errors import InputError
from ssimrdo.video.decode import PacketDecoder, decoded_luma
from ssimrdo.video.mux import container_of, packet_writer
from ssimrdo.video.nal import nal_type, nal_units, sei_units, settings_units

SUFFIXES = (".mp4", ".mkv", ".h264")
FFMPEG, FFPROBE = shutil.which("ffmpeg"), shutil.which("ffprobe")
SOFT = Window(*SOFT_TISSUE)
SLICES = 30


@pytest.fixture(scope="module")
def volume():
    return ct_volume(SLICES, 40, 56)


@pytest.fixture(scope="module")
def series(volume, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, volume)
    return folder


@pytest.fixture(scope="module")
def encoded(series, tmp_path_factory):
    """Return a function that encodes the series once per suffix and settings."""
    folder = tmp_path_factory.mktemp("video")
    done = {}

    def file(suffix, **settings):
        key = (suffix, *sorted(settings.items()))
        if key not in done:
            done[key] = folder / f"{len(done)}{suffix}"
            encode(series, done[key], EncodeSettings.of(window=SOFT, **settings))
        return done[key]

    return file


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("bit_depth", "profile", "formats"),
    [(8, "High", {"yuvj420p", "yuv420p"}), (10, "High 10", {"yuv420p10le"})],
)
def test_stream_says_what_it_is(encoded, suffix, bit_depth, profile, formats):
    path = encoded(suffix, bit_depth=bit_depth)
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        # Matroska holds the series record besides.
        assert [one.type for one in container.streams] == ["video"] + ["attachment"] * (
            suffix == ".mkv"
        )
        frame = next(container.decode(stream))
        context = stream.codec_context
        assert context.name == "h264"
        assert context.profile == profile
        assert context.has_b_frames
        assert (context.width, context.height) == (56, 40)
        assert stream.average_rate == 25
        assert context.sample_aspect_ratio in (None, 0, 1)
    assert frame.format.name in formats
    assert frame.color_range == ColorRange.JPEG
    for index in (1, 2):
        assert (plane(frame, index) == 1 << (bit_depth - 1)).all()


@pytest.mark.parametrize("preset", ["superfast", "placebo"])
def test_profile_does_not_depend_on_the_preset(encoded, preset):
    with av.open(str(encoded(".mp4", preset=preset))) as container:
        assert container.streams.video[0].codec_context.profile == "High"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bit_depth", [8, 10])
def test_grey_levels_survive_the_conversion_to_rgb(encoded, volume, suffix, bit_depth):
    frames = frames_of(encoded(suffix, qp=1, rdo="off", bit_depth=bit_depth))
    for frame, hu in zip(frames, volume, strict=True):
        rgb = frame.to_ndarray(format="rgb24").astype(int)
        shown = plane(frame) * (255 / (2**bit_depth - 1))
        # A stream taken for limited range would be off by 16 at black.
        assert np.abs(rgb - np.rint(shown)[..., None]).max() <= 1
        assert np.abs(shown - windowed(hu)).max() <= 2
        assert np.abs(shown - windowed(hu)).mean() < 0.3


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [(16, 16), (17, 16), (16, 23), (33, 47), (50, 38)])
def test_odd_sides_get_one_replicated_column_or_row(suffix, size, tmp_path):
    write_series(tmp_path / "ct", ct_volume(3, *size))
    path = tmp_path / f"out{suffix}"
    encode(tmp_path / "ct", path, qp=1, window=SOFT)
    rows, columns = size
    for frame in frames_of(path):
        luma = plane(frame).astype(int)
        assert luma.shape == (rows + rows % 2, columns + columns % 2)
        assert np.abs(luma[:, -1] - luma[:, columns - 1]).max() <= 3
        assert np.abs(luma[-1] - luma[rows - 1]).max() <= 3


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("row_mm", "column_mm", "ratio"),
    [(0.5, 0.75, Fraction(3, 2)), (0.8, 0.6, Fraction(3, 4)), (0.5, 0.500001, Fraction(1))],
)
def test_unequal_spacing_becomes_the_sample_aspect_ratio(
    suffix, row_mm, column_mm, ratio, tmp_path
):
    write_series(tmp_path / "ct", ct_volume(2, 32, 48), PixelSpacing=[row_mm, column_mm])
    path = tmp_path / f"out{suffix}"
    encode(tmp_path / "ct", path)
    with av.open(str(path)) as container:
        next(container.decode(video=0))
        found = container.streams.video[0].codec_context.sample_aspect_ratio
    assert (found or 1) == ratio


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(1, 2)])
def test_frames_come_at_the_frame_rate(encoded, suffix, fps):
    frames = frames_of(encoded(suffix, fps=fps))
    times = [frame.time for frame in frames]
    assert len(times) == SLICES
    # Matroska counts in milliseconds.
    expected = [float(index / fps) for index in range(SLICES)]
    assert times == pytest.approx(expected, abs=0.0006)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_frame_types_and_keyframes(encoded, suffix):
    path = encoded(suffix, x264_params=(("keyint", "10"), ("scenecut", "0")))
    frames = frames_of(path)
    assert len(frames) == SLICES
    assert {PictureType(frame.pict_type).name for frame in frames} == {"I", "P", "B"}
    assert [index for index, frame in enumerate(frames) if frame.key_frame] == [0, 10, 20]
    assert sum(packet.is_keyframe for packet in packets_of(path)) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_seeking_lands_on_a_keyframe_and_decodes_the_same(encoded, suffix):
    path = encoded(suffix, x264_params=(("keyint", "10"), ("scenecut", "0")))
    all_frames = frames_of(path)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(int(Fraction(23, 25) / stream.time_base), stream=stream)
        found = list(container.decode(stream))
    assert found[0].key_frame
    assert found[0].time == pytest.approx(0.8, abs=0.001)
    for frame, expected in zip(found, all_frames[20:], strict=True):
        np.testing.assert_array_equal(plane(frame), plane(expected))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bit_depth": 10},
        {"bitrate_kbps": 100},
        {"x264_params": (("intra-refresh", "1"), ("b-pyramid", "0"), ("ref", "1"))},
        {"x264_params": (("open-gop", "1"), ("keyint", "8"))},
        {"x264_params": (("slices", "2"), ("aud", "1"))},
    ],
)
def test_ffmpeg_has_no_complaint(encoded, suffix, settings):
    path = encoded(suffix, **settings)
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture(local=False) as messages:
            assert len(frames_of(path)) == SLICES
    finally:
        av.logging.set_level(None)
    assert [text for *_, text in messages if not of_the_record(text, suffix)] == []


@pytest.mark.skipif(FFMPEG is None, reason="the ffmpeg program is not installed")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_ffmpeg_program_has_no_complaint(encoded, suffix):
    command = [FFMPEG, "-v", "warning", "-i", str(encoded(suffix)), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert [line for line in lines if not of_the_record(line, suffix)] == []


def of_the_record(text, suffix):
    """Tell whether FFmpeg says only that Matroska's attachment is no video."""
    said = ("for stream 1 (Attachment: none): unknown codec", "Consider increasing the value")
    return suffix == ".mkv" and any(part in text for part in said)


@pytest.mark.skipif(FFPROBE is None, reason="the ffprobe program is not installed")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ffprobe_sees_full_range_progressive_video(encoded, suffix):
    command = [FFPROBE, "-v", "error", "-show_streams", "-of", "json", str(encoded(suffix))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["streams"]
    # Matroska holds the series record besides.
    (stream,) = (one for one in found if one["codec_type"] != "attachment")
    assert stream["color_range"] == "pc"
    assert stream.get("field_order", "progressive") == "progressive"
    assert (stream["width"], stream["height"]) == (56, 40)


def test_mp4_can_be_played_while_it_loads(encoded):
    data = encoded(".mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_decoded_luma_is_what_pyav_decodes(encoded, suffix):
    path = encoded(suffix, bit_depth=10)
    for ours, frame in zip(decoded_luma(path, threads=1), frames_of(path), strict=True):
        assert ours.dtype == np.uint16
        np.testing.assert_array_equal(ours, plane(frame))


def test_decoded_luma_of_a_file_without_suffix(encoded, tmp_path):
    copy = tmp_path / "partial"
    shutil.copy(encoded(".h264"), copy)
    assert len(list(decoded_luma(copy, container="h264"))) == SLICES


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        next(decoded_luma(tmp_path / "none.mp4"))


def test_a_file_whose_codec_nobody_knows_is_an_os_error(encoded, tmp_path):
    path = encoded(".mp4")
    unknown = tmp_path / "a.mp4"
    unknown.write_bytes(path.read_bytes().replace(b"avc1", b"qzqz"))
    with pytest.raises(OSError, match="no video that can be decoded"):
        list(decoded_luma(unknown))


def test_names_in_a_file_that_are_no_utf8_do_not_matter(encoded, tmp_path):
    path = encoded(".mp4")
    odd = tmp_path / "a.mp4"
    assert b"Lavf" in path.read_bytes()
    odd.write_bytes(path.read_bytes().replace(b"Lavf", b"\xff\xfe\xff\xfe"))
    assert len(list(decoded_luma(odd))) == SLICES


def test_nal_units_of_a_stream(encoded):
    stream = encoded(".h264").read_bytes()
    units = nal_units(stream)
    assert b"".join(units) == stream
    assert [nal_type(unit) for unit in units[:4]] == [7, 8, 6, 5]
    assert sei_units(stream) == units[2]
    assert x264_settings(stream).startswith("cabac=1 ")
    assert x264_settings(b"nothing") == ""
    with av.open(io.BytesIO(stream), format="h264") as container:
        assert len(list(container.decode(video=0))) == SLICES
    with pytest.raises(ValueError, match="start code"):
        nal_type(b"\x67")


def test_settings_of_x264_go_into_the_first_packet_alone(encoded):
    headers = b"".join(nal_units(encoded(".h264").read_bytes())[:3])
    assert settings_units(headers, "h264") == sei_units(headers) != b""
    assert settings_units(headers, "hevc") == b""


@pytest.mark.parametrize(
    ("name", "container"), [("a.mp4", "mp4"), ("a.MKV", "matroska"), ("a.b.h264", "h264")]
)
def test_the_suffix_tells_the_container(name, container, tmp_path):
    assert container_of(tmp_path / name, X264()) == container


@pytest.mark.parametrize(
    ("name", "more"),
    [("a.hevc", ", or take codec hevc"), ("a.m4v", ""), ("a.avi", ""), ("a", ""), (".mp4", "")],
)
def test_containers_that_the_codec_does_not_go_into(name, more, tmp_path):
    with pytest.raises(InputError, match=rf"use one of \.mp4, \.mkv, \.h264, \.dcm{more}$"):
        container_of(tmp_path / name, X264())


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_packets_are_decoded_as_they_come(encoded, bit_depth):
    """In presentation order, whatever the order of the packets, and all of them in the end."""
    path = encoded(".h264", bit_depth=bit_depth)
    headers = b"".join(nal_units(path.read_bytes())[:2])
    packets = packets_of(path)
    decoder = PacketDecoder("h264", headers, bit_depth)
    shown = []
    for index, packet in enumerate(packets):
        shown += decoder.decode(bytes(packet), index)
    assert len(shown) > SLICES - 8
    shown += decoder.flush()
    assert len(shown) == SLICES
    expected = [plane(frame) for frame in frames_of(path)]
    for (_, luma), frame in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(luma, frame)
    assert list(PacketDecoder("h264").flush()) == []


def test_raw_packets_are_written_as_they_are(tmp_path):
    path = tmp_path / "raw"
    writer = packet_writer(path, "m4v", syntax="m4v", headers=b"head", fps=Fraction(25))
    with writer as write:
        for data in (b"one", b"two"):
            write(Packet(data, 0, 0, True))
    assert path.read_bytes() == b"onetwo"
