"""Video as a DICOM object, judged by dicom3tools, DCMTK, FFmpeg and pydicom."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pydicom
import pytest
from av.video.reformatter import ColorRange
from dicom_files import CANARY, write_series
from messages import error_of
from numpy.testing import assert_array_equal
from pydicom.encaps import generate_frames
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from test_decode import datasets_of, errors_of, in_order, needs_dciodvfy, tilted_series
from video_files import SOFT_TISSUE, ct_volume, plane, run_command, windowed

from ssimrdo import EncodeSettings, Volume, Window, encode, encode_frames
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x264.level import LEVELS, at_level, check_rate, level_of
from ssimrdo.decoding import decode
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat

SLICES, ROWS, COLUMNS = 7, 50, 63
SOFT = Window(*SOFT_TISSUE)
FAST = {"window": SOFT, "effort": "fast"}
DCMDUMP, FFPROBE = shutil.which("dcmdump"), shutil.which("ffprobe")


@pytest.fixture(scope="module")
def hu():
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def series(hu, tmp_path_factory):
    return tilted_series(tmp_path_factory.mktemp("ct"), hu)


@pytest.fixture(scope="module")
def video(series, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "a.dcm"
    encode(series, output, fps="12.5", **FAST)
    return output


def payload_of(path):
    (payload,) = generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)
    return payload


def frames_in(payload):
    with av.open(io.BytesIO(payload)) as container:
        return list(container.decode(video=0))


def shown(frame):
    """Return what a player shows of a frame of limited range (ITU-R BT.601)."""
    luma = np.clip(plane(frame)[:ROWS, :COLUMNS].astype(float), 16, 235)
    return np.floor((luma - 16) * 255 / 219 + 0.5).astype(np.uint8)


@needs_dciodvfy
@pytest.mark.parametrize("template", [False, True])
def test_dciodvfy_finds_no_error(template, series, tmp_path):
    encode(series, tmp_path / "a.dcm", template=series if template else None, **FAST)
    assert errors_of(tmp_path / "a.dcm") == []


@pytest.mark.skipif(DCMDUMP is None, reason="DCMTK is not installed")
def test_dcmdump_sees_one_fragment_and_an_empty_table(video):
    done = subprocess.run([str(DCMDUMP), "+L", video], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    items = [line for line in done.stdout.splitlines() if " pi " in line]
    assert len(items) == 2
    assert "#   0, 1 Item" in items[0]
    assert "MPEG4HighProfile/Level4.1" in done.stdout


def test_the_object_says_what_the_stream_is(video):
    one = pydicom.dcmread(video)
    assert one.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7.4"
    assert one.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.102"
    assert (one.SamplesPerPixel, one.PhotometricInterpretation) == (3, "YBR_PARTIAL_420")
    assert (one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation) == (8, 8, 7, 0)
    assert one.PlanarConfiguration == 0
    # 4:2:0 takes even sides.
    assert (one.NumberOfFrames, one.Rows, one.Columns) == (SLICES, ROWS, COLUMNS + 1)
    assert one[one.FrameIncrementPointer].value == 80
    assert "PixelAspectRatio" not in one
    assert list(one.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert (one.LossyImageCompression, one.LossyImageCompressionMethod) == ("01", "ISO_14496_10")
    assert one.DerivationCodeSequence[0].CodeValue == "113040"
    assert not one.PatientName
    assert "SourceImageSequence" not in one
    with av.open(io.BytesIO(payload_of(video))) as container:
        assert len(container.streams) == 1
        (stream,) = container.streams.video
        context = stream.codec_context
        assert (context.name, context.profile) == ("h264", "High")
        assert (context.width, context.height) == (COLUMNS + 1, ROWS)
        assert stream.average_rate == Fraction(25, 2)
        assert context.sample_aspect_ratio in (None, 0, 1)
        frames = list(container.decode(stream))
    assert len(frames) == SLICES
    assert {frame.format.name for frame in frames} == {"yuv420p"}
    assert {frame.color_range for frame in frames} <= {ColorRange.MPEG, ColorRange.UNSPECIFIED}


@pytest.mark.skipif(FFPROBE is None, reason="the ffprobe program is not installed")
def test_ffprobe_sees_level_and_range(video, tmp_path):
    (tmp_path / "a.mp4").write_bytes(payload_of(video))
    command = [str(FFPROBE), "-v", "error", "-show_streams", "-of", "json", tmp_path / "a.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (stream,) = json.loads(done.stdout)["streams"]
    assert (stream["profile"], stream["level"]) == ("High", 41)
    assert stream.get("color_range", "tv") == "tv"


def test_the_limited_range_is_used(hu, video):
    luma = np.array([plane(frame)[:ROWS, :COLUMNS] for frame in frames_in(payload_of(video))])
    grey = windowed(hu)
    assert luma[grey == 0].mean() == pytest.approx(16, abs=2)
    for low, high in ((60, 120), (120, 180), (180, 256)):
        there = (grey >= low) & (grey < high)
        expected = 16 + grey[there].mean() * 219 / 255
        assert luma[there].mean() == pytest.approx(expected, abs=4)


def test_offsets_are_those_of_what_is_shown(hu, series, tmp_path, monkeypatch):
    from ssimrdo.codecs.x264 import codec

    seen, offsets = [], codec.quantizer_offsets

    def noted(luma, *arguments, **options):
        seen.append(luma)
        return offsets(luma, *arguments, **options)

    monkeypatch.setattr(codec, "quantizer_offsets", noted)
    encode(series, tmp_path / "a.dcm", **FAST)
    found = np.array(seen)[:, :ROWS, :COLUMNS].astype(int)
    # Black is 0 again, by which clipped macroblocks are known; other levels are rounded twice.
    assert_array_equal(found == 0, windowed(hu) == 0)
    assert np.abs(found - windowed(hu)).max() == 1


def test_quality_is_that_of_what_is_shown(hu, video):
    record = json.loads(video.with_suffix(".json").read_text())
    source = windowed(hu)
    for number, frame in enumerate(frames_in(payload_of(video))):
        psnr = peak_signal_noise_ratio(source[number], shown(frame), data_range=255)
        assert record["slices"][number]["psnr"] == pytest.approx(psnr, abs=1e-3)
        ssim = structural_similarity(
            source[number].astype(np.uint8),
            shown(frame),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert record["slices"][number]["ssim"] == pytest.approx(ssim, abs=1e-3)


def test_pydicom_writes_the_same_again(video, tmp_path):
    pydicom.dcmread(video).save_as(tmp_path / "b.dcm")
    assert payload_of(tmp_path / "b.dcm") == payload_of(video)
    assert (tmp_path / "b.dcm").read_bytes() == video.read_bytes()


def test_decode_reads_the_object_alone(series, video, tmp_path):
    copy = tmp_path / "alone.dcm"
    copy.write_bytes(video.read_bytes())
    result = decode(copy, tmp_path / "ct", template=series)
    assert result.tissue is not None
    center, width = SOFT_TISSUE
    ours = datasets_of(tmp_path / "ct")
    for one, original, frame in zip(
        ours, in_order(series), frames_in(payload_of(video)), strict=True
    ):
        assert str(one.ImagePositionPatient) == str(original.ImagePositionPatient)
        luma = np.clip(plane(frame)[:ROWS, :COLUMNS].astype(float), 16, 235)
        expected = ((luma - 16) / 219 - 0.5) * (width - 1) + center - 0.5
        found = one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert "CRC" not in (tmp_path / "ct/slice_0001.dcm").read_bytes().decode("latin-1")


def test_a_fragmented_copy_is_read_too(video, tmp_path):
    one = pydicom.dcmread(video)
    payload = payload_of(video)
    one.PixelData = pydicom.encaps.encapsulate([payload], fragments_per_frame=5, has_bot=False)
    one.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102.1"
    one.save_as(tmp_path / "b.dcm")
    decode(tmp_path / "b.dcm", tmp_path / "ct")
    assert len(list((tmp_path / "ct").iterdir())) == SLICES


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_object_is_told_in_a_line(kept, video, tmp_path, capfd):
    data = video.read_bytes()
    (tmp_path / "a.dcm").write_bytes(data[: int(len(data) * kept)])
    done = run_command(capfd, "decode", tmp_path / "a.dcm", "-o", tmp_path / "ct")
    assert done.status == 2
    assert error_of(done.err)
    assert not (tmp_path / "ct").exists()


def test_a_template_gives_patient_study_and_sources(series, tmp_path):
    encode(series, tmp_path / "a.dcm", template=series, **FAST)
    one, originals = pydicom.dcmread(tmp_path / "a.dcm"), in_order(series)
    assert one.PatientName == originals[0].PatientName
    assert one.StudyInstanceUID == originals[0].StudyInstanceUID
    assert one.SeriesInstanceUID != originals[0].SeriesInstanceUID
    assert [source.ReferencedSOPInstanceUID for source in one.SourceImageSequence] == [
        original.SOPInstanceUID for original in originals
    ]


def test_another_series_is_no_template(hu, series, tmp_path):
    same = tilted_series(tmp_path / "same", hu)
    other = tilted_series(tmp_path / "other", hu + 9)
    encode(series, tmp_path / "a.dcm", template=same, **FAST)
    for template, said in ((other, "another image"), (tmp_path / "no", "no such file")):
        with pytest.raises(InputError, match=said):
            encode(series, tmp_path / "b.dcm", template=template, **FAST)
    with pytest.raises(InputError, match="is for DICOM objects"):
        encode(series, tmp_path / "b.mkv", template=same, **FAST)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", "", ".dcm", ".json"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bit-depth", "10"], "--bit-depth: DICOM has no transfer syntax for H.264 of 10 bit"),
        (["--x264-params", "level=5.1"], "--x264-params: level is set by the transfer syntax"),
    ],
)
def test_what_has_no_transfer_syntax_is_refused(arguments, said, series, tmp_path, capfd):
    done = run_command(capfd, "encode", series, "-o", tmp_path / "a.dcm", *arguments)
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert list(tmp_path.iterdir()) == []


def test_unequal_spacing_is_refused(hu, tmp_path):
    write_series(tmp_path / "in", hu, PixelSpacing=[0.75, 0.5])
    with pytest.raises(InputError, match=r"square pixels.* 0\.6667 times as wide.*\.mkv"):
        encode(tmp_path / "in", tmp_path / "a.dcm", **FAST)


def test_slices_beyond_the_levels_are_refused(tmp_path):
    frames = [np.zeros((2048, 2048), np.uint8)]
    with pytest.raises(InputError, match=r"2048x2048 at 25 per second are beyond level 4\.2"):
        encode_frames(frames, tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("rows", "columns", "fps", "level"),
    [
        (512, 512, 25, "4.1"),
        (512, 512, 240, "4.1"),
        (512, 512, 241, "4.2"),
        (1024, 1024, 25, "4.1"),
        (1024, 2048, 25, "4.1"),
        (1088, 2048, 25, "4.2"),
        (1104, 2048, 25, None),
        (16, 4096, 25, "4.1"),
        (16, 4112, 25, "4.2"),
        (16, 8192, 25, None),
    ],
)
def test_levels_are_those_of_table_a_1(rows, columns, fps, level):
    found = level_of(FrameFormat(rows, columns, fps=Fraction(fps)))
    assert (found and found.name) == level


def test_a_larger_size_takes_level_4_2(tmp_path):
    frames = [np.full((1088, 2048), grey, np.uint8) for grey in (0, 99)]
    encode_frames(frames, tmp_path / "a.dcm", rdo="off", preset="ultrafast")
    one = pydicom.dcmread(tmp_path / "a.dcm")
    assert one.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.104"
    # Baseline's own profile in ultrafast is within High; the level stands behind it.
    payload = payload_of(tmp_path / "a.dcm")
    at = payload.index(b"avcC") + 4
    assert payload[at + 3] == 42


@pytest.mark.parametrize(
    ("codec", "side", "references"),
    [
        (X264(), 1024, None),
        (X264(), 1440, 4),
        (X264(preset="veryslow"), 1024, 8),
        (X264(preset="veryslow"), 512, None),
        (X264(preset="medium"), 1440, None),
        (X264(params=(("ref", "12"),)), 1024, 8),
        (X264(params=(("frameref", "2"),)), 1440, None),
    ],
)
def test_references_fit_the_decoders_buffer(codec, side, references):
    found = at_level(codec, LEVELS[0], FrameFormat(side, side))
    added = dict(found.params[len(codec.params) :])
    assert added.pop("level") == "4.1"
    assert added == ({} if references is None else {"ref": f"{references}"})


def test_seconds_with_too_many_bits_are_refused():
    frames = FrameFormat(512, 512)
    fits = 62_500_000 // 8 // 25
    check_rate([fits] * 100, LEVELS[0], frames)
    with pytest.raises(InputError, match="are more than the 62500 of level"):
        check_rate([0] * 40 + [fits + 9] * 25 + [0] * 40, LEVELS[0], frames)
    check_rate([20 * fits], LEVELS[0], frames)


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_the_limited_range_is_that_of_the_standard(bit_depth):
    frames = FrameFormat(16, 16, bit_depth, full_range=False)
    scale = 1 << (bit_depth - 8)
    every = np.arange(frames.peak + 1, dtype=frames.dtype)
    coded = frames.coded(every)
    expected = every / frames.peak * 219 * scale + 16 * scale
    assert np.abs(coded - expected).max() <= 0.5
    assert coded.dtype == frames.dtype
    back = frames.shown(coded)
    assert np.abs(back.astype(int) - every.astype(int)).max() <= 1
    assert_array_equal(frames.shown(every[: 16 * scale]), 0)
    assert_array_equal(frames.shown(every[235 * scale :]), frames.peak)
    full = FrameFormat(16, 16, bit_depth)
    assert full.shown(every) is every
    assert full.coded(every) is every


def test_frames_without_a_window_make_an_object_too(tmp_path):
    frames = [np.full((32, 32), 7 * n, np.uint8) for n in range(3)]
    result = encode_frames(frames, tmp_path / "a.dcm")
    assert (result.series, result.frames) == (None, 3)
    with pytest.raises(InputError, match="does not say where"):
        decode(tmp_path / "a.dcm", tmp_path / "ct")


def test_a_floor_holds_for_what_is_shown(hu, tmp_path):
    result = encode(Volume(hu), tmp_path / "a.dcm", window=SOFT, min_ssim=0.93)
    assert result.ssim.min >= 0.93


def test_only_videos_are_overwritten(series, tmp_path):
    settings = EncodeSettings.of(**FAST)
    encode(series, tmp_path / "a.dcm", settings)
    encode(series, tmp_path / "a.dcm", settings, overwrite=True)
    foreign = tmp_path / "b.dcm"
    foreign.write_bytes(next(series.iterdir()).read_bytes())
    before = foreign.read_bytes()
    with pytest.raises(InputError, match="is a DICOM file"):
        encode(series, foreign, settings, overwrite=True)
    assert foreign.read_bytes() == before


def test_no_identity_is_in_any_byte(hu, tmp_path, capfd):
    from test_privacy import IDENTIFYING, assert_clean

    folder = tilted_series(tmp_path / f"{CANARY}^DOE", hu, **IDENTIFYING)
    out = tmp_path / "out"
    out.mkdir()
    done = run_command(capfd, "encode", folder, "-o", out / "a.dcm", "--json")
    assert done.status == 0
    assert_clean((done.out + done.err).encode())
    for path in out.iterdir():
        assert_clean(path.read_bytes())
        assert b"1.2.826.0.1.3680043.8.498.2" not in path.read_bytes()


def test_the_payload_is_the_very_stream(series, tmp_path):
    """The object's packets are those that the same settings write to MP4, but for the range."""
    encode(series, tmp_path / "a.dcm", **FAST)
    with av.open(io.BytesIO(payload_of(tmp_path / "a.dcm"))) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.size]
    record = json.loads((tmp_path / "a.json").read_text())
    assert sorted(sizes)[:-1] == sorted(one["bytes"] for one in record["slices"])[:-1]
    assert Path(tmp_path / "a.dcm").stat().st_size == record["bytes"]
