"""Options and settings: each option once, types checked where settings are made, JSON unchanged."""

import dataclasses
import json
import math
from fractions import Fraction
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssimrdo import EncodeSettings, Floor, InputError, Window, objective
from ssimrdo.codecs.base import ConstantQuality, ConstantQuantizer, MeanBitrate
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.encoding.options import BY_NAME, OPTIONS, OVER, RATES
from ssimrdo.metrics import get, names

USUAL = {
    "crf": 23.0,
    "qp": None,
    "bitrate_kbps": None,
    "min_ssim": None,
    "target": None,
    "effort": "default",
    "preset": None,
    "rdo": "balanced",
    "rdo_strength": 0.72,
    "even": True,
    "window": None,
    "bit_depth": 8,
    "fps": "25",
    "threads": 0,
    "x264_params": "",
    "padding": "darkest",
}
"""What is recorded for settings where nothing was given."""


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {}),
        ({"crf": 31.5}, {"crf": 31.5}),
        (
            {"qp": 27, "rdo": "off"},
            {"crf": None, "qp": 27, "effort": None, "preset": "medium", "rdo": "off"},
        ),
        (
            {"bitrate_kbps": 150.4, "preset": "fast"},
            {"crf": None, "bitrate_kbps": 150.4, "effort": None, "preset": "fast"},
        ),
        ({"min_ssim": 0.95}, {"crf": None, "min_ssim": 0.95, "target": "worst"}),
        ({"over": "mean"}, {"crf": None, "min_ssim": 0.95, "target": "mean"}),
        (
            {"min": "ssim=0.9", "over": "p5", "bit_depth": 10},
            {"crf": None, "min_ssim": 0.9, "target": "p5", "bit_depth": 10},
        ),
        ({"effort": "max", "threads": 4}, {"effort": "max", "threads": 4}),
        ({"rdo": "off"}, {"effort": None, "preset": "medium", "rdo": "off"}),
        (
            {"rdo_strength": 1.5, "window": "lung"},
            {"rdo_strength": 1.5, "window": {"center": -600, "width": 1500, "function": "LINEAR"}},
        ),
        ({"fps": "30000/1001"}, {"fps": "30000/1001"}),
        ({"x264_params": "bframes=1:no-cabac"}, {"x264_params": "bframes=1:no-cabac=1"}),
        (
            {"window": Window(40, 80, "SIGMOID"), "fps": 12.5},
            {"window": {"center": 40, "width": 80, "function": "SIGMOID"}, "fps": "25/2"},
        ),
        # Keys that are new stand only where something new is asked for.
        ({"min": "psnr=41.25"}, {"crf": None, "target": "worst", "min": "psnr=41.25"}),
        (
            {"min": ("ms_ssim", 0.98765432101)},
            {"crf": None, "target": "worst", "min": "ms_ssim=0.98765432101"},
        ),
        ({"measure": "ms-ssim"}, {"measure": ["ms_ssim"]}),
        ({"strict": "yes"}, {"strict": True}),
        ({"padding": "air"}, {"padding": "air"}),
        (
            {"codec": X264(preset="slow", tune="ssim")},
            {"effort": None, "preset": "slow", "codec": "x264 slow --tune ssim"},
        ),
        ({"codec": "h264"}, {}),
    ],
)
def test_settings_are_recorded_as_before(options, changes):
    record = EncodeSettings.of(**options).as_dict()
    assert record == {**USUAL, **changes}
    assert json.loads(json.dumps(record)) == record


EXAMPLES: dict[str, list] = {
    "codec": ["hevc", "av1", X264(preset="slow", tune="ssim")],
    "crf": ["20", 20, 31.5],
    "qp": ["30", 30],
    "bitrate_kbps": ["1500", 150.4],
    "min_ssim": ["0.95", 0.9],
    "min": ["ssim=0.95", "psnr=40", ("weighted_ssim", 0.9)],
    "over": ["mean", "p5"],
    "effort": ["fast", "max"],
    "preset": ["slow"],
    "rdo": ["balanced", "ssim", "edge", "body", "off"],
    "rdo_strength": ["0.5", 1],
    "even": ["no", "yes", False],
    "window": ["lung", "40/400", Window(1, 2)],
    "bit_depth": ["10", 10, 8],
    "fps": ["12.5", "30000/1001", 25, Fraction(25, 2)],
    "threads": ["4", 0],
    "x264_params": ["bframes=1:no-cabac", {"bframes": 1}, (("bframes", "1"),)],
    "x265_params": [],
    "protect": ["lung,bone", "none", (Window(1, 2), "40/80")],
    "measure": ["ms_ssim", "ms-ssim,psnr", ("ms_ssim",)],
    "padding": ["darkest", "air"],
    "strict": ["yes", True, "no"],
}


def test_every_option_has_examples_here():
    assert EXAMPLES.keys() == BY_NAME.keys() == {option.name for option in OPTIONS}
    assert len(OPTIONS) == len(BY_NAME)


every_example = pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in EXAMPLES.items() for value in values]
)


@every_example
def test_every_option_works_in_python_and_round_trips(name, value):
    settings = EncodeSettings.of(**{name: value})
    default = EncodeSettings.of()
    is_default = (name, value) in (
        ("rdo", "balanced"),
        ("even", "yes"),
        ("bit_depth", 8),
        ("fps", 25),
        ("threads", 0),
        ("strict", "no"),
        ("padding", "darkest"),
    )
    assert (settings == default) is is_default
    again = EncodeSettings.of(**settings.as_options())
    assert again == settings
    assert again.as_dict() == settings.as_dict()


@pytest.mark.parametrize("command", ["encode", "batch"])
def test_every_option_is_on_the_command_line(command):
    parameters = getattr(import_module(f"ssimrdo.cli.{command}"), command).params
    flags = {flag: parameter.name for parameter in parameters for flag in parameter.opts}
    for option in OPTIONS:
        assert flags[option.flag] == option.name
        for alias in option.aliases:
            assert flags["--" + alias.replace("_", "-")] == option.name
    assert {option.flag for option in OPTIONS} >= {
        *("--crf", "--qp", "--bitrate", "--min-ssim", "--effort", "--preset", "--rdo"),
        *("--rdo-strength", "--window", "--bit-depth", "--fps", "--threads", "--x264-params"),
    }
    assert flags["--target"] == "over"


def test_help_texts_name_other_options_in_braces_that_exist():
    for option in OPTIONS:
        for text in (option.help, option.default):
            names_in = {part.split("}")[0] for part in text.split("{")[1:]}
            assert names_in <= BY_NAME.keys()


def test_options_make_settings():
    settings = EncodeSettings.of(
        qp="30", effort="high", window="lung", bit_depth="10", fps="25/2", threads="3"
    )
    assert settings == EncodeSettings(
        ConstantQuantizer(30),
        objective.BALANCED,
        X264("high"),
        Window(-600, 1500),
        10,
        Fraction(25, 2),
        3,
    )
    assert EncodeSettings.of(rdo="off") == EncodeSettings(
        objective=None, codec=X264(preset="medium")
    )
    assert EncodeSettings.of(min="psnr=40", over="mean").rate == Floor("psnr", 40, "mean")
    assert EncodeSettings.of(min_ssim=0.9).rate == Floor("ssim", 0.9, "worst")
    assert EncodeSettings.of(bitrate_kbps=99).rate == MeanBitrate(99)
    assert EncodeSettings.of(crf=None, window=None) == EncodeSettings.of() == EncodeSettings()
    assert EncodeSettings.of(window="auto").window is None


@pytest.mark.parametrize("fps", [25, 30000 / 1001, 0.01, 1000, 1 / 3])
def test_frame_rates_may_be_any_number(fps):
    found = EncodeSettings.of(fps=fps).fps
    assert float(found) == pytest.approx(fps, rel=1e-9)
    assert found.denominator <= 100_000


def test_indices_are_those_of_every_encode_and_those_asked_for():
    def measured(**options):
        return [index.name for index in EncodeSettings.of(**options).indices]

    assert measured() == ["ssim", "weighted_ssim", "psnr"]
    assert measured(measure="ms_ssim,psnr") == ["ssim", "weighted_ssim", "psnr", "ms_ssim"]
    assert measured(min="ms-ssim=0.9") == ["ssim", "weighted_ssim", "psnr", "ms_ssim"]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        *(({"rate": rate}, "rate") for rate in (None, 23.0, "23", {"crf": 23}, ConstantQuality)),
        *(({"rate": ConstantQuality(crf)}, "crf") for crf in ("23", None, True, 0.5, math.nan)),
        *(({"rate": MeanBitrate(kbps)}, "bitrate_kbps") for kbps in ("99", None, math.inf)),
        *(({"objective": wrong}, "objective") for wrong in ("ssim", True, 1)),
        *(({"codec": codec}, "codec") for codec in ("x264", None, X264)),
        *(({"window": window}, "window") for window in ("lung", (40, 400), 40)),
        *(({"bit_depth": depth}, "bit_depth") for depth in ("8", 8.0, None, True, 9)),
        *(({"fps": fps}, "fps") for fps in ("25", 25, 25.0, None, True, Fraction(10**400))),
        *(({"threads": threads}, "threads") for threads in ("1", 1.0, None, True, -1, 129)),
        *(({"measure": wrong}, "measure") for wrong in ("psnr", None, ["psnr"], ("vmaf",), (5,))),
        *(({"protect": wrong}, "protect") for wrong in ("lung", [], 5, ("lung",), (None,))),
        *(({"strict": wrong}, "strict") for wrong in ("yes", 1, None)),
        *(({"padding": wrong}, "padding") for wrong in ("black", "", 5, None)),
        ({"objective": None}, "effort"),
        ({"codec": X264(params=(("aq-mode", "0"),))}, "x264_params"),
    ],
)
def test_wrong_fields_are_refused_by_name(arguments, field):
    with pytest.raises(InputError) as caught:
        EncodeSettings(**arguments)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert "\n" not in str(caught.value)


def test_every_field_is_checked():
    tried = {"rate", "objective", "codec", "window", "bit_depth", "fps", "threads", "measure"}
    tried |= {"protect", "strict", "padding"}
    assert tried == {each.name for each in dataclasses.fields(EncodeSettings)}


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        *(({"index": index}, "min") for index in ("vmaf", "", 5, None)),
        *(({"value": value}, "min") for value in ("0.9", None, True, 0, 1, math.nan)),
        *(({"value": 2, "option": option}, option) for option in ("min", "min_ssim", "over")),
        ({"index": "vmaf", "option": "min_ssim"}, "min_ssim"),
        *(({"index": "psnr", "value": value}, "min") for value in (0, 100, "40")),
        *(({"over": over}, "over") for over in ("best", None, 5)),
    ],
)
def test_floors_are_refused_by_name(arguments, field):
    with pytest.raises(InputError) as caught:
        Floor(**arguments)
    assert caught.value.field == field


NUMBERS = ("crf", "bitrate_kbps", "min_ssim", "rdo_strength", "qp", "bit_depth", "threads")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in NUMBERS for value in ("x", "", "nan", [], True, object(), {})),
        *((name, 2.5) for name in ("qp", "bit_depth", "threads")),
        *(("min_ssim", value) for value in (0, 1, 1.5, -1)),
        *(("min", value) for value in ("0.95", 0.95, "ssim=", "=0.9", "ssim=x", [], (1, 2, 3))),
        *(("min", value) for value in ("vmaf=1", "ssim=2", ("ssim", "x"), (5, 0.9))),
        *(("over", value) for value in ("best", 5, ["mean"])),
        *(("effort", value) for value in ("slow", 5, "")),
        *(("preset", value) for value in ("Medium", 5, "")),
        *(("rdo", value) for value in ("on", True, 5, "")),
        *(("window", value) for value in ("", "brian", 40, (40, 400), "40/0")),
        *(("fps", value) for value in ("abc", "1/0", "", "nan", True, [], math.inf, -25, "1e400")),
        *(
            ("x264_params", value)
            for value in ("=1", 5, ["a"], [("a",)], {5: "a"}, "crf=20", "a=\0")
        ),
        *(("measure", value) for value in ("vmaf", 5, [5], "")),
        *(("even", value) for value in ("maybe", 2, [True], "")),
        *(("protect", value) for value in ("", "auto", "brian", 5, [5], "lung,,bone")),
        *(("strict", value) for value in ("", "maybe", 5)),
        *(("padding", value) for value in ("", "black", 5)),
        *(("codec", value) for value in ("", "x264", "HEVC", 264, X264, [])),
    ],
)
def test_wrong_options_are_refused_by_name(name, value):
    with pytest.raises(InputError) as caught:
        EncodeSettings.of(**{name: value})
    assert caught.value.field == name
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_wrong_options_are_tried_for_every_option():
    tried = {*NUMBERS, "min", "over", "effort", "preset", "rdo", "window", "fps", "x264_params"}
    assert (
        tried | {"codec", "x265_params", "even", "measure", "protect", "strict", "padding"}
        == BY_NAME.keys()
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"crf": 20, "qp": 20}, "qp"),
        ({"crf": 20, "bitrate_kbps": 200}, "bitrate_kbps"),
        ({"min_ssim": 0.9, "crf": 20}, "min_ssim"),
        ({"min": "ssim=0.9", "min_ssim": 0.9}, "min"),
        ({"over": "mean", "crf": 20}, "over"),
        ({"effort": "fast", "preset": "slow"}, "preset"),
        ({"effort": "fast", "rdo": "off"}, "effort"),
        ({"codec": X264(), "effort": "fast"}, "effort"),
        ({"codec": X264(), "x264_params": "bframes=1"}, "x264_params"),
        ({"codec": "x264"}, "codec"),
        ({"codec": X264}, "codec"),
        ({"x264_params": "aq-mode=0"}, "x264_params"),
    ],
)
def test_options_that_contradict_each_other(options, named):
    with pytest.raises(InputError) as caught:
        EncodeSettings.of(**options)
    assert caught.value.field == named


def test_an_unknown_option_is_named():
    with pytest.raises(
        InputError, match=r"'cfr' is not an option: use some of codec, crf, .*measure"
    ):
        EncodeSettings.of(cfr=20)


def test_lossless_is_for_ten_bit_alone():
    assert EncodeSettings.of(crf=0.5, bit_depth=10).rate == ConstantQuality(0.5)
    for options in ({"crf": 0.5}, {"crf": 0, "bit_depth": 10}, {"qp": 0}):
        with pytest.raises(InputError, match="is lossless"):
            EncodeSettings.of(**options)


def floors(name):
    """Return two values between which an index can be asked for."""
    index = get(name)
    return index.low + 0.01, min(index.high - 0.01, index.low + 0.99)


rates = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"crf": st.floats(1, 51)}),
    st.fixed_dictionaries({"qp": st.integers(1, 51)}),
    st.fixed_dictionaries({"bitrate_kbps": st.floats(1, 2_000_000)}),
    st.fixed_dictionaries(
        {"min_ssim": st.floats(0.01, 0.99)}, optional={"over": st.sampled_from(OVER)}
    ),
    st.fixed_dictionaries(
        {
            "min": st.sampled_from(names()).flatmap(
                lambda name: st.tuples(st.just(name), st.floats(*floors(name)))
            )
        },
        optional={"over": st.sampled_from(OVER)},
    ),
    st.fixed_dictionaries({"over": st.sampled_from(OVER)}),
)
searches = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"effort": st.sampled_from(["fast", "default", "max"])}),
    st.fixed_dictionaries({"preset": st.sampled_from(["fast", "placebo"])}),
    st.fixed_dictionaries({"preset": st.sampled_from(["fast", "placebo"]), "rdo": st.just("off")}),
    st.just({"rdo": "off"}),
    st.just({"rdo": "ssim"}),
)
others = st.fixed_dictionaries(
    {},
    optional={
        "rdo_strength": st.floats(0, 4),
        "window": st.sampled_from(["lung", "auto", "40/400"]),
        "bit_depth": st.sampled_from([8, 10]),
        "fps": st.fractions(Fraction(1, 100), 1000, max_denominator=1000),
        "threads": st.integers(0, 128),
        "x264_params": st.sampled_from(["", "bframes=1", "keyint=9:no-cabac"]),
        "measure": st.sampled_from(["ms_ssim", "psnr,ms_ssim"]),
    },
)
options = st.builds(
    lambda *parts: {k: v for part in parts for k, v in part.items()}, rates, searches, others
)


@given(options)
def test_options_round_trip(given_options):
    settings = EncodeSettings.of(**given_options)
    assert EncodeSettings.of(**settings.as_options()) == settings
    assert settings.changed({}) == settings
    assert settings.changed(dict.fromkeys(BY_NAME)) == settings


@given(options)
def test_changing_the_defaults_is_giving_the_options(changes):
    assert EncodeSettings().changed(changes) == EncodeSettings.of(**changes)


@given(options, options)
def test_changes_win_and_all_else_stays(base, changes):
    before = EncodeSettings.of(**base)
    if before.objective is None and "effort" in changes:
        with pytest.raises(InputError, match="needs an objective"):
            before.changed(changes)
        return
    after = before.changed(changes)
    fresh = EncodeSettings.of(**changes)
    record, old, new = after.as_dict(), before.as_dict(), fresh.as_dict()
    for name in ("rdo_strength", "window", "bit_depth", "fps", "threads", "x264_params"):
        assert record[name] == (new if name in changes else old)[name]
    assert record.get("measure") == (new if "measure" in changes else old).get("measure")
    asked = [name for name in RATES if name in changes]
    if asked or "over" in changes:
        if isinstance(fresh.rate, Floor):
            if asked:
                assert (after.rate.index, after.rate.value) == (fresh.rate.index, fresh.rate.value)
            if "over" in changes:
                assert after.rate.over == changes["over"]
        else:
            assert after.rate == fresh.rate
    else:
        assert after.rate == before.rate
    if "effort" in changes or "preset" in changes:
        assert (record["effort"], record["preset"]) == (new["effort"], new["preset"])
    if "rdo" in changes:
        assert record["rdo"] == changes["rdo"]


def test_a_change_of_the_floor_keeps_what_it_is_over():
    base = EncodeSettings.of(min="ssim=0.9", over="mean")
    assert base.changed({"min_ssim": 0.8}).rate == Floor("ssim", 0.8, "mean")
    assert base.changed({"over": "p5"}).rate == Floor("ssim", 0.9, "p5")
    assert base.changed({"crf": 20}).rate == ConstantQuality(20)
    assert EncodeSettings.of(min="psnr=40").changed({"over": "p5"}).rate == Floor("psnr", 40, "p5")


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"min": "ssim=0.95"}, "min"),
        ({"min": "psnr=40", "over": "p5"}, "min"),
        ({"min_ssim": 0.95, "over": "mean"}, "min_ssim"),
        ({"over": "worst"}, "over"),
    ],
)
def test_a_floor_knows_the_option_that_asks_for_it(given, option):
    settings = EncodeSettings.of(**given)
    assert settings.rate.option == option
    assert settings.changed({"fps": 12}).rate.option == option
    assert settings == EncodeSettings.of(
        min=(settings.rate.index, settings.rate.value), over=settings.rate.over
    )


@pytest.mark.parametrize("option", ["min", "min_ssim", "over"])
def test_a_floor_of_any_option_stays_what_it_is(option):
    for index, value in (("ssim", 0.9), ("psnr", 40)):
        settings = EncodeSettings(Floor(index, value, "mean", option))
        assert EncodeSettings.of(**settings.as_options()) == settings


def test_changes_are_checked():
    with pytest.raises(InputError) as caught:
        EncodeSettings.of(crf=20).changed({"crf": 30, "qp": 20})
    assert caught.value.field == "qp"
    with pytest.raises(InputError):
        EncodeSettings.of(rdo="off").changed({"effort": "fast"})
