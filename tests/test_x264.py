"""The x264 shim: errors, threads, and offsets that arrive, read back by FFmpeg's decoder."""

import concurrent.futures
import logging
import os
import re
import resource
import shutil
import subprocess
import sys

import av
import numpy as np
import pytest

from ssimrdo import objective
from ssimrdo.codecs.base import Steering, StreamSettings, rate_control
from ssimrdo.codecs.x264.codec import FRAME_TYPES, X264
from ssimrdo.codecs.x264.effort import role_at
from ssimrdo.codecs.x264.encoder import Encoder, EncoderParameters, x264_build
from ssimrdo.codecs.x264.steering import quantizer_offsets
from ssimrdo.errors import EncoderError, InputError
from ssimrdo.frames import FrameFormat, block_grid

SIZE = (96, 128)


def noise_frames(count=12, bit_depth=8, seed=0):
    """Noise has a residual in every macroblock, so each one's QP is written."""
    rng = np.random.default_rng(seed)
    peak = (1 << bit_depth) - 1
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    return [rng.integers(0, peak, SIZE, endpoint=True).astype(dtype) for _ in range(count)]


def encode(parameters, frames, offsets=None):
    packets = []
    with Encoder(parameters) as encoder:
        for pts, luma in enumerate(frames):
            packet = encoder.encode(luma, None if offsets is None else offsets[pts], pts=pts)
            packets += [packet] if packet else []
        packets += encoder.flush()
    return packets


def stream(packets):
    return b"".join(packet.data for packet in packets)


def decoded_qps(path):
    """Yield the QP of every macroblock of every frame, as FFmpeg's decoder exports it."""
    with av.open(str(path), format="h264") as source:
        video = source.streams.video[0]
        video.codec_context.options = {"export_side_data": "venc_params"}
        for frame in source.decode(video):
            yield np.asarray(frame.side_data["VIDEO_ENC_PARAMS"].qp_map(), int)  # type: ignore[typeddict-item]


def mismatches(qps, offsets, frame_qp, may_lack_residual=False):
    """Return how many macroblocks have another QP than planned.

    x264 repeats the QP of the macroblock before, or the slice's, where the plan differs by one
    (below subme 10), and so does the decoder where a macroblock has no residual at all.
    """
    planned = np.clip(np.floor(frame_qp + offsets.ravel() + 0.5), 0, 51)
    qps = qps.ravel()
    slice_qp = np.floor(frame_qp + 0.5)
    before = np.concatenate([[slice_qp], qps[:-1]])
    repeated = qps == before
    if not may_lack_residual:
        repeated &= np.abs(planned - before) == 1
    return np.count_nonzero((qps != planned) & ~repeated)


def found_frame_qp(qps, offsets, **options):
    """Return the fractional frame QP that explains the macroblocks' QPs best.

    The frame QPs for which a plan rounds to a QP start at that QP - 0.5 - offset, so the best one
    lies just above such a start for a macroblock's QP or one of its neighbours.
    """
    near = np.add.outer([-1, 0, 1], qps.ravel())
    starts = np.unique(near - 0.5 - offsets.ravel().astype(float)) + 1e-5
    return min(starts, key=lambda frame_qp: mismatches(qps, offsets, frame_qp, **options))


RATES = {"crf": 20, "qp": 20, "bitrate": 1500}


def stream_of(mode, shape=SIZE, *, bit_depth=8, **more):
    rate = rate_control(mode, RATES[mode])
    rows, columns = shape
    return StreamSettings(FrameFormat(rows, columns, bit_depth), rate, raw=True, threads=1, **more)


def all_passes(codec, frames, offsets, folder, **stream):
    """Encode with what the codec opens x264 with, in as many passes as it takes."""
    passes = codec.passes(stream_of(**stream).rate)
    for number in range(1, passes + 1):
        stats = folder / "stats" if passes > 1 else None
        shape = frames[0].shape
        settings = stream_of(shape=shape, pass_number=number, passes=passes, stats=stats, **stream)
        packets = encode(codec.parameters(settings), frames, offsets)
    return packets


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("mode", ["crf", "qp", "bitrate"])
def test_offsets_arrive(mode, bit_depth, tmp_path):
    frames = noise_frames(bit_depth=bit_depth)
    rng = np.random.default_rng(1)
    offsets = [rng.uniform(-6, 6, block_grid(SIZE)).astype(np.float32) for _ in frames]
    # MB-tree would add its own offsets; another test covers it.
    codec = X264(preset="medium", params=(("mbtree", "0"),))
    stream_settings = {"mode": mode, "bit_depth": bit_depth, "steered": True}
    path = tmp_path / "x.h264"
    path.write_bytes(stream(all_passes(codec, frames, offsets, tmp_path, **stream_settings)))
    frame_qps = []
    for qps, planned in zip(decoded_qps(path), offsets, strict=True):
        frame_qp = found_frame_qp(qps, planned)
        assert mismatches(qps, planned, frame_qp) == 0
        frame_qps.append(frame_qp)
    assert len(frame_qps) == len(frames)


def test_constant_qp_is_that_of_the_stock_encoder(tmp_path):
    frames = noise_frames(24)
    offsets = [np.full(block_grid(SIZE), 0.0, np.float32)] * len(frames)
    path = tmp_path / "x.h264"
    codec = X264(preset="medium")
    packets = all_passes(codec, frames, offsets, tmp_path, mode="qp", steered=True)
    path.write_bytes(stream(packets))
    types = {packet.pts: packet.frame_type for packet in packets}
    stock = tmp_path / "stock.h264"
    stock.write_bytes(stream(all_passes(codec, frames, None, tmp_path, mode="qp")))
    # 6 log2(1.4) below P-frames for I, 6 log2(1.3) above for B: x264's ip- and pb-ratio.
    expected = {"IDR": 17, "I": 17, "P": 20, "B": 22}
    for pts, (ours, theirs) in enumerate(zip(decoded_qps(path), decoded_qps(stock), strict=True)):
        if types[pts] in expected:
            assert (ours == expected[types[pts]]).all()
            assert (theirs == expected[types[pts]]).all()


@pytest.mark.parametrize("mode", ["crf", "qp", "bitrate"])
def test_the_models_offsets_arrive_on_ct(mode, phantom_luma, tmp_path):
    """With MB-tree on, B-frames that nothing refers to still have the planned offsets alone."""
    frame_format = FrameFormat(*phantom_luma[0].shape)
    offsets = [
        quantizer_offsets(luma, Steering(objective.SSIM.lagrange_ratio(luma, frame_format)))
        for luma in phantom_luma
    ]
    codec = X264(preset="medium")
    packets = all_passes(codec, phantom_luma, offsets, tmp_path, mode=mode, steered=True)
    path = tmp_path / "x.h264"
    path.write_bytes(stream(packets))
    types = {packet.pts: packet.frame_type for packet in packets}
    checked = 0
    for pts, (qps, planned) in enumerate(zip(decoded_qps(path), offsets, strict=True)):
        if types[pts] != "B" and mode != "qp":
            continue
        frame_qp = found_frame_qp(qps, planned, may_lack_residual=True)
        assert mismatches(qps, planned, frame_qp, may_lack_residual=True) == 0
        assert len(np.unique(qps)) > 5
        checked += 1
    assert checked >= 2


def test_aq_off_would_ignore_offsets():
    """The trap that the settings refuse: without AQ (and MB-tree) x264 drops offsets silently."""
    frames = noise_frames(4)
    offsets = [np.full(block_grid(SIZE), -5, np.float32)] * 4
    options = (("crf", "30"), ("aq-mode", "0"), ("mbtree", "0"), ("threads", "1"))
    parameters = EncoderParameters(SIZE[1], SIZE[0], options=options)
    assert stream(encode(parameters, frames, offsets)) == stream(encode(parameters, frames))
    codec = X264(params=(("aq-mode", "0"),))
    for refuse in (
        lambda: codec.check(steered=True),
        lambda: codec.parameters(stream_of("crf", steered=True)),
    ):
        with pytest.raises(InputError, match="aq-mode=0 makes x264 ignore") as caught:
            refuse()
        assert caught.value.field == "x264_params"


def test_reconstruction_is_what_ffmpeg_decodes(tmp_path):
    packets = encode(EncoderParameters(SIZE[1], SIZE[0]), noise_frames(20))
    path = tmp_path / "x.h264"
    path.write_bytes(stream(packets))
    shown = {packet.pts: packet.reconstruction for packet in packets}
    with av.open(str(path)) as source:
        for pts, frame in enumerate(source.decode(video=0)):
            np.testing.assert_array_equal(frame.to_ndarray()[: SIZE[0], : SIZE[1]], shown[pts])
    assert pts == 19


def test_encoders_in_threads_do_not_disturb_each_other():
    parameters = EncoderParameters(SIZE[1], SIZE[0], options=(("threads", "2"),))
    series = [noise_frames(10, seed=seed) for seed in range(6)]
    alone = [stream(encode(parameters, frames)) for frames in series]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda frames: stream(encode(parameters, frames)), series))
    assert together == alone


ENCODE_NOISE = """
import sys, zlib
import numpy as np
from ssimrdo.codecs.x264.encoder import Encoder, EncoderParameters

rng = np.random.default_rng(2)
base = np.add.outer(np.arange(160), np.arange(160)) % 256
checksum = 0
with Encoder(EncoderParameters(160, 160, options=(("crf", "28"),))) as encoder:
    for pts in range(24):
        noisy = np.roll(base, (pts, 2 * pts), (0, 1)) + rng.normal(0, 4, base.shape)
        packet = encoder.encode(noisy.clip(0, 255).astype(np.uint8), pts=pts)
        checksum = zlib.crc32(packet.data, checksum) if packet else checksum
    for packet in encoder.flush():
        checksum = zlib.crc32(packet.data, checksum)
print(checksum)
"""


def test_encodes_do_not_depend_on_what_memory_holds():
    """Without ``repeatable`` they do at this width, on processors with AVX-512."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", ENCODE_NOISE],
            env={**os.environ, "MALLOC_PERTURB_": fill},
            check=True,
            capture_output=True,
        ).stdout
        for fill in ("0", "1", "100")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "quick"}, "unknown x264 preset 'quick'"),
        ({"tune": "ct"}, "unknown x264 tuning 'ct'"),
        ({"options": (("crf", "20"), ("nonsense", "1"))}, "no parameter 'nonsense'"),
        ({"options": (("ref", "many"),)}, "cannot read 'many' as the value of 'ref'"),
        ({"width": 127}, "127x96"),
        ({"height": 0}, "128x0"),
        ({"width": 16386}, "16386x96"),
        ({"bit_depth": 9}, "at 9 bit"),
    ],
)
def test_bad_parameters_are_named(changes, message):
    parameters = {"width": SIZE[1], "height": SIZE[0], **changes}
    with pytest.raises(InputError, match=message):
        Encoder(EncoderParameters(**parameters))


def test_failure_to_open_carries_x264s_reason(tmp_path):
    options = (("bitrate", "100"), ("pass", "2"), ("stats", str(tmp_path / "missing")))
    with pytest.raises(EncoderError, match="can't open stats file"):
        Encoder(EncoderParameters(SIZE[1], SIZE[0], options=options))


def test_x264s_messages_go_to_logging(caplog):
    with caplog.at_level(logging.INFO, "ssimrdo.codecs.x264"):
        encode(EncoderParameters(SIZE[1], SIZE[0]), noise_frames(3))
    assert any("profile High" in record.message for record in caplog.records)
    assert any("kb/s" in record.message for record in caplog.records)
    assert all(record.levelno == logging.INFO for record in caplog.records)


def test_arrays_of_the_wrong_size_are_refused():
    luma = noise_frames(1)[0]
    offsets = np.zeros(block_grid(SIZE), np.float32)
    with Encoder(EncoderParameters(SIZE[1], SIZE[0])) as encoder:
        for bad in (luma[:-1], luma[:, :-2], luma.astype(np.uint16), luma.astype(float)):
            with pytest.raises(ValueError, match="luma is"):
                encoder.encode(bad, pts=0)
        for bad in (offsets[:-1], offsets.ravel(), offsets.astype(float)):
            with pytest.raises(ValueError, match="offsets are"):
                encoder.encode(luma, bad, pts=0)
        with pytest.raises(ValueError, match="finite"):
            encoder.encode(luma, np.full_like(offsets, np.nan), pts=0)
        encoder.encode(luma, offsets, pts=0)


def test_views_are_encoded_as_they_are_seen():
    wide = np.concatenate([noise_frames(1)[0]] * 2, axis=1)
    view = wide[:, 5 : 5 + SIZE[1]]
    parameters = EncoderParameters(SIZE[1], SIZE[0])
    assert stream(encode(parameters, [view])) == stream(encode(parameters, [view.copy()]))


def test_closed_encoder_refuses_work():
    encoder = Encoder(EncoderParameters(SIZE[1], SIZE[0]))
    encoder.close()
    encoder.close()
    with pytest.raises(EncoderError, match="closed"):
        encoder.encode(noise_frames(1)[0], pts=0)
    with pytest.raises(EncoderError, match="closed"):
        encoder.headers()
    with pytest.raises(EncoderError, match="closed"):
        list(encoder.flush())


def test_a_thousand_opens_leak_nothing():
    parameters = EncoderParameters(64, 64, preset="ultrafast", options=(("threads", "1"),))
    luma = np.zeros((64, 64), np.uint8)
    offsets = np.zeros((4, 4), np.float32)

    def cycle(times):
        for _ in range(times):
            with Encoder(parameters) as encoder:
                encoder.encode(luma, offsets, pts=0)
            with pytest.raises(InputError):
                Encoder(EncoderParameters(64, 64, options=(("nonsense", "1"),)))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = cycle(50)
    # One leaked encoder of this size would hold some 400 kB, one leaked frame 4 kB.
    assert cycle(1000) - before < 2000


def test_frame_types_are_as_asked_and_variants_hold_for_their_frames():
    """Search that differs in frames nothing refers to changes those frames alone."""
    parameters = EncoderParameters(
        SIZE[1], SIZE[0], options=(("b-adapt", "0"), ("crf", "35")), variants=((("subme", "1"),),)
    )
    frames = noise_frames(22)
    types = [FRAME_TYPES[role_at(index)] for index in range(len(frames))]

    def run(variants):
        packets = []
        with Encoder(parameters) as encoder:
            for pts, (luma, kind) in enumerate(zip(frames, types, strict=True)):
                variant = int(kind in variants)
                packets.append(encoder.encode(luma, pts=pts, frame_type=kind, variant=variant))
            packets += encoder.flush()
        return {packet.pts: packet for packet in packets if packet is not None}

    plain, light_b, light = run(()), run(("B",)), run(("P", "BREF", "B", "IDR"))
    assert [plain[pts].frame_type for pts in range(21)] == types[:21]
    assert plain[21].frame_type == "P"
    changed = {pts for pts in plain if plain[pts].data != light_b[pts].data}
    assert changed
    assert {types[pts] for pts in changed} == {"B"}
    changed = {types[pts] for pts in plain if plain[pts].data != light[pts].data}
    assert "P" in changed
    again = run(())
    assert all(again[pts].data == plain[pts].data for pts in plain)


def test_variants_and_frame_types_are_checked():
    options = (("psy", "0"),)
    with pytest.raises(InputError, match="no-such"):
        Encoder(EncoderParameters(64, 64, options=options, variants=(options, (("no-such", "1"),))))
    with pytest.raises(InputError, match="'x' as the value of 'subme'"):
        Encoder(EncoderParameters(64, 64, options=options, variants=((("subme", "x"),),)))
    luma = np.zeros((64, 64), np.uint8)
    with Encoder(EncoderParameters(64, 64)) as encoder:
        with pytest.raises(ValueError, match="frame type"):
            encoder.encode(luma, pts=0, frame_type="X")
        with pytest.raises(EncoderError):
            encoder.encode(luma, pts=0, variant=1)


@pytest.mark.parametrize(
    "option",
    [
        *(("cqm", "flat"), ("cqmfile", "/no/such/file"), ("stats", "x.log"), ("zones", "0,1,q=9")),
        *(("opencl-clbin", "x"), ("opencl_clbin", "x")),
        *(("no-stats", "1"), ("nozones", "1"), ("no_cqm", "1")),
    ],
)
def test_options_that_x264_keeps_as_text_hold_for_all_frames(option):
    """A variant would share the text's memory with the encoder."""
    parameters = EncoderParameters(64, 64, variants=((("psy", "0"),), (("subme", "2"), option)))
    with pytest.raises(InputError, match="cannot differ from frame to frame") as caught:
        Encoder(parameters)
    assert repr(option[0]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_build_is_that_of_the_library_that_encodes():
    written = stream(encode(EncoderParameters(64, 64), [np.zeros((64, 64), np.uint8)]))
    core, revision = re.search(rb"x264 - core (\d+) r(\d+ \w+)", written).groups()
    assert x264_build() == f"{core.decode()} (0.{core.decode()}.{revision.decode()})"


@pytest.mark.skipif(shutil.which("x264") is None, reason="the x264 program is not installed")
def test_build_is_that_of_the_program_beside_it():
    done = subprocess.run(["x264", "--version"], capture_output=True, text=True, check=True)
    version = done.stdout.split("\n")[0].removeprefix("x264 ")
    assert x264_build().endswith(f"({version})")
