"""Codecs without steering: x265 and SVT-AV1 through FFmpeg, JPEG 2000 through OpenJPEG."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import openjpeg
import pytest
from dicom_files import write_series
from video_files import ct_volume, frames_of, plane, windowed

from ssimrdo import InputError, encode, metrics, objective
from ssimrdo.codecs.base import (
    ConstantQuality,
    ConstantQuantizer,
    MeanBitrate,
    Steering,
    StreamSettings,
    check_format,
)
from ssimrdo.codecs.htj2k import Htj2k
from ssimrdo.codecs.jpeg2000 import Jpeg2000
from ssimrdo.codecs.jpegxl import JpegXl
from ssimrdo.codecs.lavc import packed, video_frame
from ssimrdo.codecs.lavc_x265 import LavcX265
from ssimrdo.codecs.svtav1 import SvtAv1
from ssimrdo.codecs.vvenc import Vvenc, program
from ssimrdo.encoding.passes import PassSettings, Target, run_passes
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import EncoderError
from ssimrdo.frames import FrameFormat, FrameSource
from ssimrdo.video.decode import decoded_luma
from ssimrdo.video.stills import decoded_jpegxl, stills_of

ROWS, COLUMNS = 71, 97
CODECS = (
    *(
        LavcX265("ultrafast"),
        LavcX265("slow", "ssim"),
        LavcX265("fast", None, True),
        SvtAv1(8),
        SvtAv1(8, screen_content=True),
    ),
    *(Jpeg2000(), Htj2k()),
)
VIDEO = CODECS[:4]
STILLS = ("jpeg2000", "htj2k", "jpegxl")
needs_vvenc = pytest.mark.skipif(program() is None, reason="no FFmpeg program has VVenC")
VVENC = pytest.param(Vvenc("faster"), marks=needs_vvenc)
EVERYWHERE = [
    *((codec, container) for codec in CODECS for container in codec.containers),
    pytest.param(Vvenc("faster"), "vvc", marks=needs_vvenc),
]


def source(slices, bit_depth=8, fps=Fraction(25)):
    frames = FrameFormat(ROWS, COLUMNS, bit_depth, fps)
    volume = ct_volume(slices, ROWS, COLUMNS)
    lumas = [windowed(hu, bit_depth=bit_depth).astype(frames.dtype) for hu in volume]
    return FrameSource(frames, slices, lambda: lumas)


def label(value):
    return value if isinstance(value, str) else value.label


@pytest.mark.parametrize(("codec", "container"), EVERYWHERE, ids=label)
@pytest.mark.parametrize("bit_depth", [8, 10])
def test_what_is_measured_is_what_the_file_decodes_to(codec, container, bit_depth, tmp_path):
    path, frames = tmp_path / "video", source(11, bit_depth, Fraction(25, 2))
    rate = ConstantQuality(10 if codec.name == "htj2k" else 36)
    settings = PassSettings(codec, rate, indices=[metrics.PSNR])
    outcome = run_passes(frames, settings, Target(container, path))
    shown = list(decoded_luma(path, container=container, bit_depth=bit_depth))
    assert [one.checksum for one in outcome.slices] == [
        zlib.crc32(np.ascontiguousarray(luma)) for luma in shown
    ]
    peak = 2**bit_depth - 1
    for luma, own, index in zip(frames.frames(), shown, outcome.slices, strict=True):
        error = np.square(own[:ROWS, :COLUMNS] - luma.astype(float)).mean()
        assert index.values["psnr"] == pytest.approx(10 * np.log10(peak**2 / error), abs=1e-6)
    assert 25 < outcome.values("psnr").mean() < 50
    if container == codec.syntax:
        assert path.stat().st_size == outcome.payload_bytes
        return
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        # IVF keeps no rate but that of its clock.
        assert (stream.average_rate or 1 / stream.time_base) == Fraction(25, 2)
        times = [packet.pts * packet.time_base for packet in video.demux(stream) if packet.size]
    assert sorted(times) == pytest.approx([Fraction(index, 25) * 2 for index in range(11)])


@pytest.mark.parametrize("codec", VIDEO, ids=label)
def test_samples_are_full_range_with_neutral_chroma(codec, tmp_path):
    path = tmp_path / "video.mkv"
    run_passes(source(3), PassSettings(codec, ConstantQuality(30)), Target("matroska", path))
    for frame in frames_of(path):
        assert frame.color_range == 2
        assert (plane(frame, 1) == 128).all()
        assert (plane(frame, 2) == 128).all()


@pytest.mark.parametrize("codec", [*CODECS, JpegXl(3), VVENC], ids=label)
@pytest.mark.parametrize("slices", [1, 2, 3, 40])
def test_decoding_times_grow_and_are_no_later_than_presentation(codec, slices):
    """Those of x265 itself are random numbers in short clips."""
    frames = source(slices)
    point = 10 if codec.name in STILLS[1:] else 36
    stream = StreamSettings(frames.format.padded(), ConstantQuality(point))
    with codec.open(stream) as session:
        packets = [
            packet
            for index, luma in enumerate(frames.frames())
            for packet in session.encode(stream.format.pad(luma), Steering(), index)
        ]
        packets += session.flush()
    assert sorted(packet.pts for packet in packets) == list(range(slices))
    assert [packet.dts for packet in packets] == list(
        range(packets[0].dts, packets[0].dts + slices)
    )
    assert all(packet.dts <= packet.pts for packet in packets)
    assert packets[0].keyframe
    assert session.headers == b""


@pytest.mark.parametrize("codec", [*CODECS, JpegXl(3)], ids=label)
def test_rates_follow_from_each_rate_control(codec):
    frames = source(12)

    def payload(rate):
        target = Target(codec.containers[0])
        return run_passes(frames, PassSettings(codec, rate), target).payload_bytes

    points = (5, 10, 20) if codec.name in STILLS[1:] else (24, 30, 36)
    qualities = [payload(ConstantQuality(point)) for point in points]
    assert qualities == sorted(qualities, reverse=codec.name != "jpeg2000")
    assert len(set(qualities)) == 3
    if codec.name in STILLS:
        with pytest.raises(InputError, match="no quantizer"):
            codec.scale("qp", 8)
    else:
        sizes = [payload(ConstantQuantizer(point)) for point in (24, 30, 36)]
        assert sizes == sorted(sizes, reverse=True)
    if codec.name in STILLS[1:]:
        with pytest.raises(InputError, match="no mean bit rate"):
            codec.scale("bitrate", 8)
        return
    for kbps in (400, 200):
        assert payload(MeanBitrate(kbps)) * 8 * 25 / 12 / 1000 == pytest.approx(kbps, rel=0.35)


@needs_vvenc
def test_vvenc_has_quantizers_that_stand_for_quality_too():
    frames, codec = source(6), Vvenc("faster")

    def payload(rate, threads=0):
        settings = PassSettings(codec, rate, threads=threads)
        return run_passes(frames, settings, Target("vvc")).payload_bytes

    sizes = [payload(ConstantQuality(point)) for point in (24, 30, 36)]
    assert sizes == sorted(set(sizes), reverse=True)
    assert payload(ConstantQuantizer(30), threads=1) == sizes[1]
    with pytest.raises(InputError, match="VVenC faster has no mean bit rate"):
        codec.scale("bitrate", 8)


@needs_vvenc
def test_what_vvenc_says_is_told_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stream = StreamSettings(FrameFormat(64, 64), ConstantQuality(30))
    luma = np.zeros((64, 64), np.uint8)
    with Vvenc("faster").open(stream) as session:
        session.encode(luma, Steering(), 0)
    assert list(tmp_path.iterdir()) == []

    def refused():
        with Vvenc("faster").open(replace(stream, rate=ConstantQuality(99))) as session:
            session.encode(luma, Steering(), 0)
            list(session.flush())

    with pytest.raises(EncoderError, match=r"libvvenc failed: .*(qp|99|QP)") as caught:
        refused()
    assert f"{tmp_path}" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_vvenc_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("ssimrdo.codecs.vvenc.program", lambda: None)
    stream = StreamSettings(FrameFormat(64, 64), ConstantQuality(30))
    with pytest.raises(InputError, match=r"VVenC medium needs an FFmpeg program .*vvc"):
        Vvenc().open(stream)
    assert Vvenc().version == "VVenC, not installed"


def test_svtav1_makes_the_same_stream_again_at_a_bit_rate():
    frames = source(12)

    def stream(threads):
        target = Target("obu")
        settings = PassSettings(SvtAv1(8), MeanBitrate(400), threads=threads)
        return [one.bytes for one in run_passes(frames, settings, target).slices]

    sizes = [stream(threads) for threads in (0, 0, 0, 1, 4)]
    assert sizes == sizes[:1] * 5


def test_x265_takes_two_passes_for_a_bit_rate():
    assert LavcX265().passes(MeanBitrate(100)) == 2
    assert LavcX265().passes(ConstantQuality(20)) == 1
    assert SvtAv1().passes(MeanBitrate(100)) == 1


@pytest.mark.parametrize(("codec", "suffix"), [(LavcX265("fast"), "hevc"), (SvtAv1(8), "obu")])
def test_encode_takes_them(codec, suffix, tmp_path):
    write_series(tmp_path / "ct", ct_volume(5, ROWS, COLUMNS))
    for ending in ("mp4", "mkv", suffix):
        path = tmp_path / f"{ending}.{ending}"
        result = encode(tmp_path / "ct", path, codec=codec, crf=30, window="40/400")
        assert result.codec.name == codec.name
        assert result.objective is None
        assert result.bytes == path.stat().st_size
        assert len(list(decoded_luma(path))) == 5


def test_the_search_finds_a_quality_on_other_scales(tmp_path):
    write_series(tmp_path / "ct", ct_volume(4, ROWS, COLUMNS))
    options = {"window": "40/400", "min": ("ssim", 0.95)}
    for codec in (LavcX265("fast"), SvtAv1(8)):
        found = encode(tmp_path / "ct", tmp_path / f"{codec.name}.mkv", codec=codec, **options)
        assert 0.95 <= found.ssim.min < 0.96
        assert codec.scale("crf", 8).low < found.search.crf < codec.scale("crf", 8).high
    with pytest.raises(InputError, match=r"min: there is no search .* give a crf"):
        encode(tmp_path / "ct", tmp_path / "j2k.mkv", codec=Jpeg2000(), **options)


@pytest.mark.parametrize("codec", VIDEO, ids=label)
def test_a_folder_with_odd_characters_carries_the_statistics(codec, tmp_path, monkeypatch):
    folder = tmp_path / "a:b=c'd\\e"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    settings = PassSettings(codec, MeanBitrate(200))
    assert len(run_passes(source(8), settings, Target("matroska")).slices) == 8


def test_values_are_escaped_as_ffmpeg_reads_them():
    assert packed({"stats": "a:b=c\\d'e", "pass": "1"}) == "stats=a\\:b\\=c\\\\d\\'e:pass=1"


def test_threads_are_asked_for():
    stream = StreamSettings(FrameFormat(64, 64), ConstantQuality(20), threads=3)
    assert "threads=3" in LavcX265().describe(stream)
    assert "lp=3" in SvtAv1().describe(stream)
    for codec in (*CODECS, JpegXl()):
        with codec.open(stream):
            pass


def test_video_frames_have_padded_lines():
    frames = FrameFormat(34, 50, 10)
    luma = np.arange(34 * 50, dtype=np.uint16).reshape(34, 50) % 1024
    frame = video_frame(luma, frames)
    assert (plane(frame) == luma).all()
    assert (plane(frame, 1) == 512).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LavcX265("quick"), "preset: 'quick' is unknown"),
        (lambda: LavcX265(tune="film"), "tune: 'film' is unknown: use one of psnr, ssim"),
        (lambda: SvtAv1(14), "preset: 14 is unknown"),
        (lambda: SvtAv1(6, "grain"), "tune: 'grain' is unknown"),
        (lambda: SvtAv1(6, variance_boost=5), "variance_boost: 5 is out of range: use 0 to 4"),
        (lambda: JpegXl(11), "effort: 11 is unknown: use one of 1, 2"),
        (lambda: Vvenc("quick"), "preset: 'quick' is unknown: use one of faster, fast"),
    ],
)
def test_unknown_options(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("codec", CODECS, ids=label)
def test_none_follows_an_objective(codec):
    with pytest.raises(InputError, match=f"{codec.name} follows no objective"):
        EncodeSettings(ConstantQuality(30), objective.SSIM, codec)
    assert EncodeSettings(ConstantQuality(30), None, codec).steered is False


def test_x265_takes_no_small_slices():
    """It corrupts memory at frames 40 or 48 samples wide."""
    check_format(LavcX265(), FrameFormat(64, 64), "series")
    with pytest.raises(InputError, match=r"series: slices of 48x64 cannot .* sides are 64 to"):
        check_format(LavcX265(), FrameFormat(64, 48), "series")


def test_versions_are_those_of_the_libraries():
    for codec in (LavcX265(), SvtAv1()):
        assert "unknown" not in codec.version
        assert av.ffmpeg_version_info in codec.version


def test_an_encoder_that_refuses(monkeypatch):
    """SVT-AV1 has no mean bit rate with a tuning for SSIM."""
    stream = StreamSettings(FrameFormat(64, 64), MeanBitrate(200))
    with SvtAv1().open(stream):
        pass
    monkeypatch.setattr("ssimrdo.codecs.svtav1.TUNES", {"ssim": "2", "psnr": "2"})
    with pytest.raises(EncoderError, match="libsvtav1 failed to open"):
        SvtAv1().open(stream)


def test_svtav1_boosts_flat_areas_but_not_at_a_constant_quantizer():
    """Its log would tell the same; the streams differ where the parameter counts."""
    stream = StreamSettings(FrameFormat(64, 64), ConstantQuality(30))
    assert "enable-variance-boost=1 variance-boost-strength=1" in SvtAv1().describe(stream)
    assert "boost" not in SvtAv1(variance_boost=0).describe(stream)
    fixed = StreamSettings(FrameFormat(64, 64), ConstantQuantizer(30))
    assert "boost" not in SvtAv1().describe(fixed)

    def sizes(rate):
        return [
            run_passes(source(4), PassSettings(codec, rate), Target("matroska")).payload_bytes
            for codec in (SvtAv1(10), SvtAv1(10, variance_boost=0), SvtAv1(10, variance_boost=4))
        ]

    assert len(set(sizes(ConstantQuality(30)))) == 3
    assert len(set(sizes(ConstantQuantizer(30)))) == 1


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_htj2k_and_jpeg_xl_show_what_other_decoders_show(bit_depth, tmp_path):
    """OpenJPEG decodes HTJ2K, and libjxl's own program JPEG XL where it is installed."""
    frames = source(2, bit_depth)
    path = tmp_path / "a.mkv"
    run_passes(frames, PassSettings(Htj2k(), ConstantQuality(10)), Target("matroska", path))
    with av.open(str(path)) as video:
        codestreams = [bytes(packet) for packet in video.demux(video=0) if packet.size]
    ours = decoded_luma(path, bit_depth=bit_depth)
    for data, shown, luma in zip(codestreams, ours, frames.frames(), strict=True):
        theirs = openjpeg.decode(data).reshape(shown.shape) >> (
            16 - bit_depth if bit_depth > 8 else 0
        )
        assert np.abs(theirs.astype(int) - shown).max() <= 1
        assert np.abs(luma.astype(int) - shown[:ROWS, :COLUMNS]).mean() < 2**bit_depth / 40
    path = tmp_path / "a.zip"
    run_passes(frames, PassSettings(JpegXl(3), ConstantQuality(2)), Target("zip", path))
    pictures = list(stills_of(path))
    assert len(pictures) == 2
    program = shutil.which("djxl")
    for data, shown, luma in zip(pictures, decoded_jpegxl(path), frames.frames(), strict=True):
        assert shown.dtype == frames.format.dtype
        assert np.abs(luma.astype(int) - shown[:ROWS, :COLUMNS]).mean() < 2**bit_depth / 40
        if program is not None:
            (tmp_path / "a.jxl").write_bytes(data)
            # Version 0.7 scales other depths wrongly.
            bits = 8 if bit_depth == 8 else 16
            command = [program, "a.jxl", "a.pgm", f"--bits_per_sample={bits}", "--quiet"]
            subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
            theirs = pgm(tmp_path / "a.pgm") * frames.format.peak
            assert np.abs(theirs - shown).max() < 1.5


def pgm(path):
    """Return the samples of a binary PGM file of whole bytes, from 0 to 1."""
    kind, size, peak, samples = path.read_bytes().split(b"\n", 3)
    assert (kind, peak) in ((b"P5", b"255"), (b"P5", b"65535"))
    columns, rows = map(int, size.split())
    found = np.frombuffer(samples, ">u2" if peak == b"65535" else np.uint8)
    return found.reshape(rows, columns) / int(peak)


@pytest.mark.parametrize("codec", [Htj2k(), JpegXl()], ids=label)
def test_a_missing_library_is_one_line(codec, monkeypatch):
    monkeypatch.setattr("ssimrdo.extras.find_spec", {}.get)
    stream = StreamSettings(FrameFormat(64, 64), ConstantQuality(2))
    with pytest.raises(InputError, match=r"needs imagecodecs, .*: .*archive") as caught:
        codec.open(stream)
    assert "\n" not in str(caught.value)


def test_jpeg_2000_in_several_threads():
    """The library behind it needs a lock; without, the process crashes."""
    code = (
        "import numpy as np\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from ssimrdo.codecs.base import ConstantQuality, Steering, StreamSettings\n"
        "from ssimrdo.codecs.jpeg2000 import Jpeg2000\n"
        "from ssimrdo.frames import FrameFormat\n"
        "luma = (np.add.outer(np.arange(256), np.arange(256)) * 7 % 256).astype(np.uint8)\n"
        "stream = StreamSettings(FrameFormat(256, 256), ConstantQuality(40.0))\n"
        "def encoded(index):\n"
        "    with Jpeg2000().open(stream) as session:\n"
        "        return next(session.encode(luma, Steering(), index)).data\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    found = set(pool.map(encoded, range(300)))\n"
        "assert len(found) == 1\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_opening_changes_no_environment():
    before = dict(os.environ)
    for codec in CODECS:
        run_passes(source(2), PassSettings(codec, ConstantQuality(36)), Target("matroska"))
    assert dict(os.environ) == before


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed in /proc")
def test_an_open_encoder_leaves_threads_their_scheduling():
    # SVT-AV1 raises it where it may, as root may.
    before = os.sched_getscheduler(0)
    stream = StreamSettings(FrameFormat(64, 64, 8, Fraction(25)), ConstantQuality(40))
    with SvtAv1(8).open(stream) as session:
        assert list(session.encode(np.zeros((64, 64), np.uint8), Steering(), 0)) == []
        policies = {
            os.sched_getscheduler(int(task))
            for task in (path.name for path in Path("/proc/self/task").iterdir())
        }
        assert len(list(session.flush())) == 1
    assert policies == {before}
    assert os.sched_getscheduler(0) == before
