"""What x264 makes of parameters whose loss no other test would notice."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ssimrdo import objective
from ssimrdo.codecs.base import ConstantQuality, MeanBitrate, Steering, StreamSettings
from ssimrdo.codecs.roles import Role
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x264.steering import quantizer_offsets, reference_offset
from ssimrdo.encoding.passes import PassSettings, Target, run_passes
from ssimrdo.frames import FrameFormat, FrameSource

NAMES = {Role.KEY: "IDR", Role.FORWARD: "P", Role.REFERENCE: "BREF", Role.DISPOSABLE: "B"}
STOCK = shutil.which("x264") or ""


def moving_texture(count, shape=(96, 128), seed=0):
    """Texture that turns into another, with fresh noise on top."""
    rng = np.random.default_rng(seed)
    first, last = (gaussian_filter(rng.normal(size=shape), 3) for _ in range(2))
    frames = []
    for share in np.linspace(0, 1, count):
        smooth = (1 - share) * first + share * last
        noisy = 120 + 50 * smooth / smooth.std() + rng.normal(0, 6, shape)
        frames.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return frames


FRAMES = moving_texture(24)
FORMAT = FrameFormat(*FRAMES[0].shape)
CRF_30 = ConstantQuality(30)


def encode(codec, rate=CRF_30, *, steered=True):
    """Return packets in presentation order, and the settings that x264 records."""
    stream = StreamSettings(FORMAT, rate, steered=steered, threads=1)
    packets = []
    with codec.open(stream) as session:
        for index, luma in enumerate(FRAMES):
            ratio = objective.SSIM.lagrange_ratio(luma, FORMAT) if steered else None
            packets += session.encode(luma, Steering(ratio, codec.role(index)), index)
        packets += session.flush()
        settings = set(session.settings.split())
    return sorted(packets, key=lambda packet: packet.pts), settings


def data(codec):
    return [packet.data for packet in encode(codec)[0]]


@pytest.mark.parametrize(
    ("alias", "name", "value"), [("frameref", "ref", "4"), ("subq", "subme", "3")]
)
def test_an_alias_holds_in_all_frames_as_the_name_does(alias, name, value):
    """The lighter search of some frames must not take back what the user asked for."""
    named = data(X264(params=((name, value),)))
    assert data(X264(params=((alias, value),))) == named
    # x264 takes the last value of a name, so the other options stay as they are.
    effort = X264()
    assert data(effort) != named


def test_the_last_of_two_keyframe_intervals_holds():
    codec = X264(params=(("keyint", "9"), ("keyint", "4")))
    packets, settings = encode(codec)
    assert "keyint=4" in settings
    assert [packet.pts for packet in packets if packet.keyframe] == [0, 4, 8, 12, 16, 20]
    # x264 makes a P-frame of the last one whatever is asked for.
    found = [packet.frame_type for packet in packets[:-1]]
    assert found == [NAMES[codec.role(index)] for index in range(len(FRAMES) - 1)]
    assert [packet.data for packet in packets] == data(X264(params=(("keyint", "4"),)))


def test_open_groups_of_pictures_open():
    packets, settings = encode(X264(params=(("open-gop", "1"), ("keyint", "8"))))
    assert {"open_gop=1", "keyint=8"} <= settings
    keyframes = [packet for packet in packets if packet.keyframe]
    assert [packet.frame_type for packet in keyframes] == ["IDR", "I", "I"]
    # The B-frames shown before such a keyframe are decoded after it.
    order = sorted(packets, key=lambda packet: packet.dts)
    after = order[order.index(keyframes[1]) + 1]
    assert after.pts < keyframes[1].pts


@pytest.mark.parametrize("width", [160, 256])
def test_steered_encodes_keep_off_code_that_reads_uninitialised_memory(width, caplog):
    """MB-tree's AVX-512 code does in rows that do not fill its 16 macroblocks."""

    def has_avx512(steered):
        caplog.clear()
        stream = StreamSettings(FrameFormat(32, width), CRF_30, steered=steered)
        with caplog.at_level(logging.INFO, "ssimrdo"), X264(preset="medium").open(stream):
            pass
        lines = [line for line in caplog.messages if "cpu capabilities" in line]
        assert len(lines) == 1
        return "AVX512" in lines[0]

    assert has_avx512(True) == (has_avx512(False) and width == 256)


@pytest.mark.parametrize("steered", [True, False])
def test_steered_encodes_ask_to_be_repeatable(steered):
    stream = StreamSettings(FORMAT, CRF_30, steered=steered)
    assert X264(preset="medium").parameters(stream).repeatable == steered


@pytest.mark.skipif(not STOCK, reason="the x264 program is not installed")
@pytest.mark.parametrize("preset", ["placebo", "medium"])
def test_two_passes_are_those_of_the_stock_program(preset, tmp_path):
    """Placebo is the one preset that keeps its full first pass."""
    raw = tmp_path / "frames.yuv"
    chroma = np.full(FORMAT.rows * FORMAT.columns // 2, 128, np.uint8).tobytes()
    raw.write_bytes(b"".join(luma.tobytes() + chroma for luma in FRAMES))
    stock = tmp_path / "stock.h264"
    for number in "12":
        subprocess.run(
            [
                *(STOCK, "--quiet", "--preset", preset, "--bitrate", "400", "--threads", "1"),
                *("--pass", number, "--stats", str(tmp_path / "stats"), "--demuxer", "raw"),
                *("--input-res", f"{FORMAT.columns}x{FORMAT.rows}", "--fps", "25"),
                *("--input-range", "pc", "--range", "pc", "-o", str(stock), str(raw)),
            ],
            check=True,
            capture_output=True,
        )
    ours = tmp_path / "ours.h264"
    source = FrameSource(FORMAT, len(FRAMES), lambda: FRAMES)
    wanted = PassSettings(X264(preset=preset), MeanBitrate(400), threads=1)
    run_passes(source, wanted, Target("h264", Path(ours)))
    assert ours.read_bytes() == stock.read_bytes()


def test_credit_is_for_black_and_white_of_the_depth():
    luma = np.full((16, 48), 100, np.uint8)
    luma[:8, :16] = 0
    luma[:8, 16:32] = 255
    expected = np.array([[-1.05, -1.05, 0]])
    ten_bit = luma.astype(np.uint16)
    ten_bit[luma == 255] = 1023
    for found in (
        reference_offset(luma, Role.FORWARD),
        reference_offset(ten_bit, Role.FORWARD, data_range=1023),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert found.dtype == np.float32
    ratio = np.ones((1, 3), np.float32)
    for role in (None, Role.FORWARD):
        steering = Steering(ratio, role, shift=0.5)
        found = quantizer_offsets(luma, steering)
        np.testing.assert_allclose(found, 0.5 + (role is not None) * expected, rtol=1e-6)
        assert found.dtype == np.float32
