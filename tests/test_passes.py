"""The loop that encodes, with codecs that fail in every way, and the verification after it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
from toys.toy_codec import ToyCodec, ToySession
from video_files import ct_volume, frames_of, packets_of, plane, slices_of, windowed

from ssimrdo import EncodeSettings, FrameFormat, InputError, encode_frames, metrics, objective
from ssimrdo.codecs.base import ConstantQuality, ConstantQuantizer, MeanBitrate
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.encoding.passes import Clock, PassSettings, Target, run_passes
from ssimrdo.encoding.verify import verify
from ssimrdo.errors import EncoderError, VerificationError
from ssimrdo.frames import FrameSource

SLICES = 9
FORMAT = FrameFormat(48, 256)
INDICES = (metrics.SSIM, metrics.PSNR)
FAST = X264(preset="veryfast")


@pytest.fixture(scope="module")
def luma():
    return [windowed(hu).astype(np.uint8) for hu in ct_volume(SLICES, *FORMAT.shape)]


@pytest.fixture
def source(luma):
    return FrameSource(FORMAT, SLICES, lambda: iter(luma))


def wanted(codec=FAST, crf=25.0, **more):
    return PassSettings(codec, ConstantQuality(crf), indices=INDICES, **more)


@pytest.mark.parametrize("codec", [FAST, ToyCodec(), ToyCodec(b_frames=0)])
def test_slices_are_measured_whether_written_or_not(codec, source, luma, tmp_path):
    path = tmp_path / "encode"
    settings = wanted(codec, 5.0)
    written = run_passes(source, settings, Target("matroska", path))
    assert run_passes(source, settings, Target("matroska")) == written
    shown = [plane(frame) for frame in frames_of(path)]
    for outcome, frame, original in zip(written.slices, shown, luma, strict=True):
        assert outcome.checksum == zlib.crc32(frame.tobytes())
        assert outcome.values["psnr"] == pytest.approx(metrics.psnr_db(original, frame))
    np.testing.assert_array_equal(
        written.values("psnr"), [one.values["psnr"] for one in written.slices]
    )
    assert sum(packet.size for packet in packets_of(path)) == pytest.approx(
        written.payload_bytes, abs=32
    )
    verify(path, [one.checksum for one in written.slices], container="matroska", bit_depth=8)


def test_where_nothing_is_measured_the_stream_is_the_same(source, tmp_path):
    paths = tmp_path / "a.h264", tmp_path / "b.h264"
    run_passes(source, wanted(), Target("h264", paths[0]))
    unmeasured = run_passes(source, replace(wanted(), indices=None), Target("h264", paths[1]))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert all(one.values == {} and one.checksum == 0 for one in unmeasured.slices)
    assert unmeasured.payload_bytes == paths[1].stat().st_size


def test_shifts_are_whole_frames_quantizers(source):
    """Six steps finer take about twice the bits, for the slices that have them and no others."""
    settings = PassSettings(FAST, ConstantQuantizer(34), objective.SSIM, 1, INDICES)
    shifts = np.zeros(SLICES)
    shifts[-1] = -6
    plain = run_passes(source, settings, Target("h264"))
    zero = run_passes(source, replace(settings, shifts=np.zeros(SLICES)), Target("h264"))
    shifted = run_passes(source, replace(settings, shifts=shifts), Target("h264"))
    assert zero.slices == plain.slices
    assert shifted.slices[-1].bytes > 1.3 * plain.slices[-1].bytes
    assert shifted.slices[-1].values["psnr"] > plain.slices[-1].values["psnr"] + 1
    assert shifted.slices[0] == plain.slices[0]


def test_every_pass_reads_and_counts_the_frames_anew(luma):
    read, counted = [], []

    def frames():
        read.append(0)
        for frame in luma:
            read[-1] += 1
            yield frame

    clock = Clock()
    run_passes(
        FrameSource(FORMAT, SLICES, frames),
        PassSettings(FAST, MeanBitrate(200), objective.SSIM, indices=INDICES),
        Target("h264"),
        clock=clock,
        advance=lambda: counted.append(1),
    )
    assert read == [SLICES, SLICES]
    assert len(counted) == 2 * SLICES
    assert set(clock.seconds) == {"load", "analyse", "encode", "verify"}
    assert min(clock.seconds.values()) > 0


def test_frames_of_another_format_end_the_pass(luma):
    for wrong in (luma[1][:-2], luma[1].astype(np.uint16)):
        source = FrameSource(FORMAT, 2, lambda wrong=wrong: iter([luma[0], wrong]))
        with pytest.raises(ValueError, match="a frame is"):
            run_passes(source, wanted(), Target("h264"))


def test_errors_of_the_source_and_of_the_watcher_end_the_pass(luma, source):
    def failing():
        yield luma[0]
        raise InputError("the disk is gone")

    with pytest.raises(InputError, match="the disk is gone"):
        run_passes(FrameSource(FORMAT, SLICES, failing), wanted(), Target("h264"))

    def stop():
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run_passes(source, wanted(), Target("h264"), advance=stop)


class BrokenSession(ToySession):
    """MPEG-4 that changes what comes out."""

    def __init__(self, codec, stream):
        super().__init__(codec, stream)
        self._how = codec.how

    def encode(self, luma, steering, index):
        yield from self._broken(super().encode(luma, steering, index))

    def flush(self):
        yield from self._broken(super().flush())

    def _broken(self, packets):
        for packet in packets:
            if self._how == "late" and packet.pts == 4:
                yield replace(packet, pts=4 + SLICES)
            elif self._how == "negative" and packet.pts == 4:
                yield replace(packet, pts=-1)
            elif self._how == "twice" and packet.pts == 4:
                yield packet
                yield packet
            elif (self._how, packet.pts) not in (("loses", 4), ("loses last", SLICES - 1)):
                yield packet


@dataclass(frozen=True)
class BrokenCodec(ToyCodec):
    b_frames: int = 0
    how: str = ""

    def open(self, stream):
        return BrokenSession(self, stream)


@pytest.mark.parametrize("indices", [INDICES, None])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("late", "toy gave a packet that is of no slice"),
        ("negative", "toy gave a packet that is of no slice"),
        ("twice", "toy gave a packet that is of no slice"),
        ("loses", "toy gave no packet for 1 slice|1 slice cannot be decoded"),
        ("loses last", "toy gave no packet for 1 slice|1 slice cannot be decoded"),
    ],
)
def test_a_codec_that_loses_or_mistakes_slices(how, message, indices, source, tmp_path):
    settings = replace(wanted(BrokenCodec(how=how), 5.0), indices=indices)
    with pytest.raises(EncoderError, match=message):
        run_passes(source, settings, Target("matroska", tmp_path / "encode"))


def test_nothing_is_left_of_a_codec_that_loses_slices(luma, tmp_path):
    with pytest.raises(EncoderError):
        encode_frames(luma, tmp_path / "out.mkv", codec=BrokenCodec(how="loses"), crf=5)
    assert list(tmp_path.iterdir()) == []


def test_a_codec_whose_reconstruction_is_not_what_its_stream_shows(luma, tmp_path, monkeypatch):
    """What is measured is what a decoder shows, or there is no file."""
    from ssimrdo.codecs.x264.codec import X264Session

    original = X264Session.flush

    def off_by_one(self):
        for packet in original(self):
            shown = packet.reconstruction.copy()
            shown[0, 0] ^= 1
            yield replace(packet, reconstruction=shown)

    monkeypatch.setattr(X264Session, "flush", off_by_one)
    with pytest.raises(VerificationError, match=r"slice \d+ decodes to other samples"):
        encode_frames(luma, tmp_path / "out.mp4", preset="veryfast")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sums: [*sums[:3], sums[3] ^ 1, *sums[4:]], "slice 4 decodes to other samples"),
        (lambda sums: [*sums[:3], *sums[4:]], "slice 4 decodes to other samples"),
        (lambda sums: sums[:-1], f"slice {SLICES} decodes to other samples"),
        (lambda sums: [*sums, sums[-1]], f"{SLICES} of {SLICES + 1} slices decode"),
        (lambda sums: [], "slice 1 decodes"),  # noqa: ARG005
    ],
)
def test_verification_compares_every_slice(change, message, source, tmp_path):
    path = tmp_path / "encode"
    outcome = run_passes(source, wanted(), Target("mp4", path))
    sums = [one.checksum for one in outcome.slices]
    verify(path, sums, container="mp4", bit_depth=8)
    with pytest.raises(VerificationError, match=message):
        verify(path, change(sums), container="mp4", bit_depth=8)


def test_a_damaged_stream_is_not_verified(source, tmp_path):
    path = tmp_path / "encode.h264"
    outcome = run_passes(source, wanted(), Target("h264", path))
    data = path.read_bytes()
    unit = slices_of(path)[3]
    cut = data.index(unit) + len(unit) // 2
    path.write_bytes(data[:cut] + bytes([data[cut] ^ 0x55]) + data[cut + 1 :])
    with pytest.raises(VerificationError):
        verify(path, [one.checksum for one in outcome.slices], container="h264", bit_depth=8)


@dataclass(frozen=True)
class QuantizersAlone(ToyCodec):
    """A codec without a rate factor, which is what a floor is searched on."""

    def scale(self, mode, bit_depth):
        if mode == "crf":
            raise InputError("there is no rate factor", field="crf")
        return super().scale(mode, bit_depth)


def test_a_floor_needs_a_scale_to_search():
    assert EncodeSettings.of(codec=QuantizersAlone(), qp=5).rate == ConstantQuantizer(5)
    with pytest.raises(InputError, match="there is no rate factor"):
        EncodeSettings.of(codec=QuantizersAlone(), min_ssim=0.9)
