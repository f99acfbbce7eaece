"""AV1 by name: efforts, the scale of its CRF, and decoders that are not ours."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from video_files import ct_volume, windowed

from ssimrdo import InputError, encode_frames
from ssimrdo.codecs.av1 import EFFORTS, MAX_CRF, MIN_CRF, Av1
from ssimrdo.codecs.base import ConstantQuality, ConstantQuantizer, StreamSettings
from ssimrdo.codecs.svtav1 import SvtAv1
from ssimrdo.dicom import open_series
from ssimrdo.dicom.luma import choose_window, load_luma
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.frames import FrameFormat
from ssimrdo.video.decode import decoded_luma

ROWS, COLUMNS = 72, 98
REAL = ("chest-pe", "head-bone", "head-tilt")


def source(slices, bit_depth=8):
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    volume = ct_volume(slices, ROWS, COLUMNS)
    return [windowed(hu, bit_depth=bit_depth).astype(dtype) for hu in volume]


def stream(rate):
    return StreamSettings(FrameFormat(64, 64), rate)


@cache
def decoders():
    """Return the decoders of AV1 that FFmpeg's program has, which brings libraries of its own."""
    if shutil.which("ffmpeg") is None:
        return ""
    command = ("ffmpeg", "-hide_banner", "-decoders")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def luma_of(path, decoder, shape, bit_depth):
    """Return the luma that one of them shows."""
    pixels = {8: "yuv420p", 10: "yuv420p10le"}[bit_depth]
    command = ("ffmpeg", "-v", "error", "-c:v", decoder, "-i", path, "-f", "rawvideo")
    done = subprocess.run((*command, "-pix_fmt", pixels, "-"), check=True, capture_output=True)
    samples = np.frombuffer(done.stdout, np.uint8 if bit_depth == 8 else "<u2")
    area = shape[0] * shape[1]
    return samples.reshape(-1, area * 3 // 2)[:, :area].reshape(-1, *shape)


def check_shown(path, decoder, shape, bit_depth=8):
    if f" {decoder} " not in decoders():
        pytest.skip(f"FFmpeg's program has no {decoder}")
    theirs = luma_of(path, decoder, shape, bit_depth)
    np.testing.assert_array_equal(theirs, list(decoded_luma(path, bit_depth=bit_depth)))


@pytest.mark.parametrize("decoder", ["libdav1d", "libaom-av1"])
@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("effort", EFFORTS)
def test_other_decoders_show_the_same(effort, bit_depth, decoder, tmp_path):
    path = tmp_path / "a.mkv"
    frames = source(9, bit_depth)
    encode_frames(frames, path, codec="av1", effort=effort, crf=25, bit_depth=bit_depth)
    check_shown(path, decoder, (ROWS, COLUMNS), bit_depth)


@pytest.mark.skipif("SSIMRDO_CT_DATA" not in os.environ, reason="SSIMRDO_CT_DATA is not set")
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("effort", EFFORTS)
def test_other_decoders_show_the_same_of_real_series(effort, name, tmp_path):
    series, _ = open_series(Path(os.environ["SSIMRDO_CT_DATA"], name))
    window = choose_window(series.header_window, name=name)
    frames = [load_luma(header, window) for header in series.slices[8:12]]
    result = encode_frames(frames, tmp_path / "a.mkv", codec="av1", effort=effort)
    assert 0.8 < result.ssim.min <= result.ssim.mean < 1
    check_shown(tmp_path / "a.mkv", "libdav1d", frames[0].shape)


def test_efforts_are_rungs_of_svt_av1():
    rate = ConstantQuantizer(30)
    for effort, rung in EFFORTS.items():
        assert isinstance(rung, SvtAv1)
        assert Av1(effort).describe(stream(rate)) == rung.describe(stream(rate))
    assert Av1() == Av1("default")
    assert Av1(preset=9).describe(stream(rate)) == SvtAv1(9).describe(stream(rate))
    texts = [Av1(effort).describe(stream(rate)) for effort in EFFORTS]
    assert len(set(texts)) == len(EFFORTS)


@pytest.mark.parametrize(
    ("options", "field", "remedy"),
    [
        ({"effort": "max", "preset": 4}, "preset", "give one of"),
        ({"effort": "slow"}, "effort", "fast, default, high, max"),
        ({"preset": 14}, "preset", "12, 13"),
        ({"preset": "medium"}, "preset", "0, 1"),
        ({"rdo": "ssim"}, "rdo", "off"),
        ({"rdo_strength": 1}, "rdo_strength", "h264 or hevc"),
    ],
)
def test_options_that_it_does_not_take(options, field, remedy):
    with pytest.raises(InputError) as caught:
        EncodeSettings.of(codec="av1", **options)
    assert caught.value.field == field
    assert remedy in caught.value.remedy


def test_one_search_takes_the_place_of_another():
    settings = EncodeSettings.of(codec="av1", effort="max", crf=30)
    assert settings.changed({"rdo": "off"}) == settings
    assert settings.changed({"preset": "8"}) == EncodeSettings.of(codec="av1", preset=8, crf=30)
    assert settings.changed({"preset": "8"}).changed({"effort": "max"}) == settings
    assert settings.changed({"codec": "h264"}) == EncodeSettings.of(effort="max", crf=30)
    plain = settings.changed({"codec": "h264", "rdo": "off"})
    assert plain == EncodeSettings.of(rdo="off", crf=30)
    assert EncodeSettings.of(**settings.as_options()) == settings


def test_crfs_between_svt_av1s_whole_numbers_differ(tmp_path):
    frames = source(5)

    def encoded(crf):
        path = tmp_path / f"{crf}.obu"
        encode_frames(frames, path, codec="av1", preset=10, crf=crf, overwrite=True)
        return path.read_bytes()

    between = [encoded(crf) for crf in (20, 20.12, 20.24, 20.36)]
    assert len(set(between)) == len(between)
    sizes = [len(encoded(crf)) for crf in (MIN_CRF, 20, MAX_CRF)]
    assert sizes == sorted(sizes, reverse=True)


def test_the_ends_of_the_scale_are_svt_av1s():
    own = [Av1().describe(stream(ConstantQuality(crf))) for crf in (MIN_CRF, MAX_CRF)]
    low, high = (float(text.rpartition("crf=")[2]) for text in own)
    assert 1 <= low < 4
    assert 67 < high <= 70
