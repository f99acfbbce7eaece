"""The x265 shim: errors, memory, and offsets that arrive."""

from __future__ import annotations

import concurrent.futures
import io
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames
from video_files import frames_of, plane

from ssimrdo import decode, encode, encode_frames
from ssimrdo.codecs.base import Steering, StreamSettings, rate_control
from ssimrdo.errors import EncoderError, InputError
from ssimrdo.frames import FrameFormat, block_grid
from ssimrdo.video.decode import PacketDecoder

pytest.importorskip("ssimrdo.codecs.x265._shim", reason="built without libx265")

from ssimrdo.codecs.x265.codec import X265
from ssimrdo.codecs.x265.effort import EFFORTS
from ssimrdo.codecs.x265.encoder import Encoder, EncoderParameters, lacking, x265_version
from ssimrdo.codecs.x265.level import level_of
from ssimrdo.codecs.x265.parameters import quantizer_unit
from ssimrdo.codecs.x265.steering import unit_offsets, unit_ratio

ROOT = Path(__file__).parents[1]
SIZE = (96, 136)
UNIT = 32
BASE = (("fps", "25"), ("frame-threads", "1"), ("pools", "1"))
RATES = {"crf": 20, "qp": 20, "bitrate": 10000}


def noise_frames(count=12, bit_depth=8, seed=0, size=SIZE):
    rng = np.random.default_rng(seed)
    peak = (1 << bit_depth) - 1
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    return [rng.integers(0, peak, size, endpoint=True).astype(dtype) for _ in range(count)]


def stream_of(mode="crf", shape=SIZE, *, bit_depth=8, **more):
    rows, columns = shape
    stream = {"raw": True, "threads": 1, "steered": True, **more}
    return StreamSettings(
        FrameFormat(rows, columns, bit_depth), rate_control(mode, RATES[mode]), **stream
    )


def packets_of(parameters, frames, offsets=None):
    packets = []
    with Encoder(parameters) as encoder:
        for pts, luma in enumerate(frames):
            packet = encoder.encode(luma, None if offsets is None else offsets[pts], pts=pts)
            packets += [packet] if packet else []
        packets += encoder.flush()
    return packets


def all_passes(codec, frames, offsets, folder, mode="crf", **stream):
    passes = codec.passes(stream_of(mode).rate)
    for number in range(1, passes + 1):
        stats = folder / "stats" if passes > 1 else None
        settings = stream_of(mode, pass_number=number, passes=passes, stats=stats, **stream)
        packets = packets_of(codec.parameters(settings), frames, offsets)
    return packets


def bytes_of(packets):
    return b"".join(packet.data for packet in packets)


def decoded(packets, bit_depth=8):
    decoder = PacketDecoder("hevc", bit_depth=bit_depth)
    found = [pair for packet in packets for pair in decoder.decode(packet.data, packet.pts)]
    return dict([*found, *decoder.flush()])


def unit_errors(source, shown):
    """Return the mean squared error of every whole coding tree unit."""
    rows, columns = (side // UNIT * UNIT for side in source.shape)
    error = (source.astype(float) - shown)[:rows, :columns] ** 2
    return error.reshape(rows // UNIT, UNIT, columns // UNIT, UNIT).mean((1, 3))


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_crf_is_shifted_as_the_effort_needs_it_where_offsets_steer(effort):
    def crf(asked, **stream):
        settings = StreamSettings(
            FrameFormat(*SIZE, 8), rate_control("crf", asked), raw=True, threads=1, **stream
        )
        codec = X265(effort=effort) if settings.steered else X265(preset="medium")
        return float(re.search(r" crf=(\S+)", codec.describe(settings))[1])

    assert crf(20, steered=True) == pytest.approx(20 + EFFORTS[effort].crf_shift)
    assert crf(1, steered=True) == pytest.approx(max(1 + EFFORTS[effort].crf_shift, 0))
    assert crf(20, steered=False) == 20


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("mode", ["crf", "qp", "bitrate"])
def test_offsets_arrive(mode, bit_depth, tmp_path):
    """The error of a uniform quantizer goes with its step squared, which doubles every 3 QP."""
    size = (8 * UNIT, 10 * UNIT)
    frames = noise_frames(6, bit_depth, size=size)
    rng = np.random.default_rng(1)
    units = [rng.uniform(-6, 6, (8, 10)).astype(np.float32) for _ in frames]
    offsets = [one.repeat(2, 0).repeat(2, 1) for one in units]
    # CU-tree would add its own offsets, and without a filter blocks keep to themselves.
    own = (("cutree", "0"), ("no-deblock", "1"), ("no-sao", "1"), ("rdoq-level", "0"))
    codec = X265(preset="medium", params=own)
    packets = all_passes(codec, frames, offsets, tmp_path, mode, shape=size, bit_depth=bit_depth)
    shown = decoded(packets, bit_depth)
    for packet in packets:
        np.testing.assert_array_equal(packet.reconstruction, shown[packet.pts])
        errors = unit_errors(frames[packet.pts], packet.reconstruction)
        planned = units[packet.pts]
        slope, _ = np.polyfit(planned.ravel(), np.log2(errors.ravel()), 1)
        assert slope == pytest.approx(1 / 3, rel=0.15)
        assert np.corrcoef(planned.ravel(), np.log2(errors.ravel()))[0, 1] > 0.97


@pytest.mark.parametrize("shape", [(1, 1), (4, 6), (5, 7)])
@pytest.mark.parametrize("side", [1, 2, 4])
def test_units_are_as_sensitive_as_the_mean_of_what_counts_in_them(shape, side):
    rng = np.random.default_rng(3)
    ratio = rng.uniform(0.1, 10, shape).astype(np.float32)
    weight = rng.uniform(0.1, 1, shape) * (rng.random(shape) < 0.6)
    found = unit_ratio(ratio, weight, side)
    for row, column in np.ndindex(shape):
        top, left = row // side * side, column // side * side
        unit = np.s_[top : top + side, left : left + side]
        values, weights = ratio[unit].ravel().tolist(), weight[unit].ravel().tolist()
        mean = statistics.harmonic_mean(values, weights if any(weights) else None)
        assert found[row, column] == pytest.approx(mean)


def test_macroblocks_count_in_their_unit_by_what_the_window_shows_of_them():
    luma = np.full((2 * 16, 4 * 16), 100, np.uint8)
    luma[:16, :16] = 0
    luma[16:, 32:44] = 255
    ratio = np.array([[9, 2, 1, 4], [4, 4, 8, 4]], np.float32)
    offsets = unit_offsets(luma, Steering(ratio), strength=0.5, unit=32)
    # 3 s log2 of 3 / (1/2 + 1/4 + 1/4) and of 3.25 / (1 + 1/4 + 1/4 · 1/8 + 1/4).
    expected = 1.5 * np.log2([[3, 3, 104 / 49, 104 / 49]] * 2)
    np.testing.assert_allclose(offsets, expected, rtol=1e-6)
    assert unit_offsets(luma, Steering(), strength=0.5, unit=32) is None


@pytest.mark.parametrize(
    ("params", "side"),
    [((), 32), ((("ctu", "16"),), 16), ((("ctu", "64"),), 32), ((("qg-size", "16"),), 16)],
)
def test_units_are_the_smallest_that_have_a_quantizer(params, side):
    assert quantizer_unit(X265(params=params).parameters(stream_of()).options) == side


@pytest.mark.parametrize("effort", EFFORTS)
def test_bytes_do_not_depend_on_threads(effort):
    frames, codec = noise_frames(7), X265(effort)
    offsets = [np.linspace(-4, 4, 54, dtype=np.float32).reshape(block_grid(SIZE)) for _ in frames]
    found = {
        bytes_of(packets_of(codec.parameters(stream_of(threads=threads)), frames, offsets))
        for threads in (1, 2, 5, 1)
    }
    assert len(found) == 1


def test_several_at_once_do_not_disturb_each_other():
    frames = noise_frames(5)
    parameters = X265(preset="fast").parameters(stream_of(steered=False))
    alone = bytes_of(packets_of(parameters, frames))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: bytes_of(packets_of(parameters, frames)), range(8)))
    assert set(found) == {alone}


@pytest.mark.parametrize("size", [(64, 64), (66, 130), (72, 98), (130, 66), (200, 72)])
@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("effort", ["fast", "max"])
def test_sides_of_any_even_length_decode_to_the_reconstruction(size, bit_depth, effort):
    frames = noise_frames(5, bit_depth, size=size)
    offsets = [np.zeros(block_grid(size), np.float32)] * 5
    settings = stream_of(shape=size, bit_depth=bit_depth)
    packets = packets_of(X265(effort).parameters(settings), frames, offsets)
    shown = decoded(packets, bit_depth)
    for packet in packets:
        np.testing.assert_array_equal(packet.reconstruction, shown[packet.pts])
        assert shown[packet.pts].shape == size


def test_views_are_encoded_as_they_are_seen():
    wide = np.concatenate([noise_frames(1)[0]] * 2, axis=1)
    view = wide[:, 5 : 5 + SIZE[1]]
    parameters = EncoderParameters(SIZE[1], SIZE[0], options=BASE)
    assert bytes_of(packets_of(parameters, [view])) == bytes_of(
        packets_of(parameters, [view.copy()])
    )


def test_arrays_of_the_wrong_size_are_refused():
    luma = noise_frames(1)[0]
    offsets = np.zeros(block_grid(SIZE), np.float32)
    with Encoder(EncoderParameters(SIZE[1], SIZE[0], options=BASE)) as encoder:
        for bad in (luma[:-1], luma[:, :-2], luma.astype(np.uint16), luma.astype(float)):
            with pytest.raises(ValueError, match="luma is"):
                encoder.encode(bad, pts=0)
        for wrong in (offsets[:-1], offsets.ravel(), offsets.astype(float)):
            with pytest.raises(ValueError, match="offsets are"):
                encoder.encode(luma, wrong, pts=0)
        with pytest.raises(ValueError, match="finite"):
            encoder.encode(luma, np.full_like(offsets, np.nan), pts=0)
        encoder.encode(luma, offsets, pts=0)
    with (
        Encoder(EncoderParameters(SIZE[1], SIZE[0], 10, options=BASE)) as encoder,
        pytest.raises(ValueError, match="above 1023"),
    ):
        encoder.encode(np.full(SIZE, 1024, np.uint16), pts=0)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"preset": "quick"}, "no preset 'quick'"),
        ({"tune": "film"}, "no preset 'medium' with the tuning 'film'"),
        ({"options": (*BASE, ("nonsense", "1"))}, "no parameter 'nonsense'"),
        ({"options": (*BASE, ("me", "far"))}, "cannot read 'far' as the value of 'me'"),
        ({"width": 48}, "cannot encode 48x96 at 8 bit: sides must be even and 64 to 8192"),
        ({"width": 101}, "sides must be even"),
        ({"width": 8194}, "cannot encode"),
        ({"bit_depth": 12}, "the depth 8 or 10"),
    ],
)
def test_what_x265_does_not_know_is_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        Encoder(EncoderParameters(**{"width": SIZE[1], "height": SIZE[0], **parameters}))


def test_what_x265_refuses_together_is_said_without_its_own_words(capfd):
    with pytest.raises(EncoderError, match="x265 cannot open an encoder"):
        Encoder(EncoderParameters(SIZE[1], SIZE[0], options=(*BASE, ("bframes", "99"))))
    with pytest.raises(InputError, match="x265_params: x265 cannot open"):
        X265(preset="medium", params=(("bframes", "99"),)).open(stream_of(steered=False))
    assert capfd.readouterr() == ("", "")


def test_nothing_is_printed(capfd):
    packets_of(X265("fast").parameters(stream_of()), noise_frames(3))
    assert capfd.readouterr() == ("", "")


def test_closed_encoder_refuses_work():
    encoder = Encoder(EncoderParameters(SIZE[1], SIZE[0], options=BASE))
    encoder.close()
    encoder.close()
    with pytest.raises(EncoderError, match="closed"):
        encoder.encode(noise_frames(1)[0], pts=0)
    with pytest.raises(EncoderError, match="closed"):
        encoder.headers()
    with pytest.raises(EncoderError, match="closed"):
        list(encoder.flush())


def test_a_thousand_opens_leak_nothing():
    parameters = EncoderParameters(64, 64, preset="ultrafast", options=BASE)
    luma = np.zeros((64, 64), np.uint8)
    offsets = np.zeros((4, 4), np.float32)

    def cycle(times):
        for _ in range(times):
            with Encoder(parameters) as encoder:
                encoder.encode(luma, offsets, pts=0)
            with pytest.raises(InputError):
                Encoder(EncoderParameters(64, 64, options=(("nonsense", "1"),)))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = cycle(100)
    assert cycle(1000) - before < 4000


def test_the_version_is_that_of_the_library():
    assert lacking() is None
    api, version = re.fullmatch(r"(\d+) \((\d+\.\d+.*)\)", x265_version()).groups()
    maps = Path("/proc/self/maps").read_text()
    assert f"libx265.so.{api}" in maps
    assert X265().version == f"x265 {api} ({version})"


FAKE = """
#include <x265.h>
static x265_api fake;
const x265_api *x265_api_get(int bit_depth)
{
    fake.api_major_version = X265_MAJOR_VERSION;
    fake.api_build_number = X265_BUILD;
    fake.sizeof_param = sizeof(x265_param);
    fake.sizeof_picture = sizeof(x265_picture) + MORE;
    fake.bit_depth = bit_depth == 8 ? bit_depth : 0;
    fake.version_str = "fake";
    return &fake;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no compiler")
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            FAKE.replace("MORE", "8").replace("DEPTH", "8"),
            r"is build \d+ with pictures of \d+ byte",
        ),
        (FAKE.replace("MORE", "0").replace("DEPTH", "8"), "has no 10 bit"),
        ("int nothing;", "is not there .*undefined symbol"),
    ],
    ids=["other layout", "no 10 bit", "other build"],
)
def test_another_library_is_refused_in_one_line(source, reason, tmp_path):
    (api, *_) = x265_version().split()
    (tmp_path / "fake.c").write_text(source)
    library = f"libx265.so.{api}"
    compiler = ("gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "fake.c", "-o", library)
    subprocess.run(compiler, cwd=tmp_path, check=True)
    command = (sys.executable, "-m", "ssimrdo", "encode", ROOT / "data/phantom", "--codec", "hevc")
    done = subprocess.run(
        (*command, "-o", tmp_path / "x.mp4"),
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    line, remedy = done.stderr.splitlines()
    assert line.startswith("ssimrdo: error: --codec: hevc cannot be encoded: the libx265 ")
    assert re.search(reason, line)
    assert remedy.startswith("ssimrdo: hint: install libx265-dev")
    assert not (tmp_path / "x.mp4").exists()


@pytest.mark.parametrize(
    ("params", "remedy"),
    [
        ((("crf", "20"),), "{crf}"),
        ((("log-level", "full"),), "{verbose}"),
        ((("no-info", "1"),), "suffix"),
        ((("pools", "2"),), "{threads}"),
        ((("aq-mode", "0"),), "turn {rdo} off"),
        ((("aq-strength", "0"),), "turn {rdo} off"),
        ((("qg-size", "8"),), "turn {rdo} off"),
        ((("hevc-aq", "1"),), "turn {rdo} off"),
    ],
)
def test_parameters_that_are_not_the_users_are_refused(params, remedy):
    with pytest.raises(InputError) as caught:
        X265(params=params).check(steered=True)
    assert caught.value.field == "x265_params"
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("name", ["ctu", "qg-size"])
def test_sizes_of_units_that_are_none_are_refused(name, tmp_path, phantom_folder):
    with pytest.raises(InputError) as caught:
        encode(phantom_folder, tmp_path / "a.mp4", codec="hevc", x265_params=f"{name}=abc")
    assert caught.value.field == "x265_params"
    assert name in caught.value.reason
    assert list(tmp_path.iterdir()) == []


def test_the_users_parameters_win():
    stream = stream_of()
    parameters = X265("max", params=(("ctu", "32"),)).parameters(stream)
    assert dict(parameters.options)["ctu"] == "32"
    assert "ctu=32" in X265("max", params=(("ctu", "32"),)).describe(stream).split()


def test_a_session_shows_what_a_decoder_shows(tmp_path):
    frames = noise_frames(6)
    stream = stream_of()
    with X265("fast").open(stream) as session:
        ratio = np.ones(block_grid(SIZE), np.float32)
        packets = [
            packet
            for index, luma in enumerate(frames)
            for packet in session.encode(luma, Steering(ratio), index)
        ]
        packets += session.flush()
    path = tmp_path / "a.hevc"
    path.write_bytes(bytes_of(packets))
    by_time = {packet.pts: packet for packet in packets}
    for index, frame in enumerate(frames_of(path)):
        np.testing.assert_array_equal(plane(frame), by_time[index].reconstruction)
        assert (plane(frame, 1) == 128).all()
        assert (plane(frame, 2) == 128).all()
        assert frame.color_range == 2


@pytest.mark.parametrize(
    ("rows", "columns", "fps", "level"),
    [
        (512, 512, 25, "4.1"),
        (512, 512, 510, "4.1"),
        (512, 512, 511, "5.1"),
        (1024, 2176, 25, "4.1"),
        (1024, 2184, 25, "5.1"),
        (2048, 2048, 100, "5.1"),
        (64, 8440, 25, "5.1"),
        (64, 8448, 25, None),
        (4096, 2304, 25, None),
        (2048, 2048, 200, None),
    ],
)
def test_levels_are_those_of_table_a_8(rows, columns, fps, level):
    found = level_of(FrameFormat(rows, columns, fps=Fraction(fps)))
    assert (None if found is None else found.name) == level


@pytest.mark.parametrize(("side", "level"), [(512, "4.1"), (1600, "5.1")])
def test_streams_for_dicom_say_their_level(side, level, tmp_path):
    frames = [np.zeros((side, side), np.uint8)] * 2
    path = tmp_path / "a.dcm"
    encode_frames(frames, path, codec="hevc", preset="ultrafast", rdo="ssim")
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.107"
    (payload,) = generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)
    with av.open(io.BytesIO(payload)) as video:
        context = video.streams.video[0].codec_context
        assert (context.profile, context.codec_tag) == ("Main", "hvc1")
        # general_level_idc is 30 times the level.
        assert context.extradata[12] == round(30 * float(level))
        assert context.color_range == 1


def test_the_object_comes_back(tmp_path, phantom_folder):
    path = tmp_path / "a.dcm"
    result = encode(phantom_folder, path, codec="hevc", preset="ultrafast", window="40/400")
    dataset = pydicom.dcmread(path)
    assert dataset.LossyImageCompressionMethod == "ISO_23008_2"
    assert "HEVC" in dataset.DerivationDescription
    assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == (8, 8, 7)
    assert dataset.PhotometricInterpretation == "YBR_PARTIAL_420"
    found = decode(path, tmp_path / "ct", template=phantom_folder)
    assert (found.codec, found.slices) == ("hevc", result.frames)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
def test_dciodvfy_finds_no_error_but_that_the_syntax_is_new_to_it(tmp_path, phantom_folder):
    """It knows no HEVC, so it is told of H.264."""
    path = tmp_path / "a.dcm"
    encode(phantom_folder, path, codec="hevc", preset="ultrafast", window="40/400")
    data = path.read_bytes()
    assert data.count(b"1.2.840.10008.1.2.4.107") == 1
    path.write_bytes(data.replace(b"1.2.840.10008.1.2.4.107", b"1.2.840.10008.1.2.4.102"))
    done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bit_depth": 10}, "the class for video of CT in DICOM takes 8 bits per sample"),
        ({"x265_params": "level-idc=4"}, "level is set by the transfer syntax"),
    ],
)
def test_what_dicom_does_not_hold_is_refused(options, said, tmp_path, phantom_folder):
    with pytest.raises(InputError, match=said):
        encode(phantom_folder, tmp_path / "a.dcm", codec="hevc", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("libde265-dec265") is None, reason="libde265 is not installed")
@pytest.mark.parametrize("effort", ["default", "max"])
def test_a_decoder_that_is_not_ffmpeg_shows_the_same(effort, tmp_path):
    """The one of libde265, which writes pictures in the order of presentation."""
    size = (98, 130)
    frames = noise_frames(9, size=size)
    offsets = [np.zeros(block_grid(size), np.float32)] * 9
    packets = packets_of(X265(effort).parameters(stream_of(shape=size)), frames, offsets)
    path, pictures = tmp_path / "a.hevc", tmp_path / "a.yuv"
    path.write_bytes(bytes_of(packets))
    command = ("libde265-dec265", "-q", "-o", pictures, path)
    subprocess.run(command, check=True, capture_output=True)
    samples = np.fromfile(pictures, np.uint8).reshape(9, -1)[:, : size[0] * size[1]]
    by_time = {packet.pts: packet.reconstruction for packet in packets}
    for index in range(9):
        np.testing.assert_array_equal(samples[index].reshape(size), by_time[index])
