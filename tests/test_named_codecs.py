"""``--codec``: one way for all codecs, from the option to what decodes again."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from functools import partial

import av
import numpy as np
import pytest
from dicom_files import CANARY, write_series
from messages import others
from video_files import (
    SOFT_TISSUE,
    ct_volume,
    frames_of,
    plane,
    run_command,
    windowed,
)

from ssimrdo import InputError, decode, encode
from ssimrdo.batch import BatchSettings
from ssimrdo.batch.manifest import read_manifest
from ssimrdo.codecs.base import ConstantQuality, is_codec
from ssimrdo.codecs.named import NAMED, codec_of, name_of
from ssimrdo.codecs.names import CODEC, CODECS
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.comparison import CompareSettings
from ssimrdo.comparison.encoders import make_contenders
from ssimrdo.decoding.view import view
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.metrics.tissue import Area
from ssimrdo.video.mux import suffixes_of

SLICES, ROWS, COLUMNS = 6, 71, 97
WINDOW = "{:g}/{:g}".format(*SOFT_TISSUE)
FFMPEG = {"h264": "h264", "hevc": "hevc", "av1": "av1"}
SUFFIXES = {
    "h264": (".mp4", ".mkv", ".h264"),
    "hevc": (".mp4", ".mkv", ".hevc", ".h265"),
    "av1": (".mp4", ".mkv", ".ivf", ".obu"),
}
LACKING = {name for name in CODECS if NAMED[name].lacking()}
needs_hevc = pytest.mark.skipif("hevc" in LACKING, reason="built without libx265")


def where_installed(*values):
    """Return a case of a test, which is skipped where its codec is not installed."""
    missing = LACKING & set(values)
    marks = pytest.mark.skip(reason=f"{missing} cannot be encoded here") if missing else ()
    return pytest.param(*values, marks=marks)


every_codec = pytest.mark.parametrize("codec", list(map(where_installed, CODECS)))


@pytest.fixture(scope="module")
def hu():
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def series(hu, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, hu)
    return folder


@pytest.fixture
def command(capfd):
    return partial(run_command, capfd)


def probed(path, entry):
    words = ("ffprobe", "-v", "error", "-of", "csv=p=0", "-show_entries", f"stream={entry}", path)
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@needs_hevc
def test_names_stand_for_what_ffmpeg_calls_so():
    assert tuple(NAMED) == CODECS == tuple(FFMPEG)
    assert CODEC == "h264"
    for name in CODECS:
        codec = codec_of(name, {}, steered=NAMED[name].steerable)
        assert is_codec(codec)
        assert name_of(codec) == name
        assert suffixes_of(codec) == SUFFIXES[name]
    assert name_of(X264(tune="ssim", preset="slow")) is None


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [where_installed(codec, suffix) for codec in CODECS for suffix in SUFFIXES[codec]],
)
def test_the_command_encodes_and_ffmpeg_decodes(codec, suffix, series, hu, tmp_path):
    output = tmp_path / f"out{suffix}"
    options = ("--codec", codec, "--crf", "30", "--window", WINDOW, "--json")
    # In a process of its own: SVT-AV1 takes how much it says from the first that opens it.
    done = subprocess.run(
        (sys.executable, "-m", "ssimrdo", "encode", series, "-o", output, *options),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, others(done.stderr)) == (0, "")
    record = json.loads(done.stdout)
    shown = [plane(frame)[:ROWS, :COLUMNS] for frame in frames_of(output)]
    psnr = [
        10 * np.log10(255**2 / np.square(luma - windowed(source).astype(float)).mean())
        for luma, source in zip(shown, hu, strict=True)
    ]
    assert record["psnr"]["mean"] == pytest.approx(np.mean(psnr), abs=1e-3)
    sidecar = json.loads(output.with_suffix(".json").read_text())
    assert sidecar["settings"].get("codec", "h264") == codec
    assert sidecar["codec"]["name"] == {"h264": "x264", "hevc": "x265", "av1": "svtav1"}[codec]
    assert any(character.isdigit() for character in sidecar["codec"]["version"])
    with av.open(str(output)) as video:
        stream = video.streams.video[0]
        assert FFMPEG[codec] in (stream.codec_context.codec.canonical_name, stream.codec.name)


@needs_hevc
def test_hevc_in_mp4_is_tagged_as_all_players_want_it(series, tmp_path):
    output = tmp_path / "out.mp4"
    encode(series, output, codec="hevc", crf=30)
    assert probed(output, "codec_tag_string") == "hvc1"


@pytest.mark.parametrize("suffix", SUFFIXES["av1"])
def test_av1_says_what_its_samples_are_as_chromium_asks_for(suffix, series, tmp_path):
    output = tmp_path / f"out{suffix}"
    encode(series, output, codec="av1", crf=30)
    entries = "color_range,color_space,color_transfer,color_primaries"
    assert probed(output, entries) == "pc,bt709,iec61966-2-1,bt709"


@every_codec
@pytest.mark.parametrize("bit_depth", [8, 10])
def test_slices_come_back_with_their_places(codec, bit_depth, series, tmp_path):
    output = tmp_path / "out.mkv"
    encode(series, output, codec=codec, crf=20, window=WINDOW, bit_depth=bit_depth)
    result = decode(output, tmp_path / "ct", template=series)
    assert (result.codec, result.slices) == (FFMPEG[codec], SLICES)
    assert result.tissue.errors[Area.BODY].rmse < SOFT_TISSUE[1] / 20
    again = view(output, tmp_path / "narrow.mkv", codec=codec, window="40/200", crf=30)
    assert again.frames == SLICES


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        *(where_installed(codec, suffix) for codec in CODECS for suffix in SUFFIXES[codec]),
        *(where_installed(codec, ".dcm") for codec in ("h264", "hevc")),
    ],
)
def test_every_container_is_decoded_viewed_and_measured(codec, suffix, command, hu, tmp_path):
    write_series(tmp_path / "in", hu, PixelSpacing=[1.0, 1.0])
    output = tmp_path / f"out{suffix}"
    result = encode(tmp_path / "in", output, codec=codec, crf=20, window=WINDOW)
    found = decode(output, tmp_path / "ct", template=tmp_path / "in")
    assert (found.codec, found.slices) == (FFMPEG[codec], SLICES)
    again = view(output, tmp_path / "narrow.mkv", window="40/200", crf=30)
    assert again.frames == SLICES
    done = command("metrics", tmp_path / "in", output, "--json", "--metric", "ssim")
    assert done.status == 0
    measured = json.loads(done.out)["summary"]["ssim"]["mean"]
    assert measured == pytest.approx(result.ssim.mean, abs=1e-3)


@every_codec
def test_a_quality_is_kept(codec, series, tmp_path):
    result = encode(series, tmp_path / "out.mkv", codec=codec, min_ssim=0.93, window=WINDOW)
    assert result.ssim.worst >= 0.93
    assert result.ssim.worst < 0.97


@needs_hevc
def test_a_crf_means_about_the_same_quality_in_all(phantom_folder, tmp_path):
    def ssim(codec):
        output = tmp_path / f"{codec}.mkv"
        return encode(phantom_folder, output, codec=codec, crf=28).ssim.mean

    of_h264, *others_ = map(ssim, CODECS)
    assert others_ == pytest.approx([of_h264] * len(others_), abs=0.02)


@pytest.mark.parametrize(
    ("options", "field", "remedy"),
    [
        ({"codec": "hevc", "x264_params": "ref=1"}, "x264_params", "take {codec} h264"),
        ({"codec": "av1", "x264_params": "ref=1"}, "x264_params", "take {codec} h264"),
        ({"codec": "av1", "preset": "medium"}, "preset", "use one of 0, 1"),
        ({"codec": "h264", "preset": "6"}, "preset", "use one of ultrafast"),
        pytest.param(
            *({"codec": "hevc", "bit_depth": 12}, "bit_depth", "use one of 8, 10"), marks=needs_hevc
        ),
        ({"codec": "hevc", "even": "no"}, "even", "take {codec} h264"),
        ({"codec": "h264", "x265_params": "ref=1"}, "x265_params", "take {codec} hevc"),
        ({"codec": "av1", "bit_depth": 12}, "bit_depth", "use one of 8, 10"),
        ({"codec": "av1", "crf": 50}, "crf", "use 8 to 42"),
        ({"codec": "vvc"}, "codec", "use one of h264, hevc, av1"),
    ],
)
def test_what_a_codec_lacks_is_refused_with_the_choices(options, field, remedy):
    with pytest.raises(InputError) as caught:
        EncodeSettings.of(**options)
    assert caught.value.field == field
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("codec", "name", "takers"),
    [
        where_installed("hevc", "a.h264", "h264"),
        ("av1", "a.hevc", "hevc"),
        ("h264", "a.obu", "av1"),
        ("av1", "a.dcm", "h264 or hevc"),
        ("av1", "a.webm", ""),
    ],
)
def test_containers_are_the_codecs(codec, name, takers, series, tmp_path):
    with pytest.raises(InputError, match=rf"use one of {SUFFIXES[codec][0]}, ") as caught:
        encode(series, tmp_path / name, codec=codec)
    assert all(suffix in caught.value.remedy for suffix in SUFFIXES[codec])
    assert caught.value.remedy.partition(", or take {codec} ")[2] == takers
    with pytest.raises(InputError, match=r"does not go into .*use one of") as caught:
        BatchSettings(EncodeSettings.of(codec=codec), suffix=name[1:])
    assert caught.value.remedy.partition(", or take {codec} ")[2] == takers


def test_a_codec_that_is_not_installed_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setattr("ssimrdo.codecs.named.has_encoder", lambda _: False)
    with pytest.raises(InputError, match=r"av1 cannot be encoded: .* no libsvtav1") as caught:
        EncodeSettings.of(codec="av1")
    assert (caught.value.field, "install" in caught.value.remedy) == ("codec", True)


@needs_hevc
def test_a_manifest_changes_the_codec_of_a_line(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("series,codec,crf,preset\na,,,\nb,hevc,,\nc,av1,30,8\nd,h264,,\n")
    defaults = EncodeSettings.of(preset="slow", x264_params="ref=2", crf=25)
    found = [one.settings for one in read_manifest(path, defaults, suffix=".mkv", skip_bad=False)]
    assert [name_of(one.codec) for one in found] == ["h264", "hevc", "av1", "h264"]
    assert [one.rate for one in found] == [ConstantQuality(crf) for crf in (25, 25, 30, 25)]
    assert found[0] == found[3] == defaults
    assert found[1] == EncodeSettings.of(codec="hevc", crf=25)
    assert found[2].codec.options()["preset"] == 8
    again = EncodeSettings.of(codec="av1").changed({"codec": "h264"})
    assert again == EncodeSettings.of()
    with pytest.raises(InputError, match=r"line 3, column codec: .* does not go into '\.h264'"):
        read_manifest(path, defaults, suffix=".h264", skip_bad=False)


@needs_hevc
def test_a_comparison_tests_any_codec():
    settings = CompareSettings(tests=("off", "off,codec=av1,preset=8", "off,codec=h264"))
    _, *found = make_contenders(CompareSettings(tests=settings.tested[1:], codec="hevc"))
    assert [name_of(one.codec) for one in found] == ["av1", "h264"]
    assert [one.points for one in found] == [(18, 23, 28, 33)] * 2
    for codec, objective in (("h264", "balanced"), ("hevc", "balanced"), ("av1", None)):
        _, usual = make_contenders(CompareSettings(codec=codec))
        assert name_of(usual.codec) == codec
        assert (usual.objective and usual.objective.name) == objective
    _, only = make_contenders(CompareSettings(tests=("off",), codec="hevc"))
    assert (name_of(only.codec), only.label) == ("hevc", "ssimrdo hevc off preset=medium")
    with pytest.raises(InputError, match=r"'off,codec=av1,ref=1': AV1 takes no ref"):
        make_contenders(CompareSettings(tests=("off,codec=av1,ref=1",)))
    with pytest.raises(InputError, match="'off,codec=vvc': codec: 'vvc' is unknown"):
        make_contenders(CompareSettings(tests=("off,codec=vvc",)))
    with pytest.raises(InputError, match="codec: 'vvc' is unknown"):
        CompareSettings(codec="vvc")


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [where_installed(codec, suffix) for codec in CODECS for suffix in SUFFIXES[codec]],
)
def test_a_batch_goes_on_where_it_was(codec, suffix, command, series, tmp_path):
    out = tmp_path / "out"

    def batch(*more):
        done = command(
            *("batch", series, "-o", out, "--codec", codec, "--suffix", suffix),
            *("--crf", "30", "--window", "40/400", "--json", *more),
        )
        assert done.status == 0
        return json.loads(done.out)["totals"]

    first, again = batch(), batch()
    assert (first["encoded"], again["encoded"], again["done_before"]) == (1, 0, 1)
    (name,) = [path.name for path in out.iterdir() if path.suffix == suffix]
    assert "1 series encoded" in command("batch", "status", out).out
    other = "av1" if codec == "h264" else "h264"
    assert batch("--codec", other, "--suffix", ".mkv")["encoded"] == 1
    status = command("batch", "status", out).out
    if suffix == ".mkv":
        assert "not current" not in status
        return
    now = name.removesuffix(suffix) + ".mkv"
    assert f"{name}: not current: its series goes into {now} now" in status
    assert command("batch", "prune", out, "--yes").status == 0
    assert sorted(path.name for path in out.iterdir() if name.split(".")[0] in path.name) == [
        now.removesuffix(".mkv") + ".json",
        now,
    ]


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [where_installed(codec, suffix) for codec in CODECS for suffix in SUFFIXES[codec]],
)
def test_no_identity_gets_into_any_file(codec, suffix, command, tmp_path):
    keywords = ("PatientName", "PatientID", "StudyDescription", "InstitutionName", "StationName")
    folder = tmp_path / f"{CANARY}^DOE"
    write_series(folder, ct_volume(3, ROWS, COLUMNS), **dict.fromkeys(keywords, CANARY))
    output = tmp_path / "out" / f"a{suffix}"
    output.parent.mkdir()
    done = command("encode", folder, "-o", output, "--codec", codec, "-v", "--json")
    assert done.status == 0
    files = [path.read_bytes().upper() for path in output.parent.iterdir()]
    for data in (*files, done.out.encode().upper(), done.err.encode().upper()):
        for encoding in ("ascii", "utf-16-le", "utf-16-be"):
            assert CANARY.encode(encoding) not in data


@every_codec
def test_the_same_options_give_the_same_bytes(codec, series, tmp_path):
    found = set()
    for name in ("a", "b"):
        encode(series, tmp_path / f"{name}.mkv", codec=codec, crf=25, threads=1)
        with av.open(str(tmp_path / f"{name}.mkv")) as video:
            found.add(tuple(map(bytes, video.demux(video=0))))
    assert len(found) == 1


@every_codec
def test_slices_of_other_sides_and_shapes_are_shown_as_they_are(codec, tmp_path):
    hu = ct_volume(3, 65, 101)
    write_series(tmp_path / "ct", hu, PixelSpacing=[1.5, 1.0])
    output = tmp_path / "a.mkv"
    encode(tmp_path / "ct", output, codec=codec, crf=20, window=WINDOW, fps="12.5")
    with av.open(str(output)) as video:
        stream = video.streams.video[0]
        # AV1 in Matroska states none, and FFmpeg guesses none of three slices.
        assert stream.average_rate in (Fraction(25, 2), None if codec == "av1" else 0)
        assert (stream.width, stream.height) == (102, 66)
        assert stream.codec_context.color_range == 2
        if codec != "av1":
            assert stream.sample_aspect_ratio == Fraction(2, 3)
