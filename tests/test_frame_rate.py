"""Slices have no duration: the rate at which they are shown changes neither bytes nor quality."""

from fractions import Fraction

import av
import numpy as np
import pytest

import ssimrdo
from ssimrdo.codecs.base import ConstantQuality, MeanBitrate
from ssimrdo.codecs.lavc_x265 import LavcX265
from ssimrdo.codecs.svtav1 import SvtAv1
from ssimrdo.encoding.passes import PassSettings, Target, run_passes
from ssimrdo.frames import CLOCK_FPS, FrameFormat, FrameSource

RATES = ("1", "12", "25/2", "60")


@pytest.fixture(scope="module")
def luma(phantom_luma):
    return phantom_luma[:10]


def encoded(luma, path, fps, **settings):
    settings = {"crf": 24, "effort": "fast", **settings}
    rows, columns = luma[0].shape
    result = ssimrdo.encode_frames(
        luma, path, frame_format=FrameFormat(rows, columns, 8, Fraction(fps)), **settings
    )
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        # A raw stream has no times but those that its parameter sets state.
        assert path.suffix == ".h264" or stream.average_rate == Fraction(fps)
        assert stream.codec_context.framerate == Fraction(fps)
        shown = [frame.to_ndarray(format="gray") for frame in video.decode(stream)]
    return result, shown


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".h264"])
@pytest.mark.parametrize("rdo", ["off", "ssim"])
def test_slices_do_not_depend_on_the_rate(luma, tmp_path, suffix, rdo):
    search = {"preset": "fast", "effort": None} if rdo == "off" else {}
    first, shown = encoded(luma, tmp_path / f"clock{suffix}", CLOCK_FPS, rdo=rdo, **search)
    for fps in RATES:
        other, slower = encoded(
            luma, tmp_path / f"{fps.replace('/', '_')}{suffix}", fps, rdo=rdo, **search
        )
        assert [one["bytes"] for one in other.slices] == [one["bytes"] for one in first.slices]
        np.testing.assert_array_equal(slower, shown)


def test_a_bit_rate_is_that_of_the_file(luma, tmp_path):
    sizes = []
    for fps in ("25", "5", "60"):
        kbps = 2 * float(Fraction(fps))
        wanted = {"crf": None, "bitrate_kbps": kbps}
        result, _ = encoded(luma, tmp_path / "a.mp4", fps, overwrite=True, **wanted)
        sizes.append([one["bytes"] for one in result.slices])
    assert sizes[0] == sizes[1] == sizes[2]


@pytest.mark.parametrize("codec", [LavcX265("ultrafast"), SvtAv1(12)], ids=lambda codec: codec.name)
@pytest.mark.parametrize("rate", [ConstantQuality(35), MeanBitrate(100)], ids=lambda one: one.mode)
def test_codecs_of_ffmpeg_keep_the_clock_too(luma, tmp_path, codec, rate):
    packets = []
    for fps in (CLOCK_FPS, Fraction(5)):
        rows, columns = luma[0].shape
        frames = FrameFormat(rows, columns, 8, fps)
        chosen = rate
        if isinstance(rate, MeanBitrate):
            chosen = MeanBitrate(rate.kbps * float(fps / CLOCK_FPS))
        path = tmp_path / f"{fps}.mkv"
        source = FrameSource(frames, len(luma), lambda: iter(luma))
        run_passes(source, PassSettings(codec, chosen), Target("matroska", path))
        with av.open(str(path)) as video:
            stream = video.streams.video[0]
            assert stream.average_rate == fps
            packets.append([frame.to_ndarray(format="gray") for frame in video.decode(stream)])
    np.testing.assert_array_equal(*packets)


def test_the_raw_stream_of_x265_states_the_rate(luma, tmp_path):
    rows, columns = luma[0].shape
    source = FrameSource(FrameFormat(rows, columns, 8, Fraction(5)), 10, lambda: iter(luma))
    path = tmp_path / "a.hevc"
    settings = PassSettings(LavcX265("ultrafast"), ConstantQuality(35))
    run_passes(source, settings, Target("hevc", path))
    with av.open(str(path)) as video:
        assert video.streams.video[0].codec_context.framerate == 5
