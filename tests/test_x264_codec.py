"""x264 as a codec: roles, efforts, parameters and sessions."""

import logging
import os
import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from video_files import ct_volume, windowed
from x264_sessions import run

from ssimrdo import objective
from ssimrdo.codecs.base import (
    ConstantQuality,
    ConstantQuantizer,
    MeanBitrate,
    Steering,
    StreamSettings,
    is_codec,
    rate_control,
)
from ssimrdo.codecs.roles import Role
from ssimrdo.codecs.x264.choices import PRESETS
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x264.effort import EFFORTS
from ssimrdo.codecs.x264.options import names_set
from ssimrdo.encoding.passes import PassSettings, Target, run_passes
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat, FrameSource

FRAME_TYPES = {Role.KEY: "IDR", Role.FORWARD: "P", Role.REFERENCE: "BREF", Role.DISPOSABLE: "B"}
STOCK = shutil.which("x264") or ""
SMALL = FrameFormat(16, 16)


def stream(rate=None, shown=SMALL, **more):
    return StreamSettings(shown, rate or ConstantQuality(23.0), **{"steered": True, **more})


def options_of(codec, settings=None):
    """Return the options that x264 is opened with; the last of a name counts."""
    return dict(codec.parameters(settings or stream()).options)


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


TEXTURE = moving_texture(24)
TEXTURE_AT_30 = stream(ConstantQuality(30), FrameFormat(96, 128), threads=1)


def test_it_has_what_a_codec_has():
    assert is_codec(X264())
    assert not is_codec("x264")
    assert not is_codec(X264)


@pytest.mark.parametrize("rate", [ConstantQuality(40.0), ConstantQuantizer(40)])
def test_groups_of_pictures_keep_their_pattern_across_keyframes(rate, caplog):
    """x264 changes no type that is asked for, but the last frame's."""
    codec = X264("fast")
    planned = [codec.role(index) for index in range(504)]
    packets, _ = run(codec, stream(rate), [np.full((16, 16), 100, np.uint8)] * 504)
    assert [packets[index].frame_type for index in range(503)] == [
        FRAME_TYPES[role] for role in planned[:503]
    ]
    assert [index for index in range(504) if packets[index].frame_type == "IDR"] == [0, 250, 500]
    assert planned[:6] == [
        *(Role.KEY, Role.DISPOSABLE, Role.REFERENCE, Role.DISPOSABLE, Role.FORWARD),
        Role.DISPOSABLE,
    ]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def roles(*params):
    codec = X264(params=params)
    return [codec.role(index) for index in range(9)]


def test_keyframes_come_as_the_user_asks():
    four = [Role.KEY, Role.DISPOSABLE, Role.REFERENCE, Role.FORWARD] * 2 + [Role.KEY]
    assert roles(("keyint", "4")) == four
    assert roles(("keyint", "1")) == [Role.KEY] * 9
    assert roles(("keyint", "infinite")) == roles()
    assert roles(("keyint", "4"), ("keyint", "infinite")) == roles()


def test_the_last_of_two_keyframe_intervals_holds():
    codec = X264(params=(("keyint", "9"), ("keyint", "4")))
    packets, recorded = run(codec, TEXTURE_AT_30, TEXTURE)
    assert "keyint=4" in recorded
    assert [pts for pts, packet in packets.items() if packet.keyframe] == [0, 4, 8, 12, 16, 20]
    # x264 makes a P-frame of the last one whatever is asked for.
    found = [packets[index].frame_type for index in range(len(TEXTURE) - 1)]
    assert found == [FRAME_TYPES[codec.role(index)] for index in range(len(TEXTURE) - 1)]
    alone, _ = run(X264(params=(("keyint", "4"),)), TEXTURE_AT_30, TEXTURE)
    assert [packet.data for packet in packets.values()] == [one.data for one in alone.values()]


def test_open_groups_of_pictures_open():
    codec = X264(params=(("open-gop", "1"), ("keyint", "8")))
    packets, recorded = run(codec, TEXTURE_AT_30, TEXTURE)
    assert {"open_gop=1", "keyint=8"} <= recorded
    keyframes = [packet for packet in packets.values() if packet.keyframe]
    assert [packet.frame_type for packet in keyframes] == ["IDR", "I", "I"]
    # The B-frames shown before such a keyframe are decoded after it.
    order = sorted(packets.values(), key=lambda packet: packet.dts)
    after = order[order.index(keyframes[1]) + 1]
    assert after.pts < keyframes[1].pts


@pytest.mark.parametrize(
    "param",
    [
        *(("bframes", "1"), ("b-adapt", "2"), ("b_pyramid", "0"), ("scenecut", "40")),
        *(("open-gop", "1"), ("no-open-gop", "1"), ("intra-refresh", "1"), ("min-keyint", "1")),
        ("bluray-compat", "1"),
    ],
)
def test_types_are_left_to_x264_where_the_user_asks_for_them(param):
    assert roles(param) == [None] * 9
    codec = X264(params=(param,))
    assert codec.parameters(stream()).variants == ()
    given = options_of(codec)
    # x264 decides on types by itself again.
    unset = {"b-adapt", "bframes", "b-pyramid", "scenecut"} - {param[0].replace("_", "-")}
    assert not unset & given.keys()
    assert given["dct-decimate"] == "0"


def test_presets_leave_types_to_x264():
    assert X264(preset="slow").role(0) is None


def test_rungs_with_exhaustive_search_keep_it_in_all_frames():
    """x264 does not go back to it, nor to a wider range, once a frame has done without."""
    for effort in EFFORTS.values():
        if dict(effort.options).get("me") in ("esa", "tesa"):
            changed = {name for name, _ in (*effort.referenced, *effort.disposable)}
            assert not changed & {"me", "merange"}


@pytest.mark.parametrize(
    ("alias", "name"),
    [("frameref", "ref"), ("subq", "subme"), ("analyse", "partitions"), ("me-range", "merange")],
)
def test_what_the_user_sets_holds_in_all_frames(alias, name):
    plain = X264("default").parameters(stream()).variants
    assert any(key == "ref" for key, _ in plain[0])
    for spelled in (alias, alias.replace("-", "_"), name):
        variants = X264("default", params=((spelled, "4"),)).parameters(stream()).variants
        assert all(key != name for variant in variants for key, _ in variant)


def test_an_alias_is_the_parameter_itself():
    for alias, name in (("analyse", "partitions"), ("me-range", "merange"), ("subq", "subme")):
        assert names_set(((alias, "1"), ("no_cabac", "1"))) == {name, "cabac"}
    assert names_set((("frameref", "2"), ("ref", "3"))) == {"ref"}


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        ("{crf}", "crf"),
        ("{qp}", "qp qp-constant"),
        ("{bitrate_kbps}", "bitrate pass stats"),
        ("{fps}", "fps force-cfr timebase"),
        ("{bit_depth}", "csp input-csp output-csp input-depth output-depth bitdepth"),
        ("{threads}", "threads"),
        ("{preset}", "preset"),
        ("{verbose}", "log log-level"),
        ("{rdo}", "qpfile"),
        ("the series", "width height crop-rect"),
        ("the series' pixel spacing", "sar"),
        ("the output", "dump-yuv"),
        ("the output's full range", "fullrange range"),
        ("the output's suffix", "annexb repeat-headers global-header"),
        ("the output's profile", "avcintra-class avcintra-flavor"),
    ],
)
def test_what_something_else_sets_is_refused(owner, names):
    for name in names.split():
        for spelled in (name, name.replace("-", "_"), f"no-{name}", f"no{name}"):
            with pytest.raises(InputError) as caught:
                X264(params=(("bframes", "1"), (spelled, "1")))
            assert caught.value.field == "x264_params"
            assert str(caught.value).startswith(f"x264_params: {spelled} is not set here: ")
            assert caught.value.remedy == f"it is set by {owner}"


def test_the_users_parameters_come_last():
    codec = X264(params=(("psy", "1"), ("trellis", "1"), ("aq-mode", "2")))
    assert {"psy": "1", "trellis": "1", "aq-mode": "2"}.items() <= options_of(codec).items()
    assert codec.parameters(stream()).options[-3:] == codec.params


def test_steering_needs_aq_and_takes_no_psychovisual_options():
    steered = options_of(X264("fast"))
    assert (steered["psy"], steered["aq-mode"]) == ("0", "1")
    assert 0 < float(steered["aq-strength"]) < 1e-3
    alone = options_of(X264(preset="medium"), stream(steered=False))
    assert not {"psy", "aq-mode", "aq-strength", "qcomp"} & alone.keys()


@pytest.mark.parametrize("width", [160, 256])
def test_steered_encodes_keep_off_code_that_reads_uninitialised_memory(width, caplog):
    """MB-tree's AVX-512 code does in rows that do not fill its 16 macroblocks."""

    def has_avx512(steered):
        caplog.clear()
        settings = stream(shown=FrameFormat(32, width), steered=steered)
        with caplog.at_level(logging.INFO, "ssimrdo"), X264(preset="medium").open(settings):
            pass
        lines = [line for line in caplog.messages if "cpu capabilities" in line]
        assert len(lines) == 1
        return "AVX512" in lines[0]

    assert has_avx512(True) == (has_avx512(False) and width == 256)


@pytest.mark.parametrize("steered", [True, False])
def test_steered_encodes_ask_to_be_repeatable(steered):
    parameters = X264(preset="medium").parameters(stream(steered=steered))
    assert parameters.repeatable == steered


@pytest.mark.parametrize("raw", [True, False])
def test_raw_streams_repeat_their_parameter_sets(raw):
    assert X264().parameters(stream(raw=raw)).repeat_headers is raw


def test_rates():
    def options(rate, steered=True):
        return options_of(X264(preset="fast"), stream(rate, steered=steered))

    assert options(ConstantQuality(21.5))["crf"] == "21.5"
    assert options(MeanBitrate(150.4))["bitrate"] == "150"
    assert options(ConstantQuantizer(27), steered=False)["qp"] == "27"
    # x264 ignores offsets at a constant QP, so that is asked for as the CRF that gives it.
    steered = options(ConstantQuantizer(27))
    assert {"crf": "27", "qcomp": "0.9999", "mbtree": "0"}.items() <= steered.items()
    assert "qp" not in steered
    codec = X264()
    assert [codec.passes(rate_control(mode, 25)) for mode in ("crf", "qp", "bitrate")] == [1, 1, 2]


@pytest.mark.parametrize("preset", PRESETS)
def test_only_placebo_keeps_its_full_first_pass(preset, tmp_path):
    codec = X264(preset=preset)

    def parameters(number):
        two = {"pass_number": number, "passes": 2, "stats": tmp_path / "stats"}
        return codec.parameters(stream(MeanBitrate(100), **two))

    first, second = parameters(1), parameters(2)
    assert first.fast_first_pass is (preset != "placebo")
    assert second.fast_first_pass is False
    assert (dict(first.options)["pass"], dict(second.options)["pass"]) == ("1", "2")
    assert dict(first.options)["stats"] == str(tmp_path / "stats")
    assert not codec.parameters(stream()).fast_first_pass


@pytest.mark.skipif(not STOCK, reason="the x264 program is not installed")
@pytest.mark.parametrize("preset", ["placebo", "medium"])
def test_two_passes_are_those_of_the_stock_program(preset, tmp_path):
    """Placebo is the one preset that keeps its full first pass."""
    frames = TEXTURE[:12]
    raw = tmp_path / "frames.yuv"
    chroma = np.full(96 * 128 // 2, 128, np.uint8).tobytes()
    raw.write_bytes(b"".join(luma.tobytes() + chroma for luma in frames))
    stock = tmp_path / "stock.h264"
    for number in "12":
        subprocess.run(
            [
                *(STOCK, "--quiet", "--preset", preset, "--bitrate", "400", "--threads", "1"),
                *("--pass", number, "--stats", str(tmp_path / "stats"), "--demuxer", "raw"),
                *("--input-res", "128x96", "--fps", "25"),
                *("--input-range", "pc", "--range", "pc", "-o", str(stock), str(raw)),
            ],
            check=True,
            capture_output=True,
        )
    ours = tmp_path / "ours.h264"
    source = FrameSource(TEXTURE_AT_30.format, len(frames), lambda: frames)
    wanted = PassSettings(X264(preset=preset), MeanBitrate(400), threads=1)
    run_passes(source, wanted, Target("h264", ours))
    assert ours.read_bytes() == stock.read_bytes()


@pytest.mark.parametrize(
    ("codec", "given", "cores", "rows", "threads"),
    [
        (X264(), 0, 2, 512, "6"),
        (X264("fast"), 0, 4, 512, "12"),
        (X264(), 0, 64, 512, "16"),
        (X264(), 0, 64, 16, "1"),
        (X264(), 5, 2, 512, "5"),
        (X264(preset="fast"), 0, 2, 512, "auto"),
        (X264(preset="fast"), 3, 2, 512, "3"),
    ],
)
def test_threads(codec, given, cores, rows, threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    settings = stream(shown=FrameFormat(rows, 16), threads=given)
    assert options_of(codec, settings)["threads"] == threads
    assert f"threads={threads}" in codec.describe(settings).split()


def test_the_shape_of_samples_and_the_frame_rate_reach_x264():
    shown = FrameFormat(32, 48, 10, Fraction(30000, 1001), Fraction(3, 2))
    parameters = X264().parameters(stream(shown=shown))
    assert (parameters.width, parameters.height, parameters.bit_depth) == (48, 32, 10)
    assert dict(parameters.options)["fps"] == "30000/1001"
    assert dict(parameters.options)["sar"] == "3:2"
    assert "sar" not in options_of(X264())


def test_scales():
    codec = X264()
    for bit_depth, low in ((8, 1), (10, 0.01)):
        scale = codec.scale("crf", bit_depth)
        assert (scale.low, scale.high, scale.step, scale.default) == (low, 51, 0.01, 23)
        for good in (low, 23, 51):
            scale.check(good, field="crf")
        for bad in (0, low / 2, 51.01, -1, float("nan"), float("inf")):
            with pytest.raises(InputError) as caught:
                scale.check(bad, field="crf")
            assert caught.value.field == "crf"
    qp = codec.scale("qp", 8)
    for bad in (0, 52, 2.5, float("nan"), "27", True):
        with pytest.raises(InputError):
            qp.check(bad, field="qp")


@pytest.mark.parametrize("bad", [27.0, 27.5, "27", True, None])
def test_a_constant_quantizer_is_a_whole_number(bad):
    with pytest.raises(InputError) as caught:
        ConstantQuantizer(bad)
    assert caught.value.field == "qp"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"effort": "fast", "preset": "slow"}, "preset"),
        ({"effort": "slow"}, "effort"),
        ({"effort": 5}, "effort"),
        ({"preset": "fastest"}, "preset"),
        ({"preset": ["slow"]}, "preset"),
        ({"preset": "slow", "tune": 5}, "tune"),
        ({"strength": -0.1}, "rdo_strength"),
        ({"strength": 4.1}, "rdo_strength"),
        ({"strength": "0.5"}, "rdo_strength"),
        ({"strength": True}, "rdo_strength"),
        ({"strength": float("nan")}, "rdo_strength"),
        ({"params": "bframes=1"}, "x264_params"),
        ({"params": (("bframes", 1),)}, "x264_params"),
        ({"params": ("bframes",)}, "x264_params"),
        ({"params": None}, "x264_params"),
        ({"params": (("crf", "20"),)}, "x264_params"),
        ({"params": (("bframes", "\0"),)}, "x264_params"),
    ],
)
def test_wrong_options_are_refused_by_name(arguments, field):
    with pytest.raises(InputError) as caught:
        X264(**arguments)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


def test_a_refusal_by_x264_is_about_the_users_parameters():
    with pytest.raises(InputError, match="unknown x264 tuning 'ct'"):
        X264(tune="ct").open(stream())
    with pytest.raises(InputError, match=r"^x264_params: x264 has no parameter 'bogus'"):
        X264(params=(("bogus", "1"),)).open(stream())
    with pytest.raises(InputError, match=r"^unknown x264 tuning 'ct'"):
        X264(tune="ct", params=(("bframes", "1"),)).open(stream())
    with pytest.raises(InputError) as caught:
        X264(params=(("zones", "0,4,bogus"),)).open(stream())
    assert caught.value.field == "x264_params"


def test_settings_are_what_x264_records():
    with X264("fast").open(stream(ConstantQuality(31.5))) as session:
        assert {"crf=31.5", "me=umh", "psy=0"} <= set(session.settings.split())
        assert session.headers.startswith(b"\0\0\0\1\x67")


def test_packets_tell_their_types_and_what_a_decoder_shows():
    frames = [windowed(hu).astype(np.uint8) for hu in ct_volume(5, 32, 64)]
    packets, _ = run(X264("fast"), stream(shown=FrameFormat(32, 64)), frames)
    assert [packets[index].frame_type for index in range(5)] == ["IDR", "B", "BREF", "B", "P"]
    assert [packets[index].keyframe for index in range(5)] == [True, *[False] * 4]
    for index, luma in enumerate(frames):
        shown = packets[index].reconstruction
        assert shown.shape == luma.shape
        assert np.abs(shown.astype(int) - luma).mean() < 10


def test_strength_and_shift_steer_the_session():
    frames = [windowed(ct_volume(1, 48, 64)[0]).astype(np.uint8)]
    settings = stream(ConstantQuantizer(30), FrameFormat(48, 64), threads=1)

    def size(strength, shift=0.0):
        ratio = objective.SSIM.lagrange_ratio(frames[0], settings.format)
        codec = X264("fast", strength=strength)
        with codec.open(settings) as session:
            packets = list(session.encode(frames[0], Steering(ratio, Role.KEY, shift), 0))
            packets += session.flush()
        return len(packets[0].data)

    assert size(0.0) != size(0.7)
    assert size(0.7, -6.0) > 1.3 * size(0.7)
