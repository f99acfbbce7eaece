from __future__ import annotations

import json

import pytest
from batch_series import videos, write_tree

from ssimrdo.batch import BatchSettings, read_results, run
from ssimrdo.batch.manifest import COLUMNS, read_manifest
from ssimrdo.cli.options import flag_of
from ssimrdo.codecs.base import ConstantQuantizer
from ssimrdo.dicom import Window
from ssimrdo.encoding.options import OPTIONS
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import InputError
from ssimrdo.executors import InProcess

CSV = """series,output,crf,qp,window,skip_bad,fps,x264_params
a,first.mp4,20,,lung,,,
b,,,30,40/400,yes,25/2,ref=2:me=umh
"""
ROWS = [
    {"series": "a", "output": "first.mp4", "crf": 20, "window": "lung"},
    {
        "series": "b",
        "qp": 30,
        "window": "40/400",
        "skip_bad": True,
        "fps": "25/2",
        "x264_params": "ref=2:me=umh",
    },
]
YAML = """# two series
- series: a
  output: first.mp4
  crf: 20
  window: lung
- {series: b, qp: 30, window: 40/400, skip_bad: true, fps: 25/2, x264_params: "ref=2:me=umh"}
"""
TEXTS = {
    "jobs.csv": CSV,
    "jobs.jsonl": "\n".join(map(json.dumps, ROWS)) + "\n\n",
    "jobs.yaml": YAML,
}


def read(path, text, **arguments):
    path.write_text(text)
    defaults = arguments.pop("defaults", EncodeSettings.of(crf=25, threads=1))
    return read_manifest(path, defaults, suffix=".mp4", skip_bad=False, **arguments)


@pytest.mark.parametrize("name", TEXTS)
def test_kinds_say_the_same(tmp_path, name):
    first, second = read(tmp_path / name, TEXTS[name])
    assert first.series == str(tmp_path / "a")
    assert (first.output, second.output) == ("first.mp4", None)
    assert first.settings == EncodeSettings.of(crf=20, window=Window(-600, 1500), threads=1)
    assert second.skip_bad
    assert not first.skip_bad
    assert second.settings.rate == ConstantQuantizer(30)
    assert second.settings.fps == 12.5
    assert second.settings.codec.params == (("ref", "2"), ("me", "umh"))


@pytest.mark.parametrize(
    ("defaults", "column", "value", "expected"),
    [
        ({}, "preset", "slow", {"preset": "slow"}),
        ({"preset": "slow"}, "effort", "high", {"effort": "high"}),
        ({"effort": "high"}, "rdo", "off", {"rdo": "off"}),
        ({"preset": "slow"}, "rdo", "off", {"rdo": "off", "preset": "slow"}),
        ({"crf": 20}, "qp", "30", {"qp": 30}),
        ({"qp": 20}, "bitrate", "300", {"bitrate_kbps": 300}),
        ({"min_ssim": 0.9, "over": "mean"}, "qp", "30", {"qp": 30}),
        ({"crf": 20}, "min_ssim", "0.9", {"min_ssim": 0.9}),
        ({"min_ssim": 0.9}, "target", "mean", {"min_ssim": 0.9, "over": "mean"}),
        ({"crf": 20}, "target", "mean", {"over": "mean"}),
        (
            {"min_ssim": 0.9, "over": "mean"},
            "min_ssim",
            "0.8",
            {"min_ssim": 0.8, "over": "mean"},
        ),
        ({"effort": "high"}, "crf", "30", {"effort": "high", "crf": 30}),
    ],
)
def test_value_takes_the_place_of_those_it_excludes(tmp_path, defaults, column, value, expected):
    text = f"series,{column}\na,{value}\n"
    (entry,) = read(tmp_path / "j.csv", text, defaults=EncodeSettings.of(**defaults))
    assert entry.settings == EncodeSettings.of(**expected)


def test_paths_are_relative_to_the_root_and_urls_stay(tmp_path):
    first, second = read(tmp_path / "j.csv", "series\na\ns3://bucket/b\n", root="/data")
    assert first.series == "/data/a"
    assert second.series == "s3://bucket/b"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("j.csv", "series,crff\na,1\n", "line 1: unknown column 'crff': use some of series,"),
        ("j.csv", "series,crf\na,20\nb,abc\n", "line 3, column crf: 'abc' is not a number"),
        ("j.csv", "series,crf\na,nan\n", "line 2, column crf: 'nan' is not a number"),
        ("j.csv", "series,crf\na,99\n", "line 2, column crf: 99 is out of range"),
        ("j.csv", "series,qp\na,2.5\n", "line 2, column qp: '2.5' is not a whole number"),
        ("j.csv", "series,crf,qp\na,20,20\n", "line 2, column qp: there is another rate"),
        ("j.csv", "series,effort\na,much\n", "line 2, column effort: 'much' is unknown"),
        ("j.csv", "series,effort,rdo\na,high,off\n", "line 2, column effort"),
        ("j.csv", "series,bitrate\na,0\n", "line 2, column bitrate: 0 is out of range"),
        ("j.csv", "series,min\na,nice=1\n", "line 2, column min: quality index 'nice' is unknown"),
        ("j.csv", "series,min\na,0.9\n", "line 2, column min: '0.9' is not INDEX=VALUE"),
        ("j.csv", "series,over\na,best\n", "line 2, column over: 'best' is unknown"),
        ("j.csv", "series,target\na,best\n", "line 2, column target: 'best' is unknown"),
        ("j.csv", "series,over,crf\na,mean,20\n", "column over: goes with a quality to keep"),
        ("j.csv", "series,target,over\na,p5,p5\n", "column over: is the same as target"),
        ("j.csv", "series,measure\na,nice\n", "column measure: quality index 'nice' is unknown"),
        ("j.csv", "series,x264_params\na,threads=2\n", "line 2, column x264_params"),
        ("j.csv", "series,bit_depth\na,9\n", "line 2, column bit_depth"),
        ("j.csv", "series,rdo_strength\na,9\n", "line 2, column rdo_strength"),
        ("j.csv", "series,skip_bad\na,perhaps\n", "line 2, column skip_bad: 'perhaps' is neither"),
        ("j.csv", "series,window\na,nose\n", "line 2, column window"),
        ("j.csv", "series,output\na,../x.mp4\n", "line 2, column output: '../x.mp4' is no path"),
        ("j.csv", "series,output\na,/x.mp4\n", "line 2, column output"),
        ("j.csv", "series,output\na,x.avi\n", "line 2, column output: x.avi does not end in .mp4"),
        ("j.csv", "series,crf\n,20\n", "line 2, column series: is missing"),
        ("j.csv", "series\na,20\n", "line 2: 2 values for 1 columns"),
        ("j.csv", "series,series\na,b\n", "line 1: a column stands there twice"),
        ("j.csv", 'series\n"a\n', "line 2: unexpected end of data"),
        ("j.csv", "series\n", "names no series"),
        ("j.csv", "", "names no series"),
        ("j.jsonl", '{"series": "a"}\n{"series"\n', "line 2: is no JSON"),
        ("j.jsonl", '["a"]\n', "line 1: is no JSON object"),
        ("j.jsonl", '{"series": 5}\n', "line 1, column series: 5 is not text"),
        ("j.jsonl", '{"series": "a", "crf": true}\n', "line 1, column crf: True is not a number"),
        ("j.jsonl", '{"series": "a", "x": 1}\n', "line 1: unknown column 'x'"),
        ("j.yaml", "- series: a\n\n- series: b\n  crf: x\n", "line 3, column crf: 'x' is no"),
        ("j.yaml", "series: a\n", "line 1: is no list"),
        ("j.yaml", "- a\n", "line 1: is no mapping"),
        ("j.yaml", "- series: [a\n", "is no YAML"),
        ("j.txt", "a", "the suffix tells the kind: use one of .csv, .jsonl, .yaml, .yml"),
    ],
)
def test_errors_name_line_and_column(tmp_path, name, text, said):
    with pytest.raises(InputError) as caught:
        read(tmp_path / name, text)
    assert said in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    # A manifest has no flags, and no names of Python's beside its own.
    assert "--" not in str(caught.value)
    assert "bitrate_kbps" not in str(caught.value)
    assert "{" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("crf,bitrate\na,20,300\n", "give one of crf, qp, bitrate, min_ssim, min"),
        ("effort,preset\na,high,slow\n", "column preset: excludes an effort: give one of effort"),
        ("effort,rdo\na,high,off\n", "column effort: needs an objective: give preset with rdo off"),
    ],
)
def test_remedies_name_columns(tmp_path, text, said):
    with pytest.raises(InputError) as caught:
        read(tmp_path / "j.csv", f"series,{text}")
    assert said in str(caught.value)
    # On the command line as well, where options have other names.
    assert said in caught.value.text(flag_of)


def test_every_option_of_an_encode_is_a_column():
    before = (
        "series output series_uid skip_bad crf qp bitrate min_ssim target effort preset rdo "
        "rdo_strength window bit_depth fps threads x264_params"
    )
    assert set(before.split()) <= set(COLUMNS)
    assert {"min", "over", "measure"} <= set(COLUMNS)
    for option in OPTIONS:
        assert option.external in COLUMNS
    assert len(set(COLUMNS)) == len(COLUMNS)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"min": "psnr=40", "over": "p5"}, {"min": ("psnr", 40.0), "over": "p5"}),
        ({"min": "ms-ssim=0.9"}, {"min": ("ms_ssim", 0.9)}),
        ({"over": "mean"}, {"over": "mean"}),
        ({"crf": 30, "measure": "ms_ssim"}, {"crf": 30, "measure": ("ms_ssim",)}),
        ({"measure": ["ms_ssim"]}, {"crf": 25, "measure": ("ms_ssim",)}),
        ({"x264_params": {"ref": 2}}, {"crf": 25, "x264_params": "ref=2"}),
        ({"fps": 12.5, "threads": 3}, {"crf": 25, "fps": "25/2", "threads": 3}),
    ],
)
def test_columns_of_new_options(tmp_path, row, expected):
    (entry,) = read(tmp_path / "j.jsonl", json.dumps({"series": "a", **row}))
    assert entry.settings == EncodeSettings.of(**{"threads": 1, **expected})


def test_windows_own_takes_the_place_of_the_default(tmp_path):
    defaults = EncodeSettings.of(window="lung")
    own, lung = read(tmp_path / "j.csv", "series,window\na,auto\nb,\n", defaults=defaults)
    assert own.settings.window is None
    assert lung.settings == defaults


def test_missing_and_binary_manifests(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_manifest(tmp_path / "x.csv", EncodeSettings(), suffix=".mp4", skip_bad=False)
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_manifest(tmp_path / "x.csv", EncodeSettings(), suffix=".mp4", skip_bad=False)


def test_output_named_twice(tmp_path):
    (tmp_path / "j.csv").write_text("series,output\na,x.mp4\nb,X.mp4\n")
    with pytest.raises(InputError, match=r"line 3, column output: X\.mp4 is named twice"):
        run(None, tmp_path / "out", manifest=tmp_path / "j.csv", executor=InProcess())


def test_batch_of_a_manifest(tmp_path):
    write_tree(tmp_path, "a", "b")
    (tmp_path / "jobs.csv").write_text("series,output,crf\na,deep/x.mp4,40\nb,,\nmissing,,\n")
    out = tmp_path / "out"
    settings = BatchSettings(encode=EncodeSettings.of(crf=18))
    result = run(None, out, settings, manifest=tmp_path / "jobs.csv", executor=InProcess())
    assert (result.totals.encoded, result.failed) == (2, 1)
    assert set(videos(out)) == {"deep/x.mp4", "b.mp4"}
    assert json.loads((out / "deep/x.json").read_text())["settings"]["crf"] == 40
    assert json.loads((out / "b.json").read_text())["settings"]["crf"] == 18
    (failed,) = (record for record in read_results(out) if record.status == "failed")
    assert "no such file or folder" in failed.reason
    again = run(None, out, settings, manifest=tmp_path / "jobs.csv", executor=InProcess())
    assert (again.totals.done_before, again.totals.failed_before) == (2, 1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("deep.jsonl", "[" * 100_000, "line 1: is nested too deeply"),
        ("deep.yaml", "[" * 3000, "is nested too deeply"),
        ("twice.jsonl", '{"series": "a", "crf": 20, "crf": 30}', "line 1: gives column crf twice"),
        ("cut.jsonl", '{"series": "a"', "line 1: is no JSON: Expecting"),
    ],
)
def test_text_that_is_no_manifest(tmp_path, name, text, message):
    with pytest.raises(InputError, match=f"{name}: {message}"):
        read(tmp_path / name, text)


HUGE = "9" * 400


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("j.jsonl", f'{{"series": "a", "crf": {"9" * 5000}}}', "line 1: has a number of too many"),
        ("j.jsonl", f'{{"series": "a", "crf": {HUGE}}}', "column crf: 9999"),
        ("j.jsonl", f'{{"series": "a", "threads": {HUGE}}}', "column threads: 9999"),
        ("j.jsonl", f'{{"series": "a", "bit_depth": {"9" * 300}}}', "column bit_depth: "),
        ("j.jsonl", '{"series": "a", "fps": 1e999}', "column fps: inf is not a number"),
        ("j.jsonl", '{"series": "a", "crf": NaN}', "column crf: nan is not a number"),
        ("j.jsonl", '{"series": "\\ud800"}', "column series: '?' is no name that a file"),
        ("j.jsonl", '{"series": "a\\u0000"}', "column series: 'a\\x00' is not text"),
        ("j.jsonl", '{"series": ["a"]}', "column series: is not text"),
        ("j.jsonl", '{"series": "' + "a" * 5000 + '"}', "column series: 'aaaa"),
        ("j.jsonl", '{"series": "a", "series_uid": "MUELLER"}', "'MUELLER' is no UID"),
        ("j.jsonl", '{"series": "a", "series_uid": {"a": 1}}', "column series_uid: is not text"),
        (
            "j.jsonl",
            '{"series": "a", "skip_bad": ["no"]}',
            "skip_bad: ['no'] is neither yes nor no",
        ),
        (
            "j.jsonl",
            f'{{"series": "a", "skip_bad": {"[" * 900}{"]" * 900}}}',
            "skip_bad: is nested too deeply",
        ),
        ("j.jsonl", '{"series": "a", "output": "\\ud83dx.mp4"}', "cannot be printed"),
        ("j.jsonl", '{"series": "a", "output": "\\u001b[2Jx.mp4"}', "cannot be printed"),
        ("j.jsonl", '{"series": "a", "output": "a\\u202ex.mp4"}', "cannot be printed"),
        ("j.jsonl", '{"series": "a", "output": "' + "x" * 9999 + '"}', "xx… does not end in .mp4"),
        ("j.jsonl", '{"series": "a", "window": "' + "x" * 9999 + '"}', "column window: "),
        ("j.jsonl", '{"series": "a", "measure": [["x"]]}', "column measure: is nested too deeply"),
        ("j.jsonl", '{"series": "a", "x264_params": {"a": {}}}', "column x264_params: is nested"),
        ("j.jsonl", "[" * 200_000 + "]" * 200_000, "line 1: is nested too deeply"),
        ("j.jsonl", '{"\\ud800": 1}', "unknown column '?'"),
        ("j.csv", "series\na\0b\n", "column series: 'a\\x00b' is not text"),
        ("j.csv", "series,series_uid\na,1.2x\n", "line 2, column series_uid: '1.2x' is no UID"),
        ("j.csv", f"series,crf\na,{HUGE}\n", "line 2, column crf: '9999"),
        ("j.csv", "series\n" + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
        ("j.csv", "\x1b]0;x\x07\n", "unknown column '?]0;x?'"),
        ("j.yaml", "- series: a\n  crf: 2001-13-45\n", "line 1, column crf: '2001-13-45' is no"),
        ("j.yaml", "- series: a\n  crf: 2001-01-01\n", "line 1, column crf: '2001-01-01' is no"),
        ("j.yaml", "- series: !!binary eA==\n", "line 1: has the tag !!binary"),
        (
            "j.yaml",
            "- series: a\n  fps: !!python/tuple [1]\n",
            "line 2: has the tag !!python/tuple",
        ),
        ("j.yaml", "- series: a\n  fps: !eval x\n", "line 2: has the tag !eval, which"),
        ("j.yaml", "- series: a\n  fps: !!int abc\n", "line 1, column fps: 'abc' is no"),
        ("j.yaml", "- series: a\n  fps: !!timestamp x\n", "line 1, column fps: 'x' is no"),
        ("j.yaml", "- &a\n  <<: *a\n", "line 1: merges itself"),
        ("j.yaml", "- series: a\n  <<: [1]\n", "line 2: only mappings can be merged"),
        ("j.yaml", "- series: a\n  series: b\n", "line 2: gives column series twice"),
        ("j.yaml", "- series: a\n  ? [x]\n  : 1\n", "line 2: is nested too deeply"),
        ("j.yaml", "- series: a\n  ~: 1\n", "line 2: names no column"),
        ("j.yaml", "- series: a\n\x07", "line 2: is no YAML: it has characters"),
        ("j.yaml", '- series: "\\ud800"\n', "line 1, column series: '?' is no name"),
        ("j.yaml", "- series: *x\n", "line 1: is no YAML: found undefined alias"),
        ("j.yaml", "- a: 1\n---\n- b: 2\n", "line 2: is no YAML: but found another document"),
        ("j.yaml", "- " * 200_000, "is nested too deeply"),
        ("j.yaml", "{" * 200_000, "is nested too deeply"),
    ],
)
def test_odd_values_are_told_in_one_short_line_with_their_place(tmp_path, name, text, said):
    (tmp_path / name).write_bytes(text.encode())
    with pytest.raises(InputError) as caught:
        read_manifest(tmp_path / name, EncodeSettings(), suffix=".mp4", skip_bad=False)
    message = str(caught.value).replace(str(tmp_path), "")
    assert said in message
    assert message.isprintable()
    assert len(message) < 450 + 200 * ("use some of" in message)


def laughing(depth):
    """YAML whose aliases stand for 9 ** depth values."""
    lines = ["- &a0 {series: a, crf: 20}"]
    for level in range(1, depth):
        merged = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"- &a{level} {{<<: [{merged}], fps: {level}}}")
    return "\n".join(lines)


def test_merges_of_merges_take_no_longer_than_there_are(tmp_path):
    entries = read(tmp_path / "j.yaml", laughing(40))
    assert [entry.settings.fps for entry in entries[1:]] == list(range(1, 40))


def test_values_of_yaml_are_those_of_csv(tmp_path):
    text = """
- &base {crf: 20, window: lung, skip_bad: on}
- series: 2001-01-01
  <<: *base
  crf: 1e1
  output: ~
  threads: "2"
  measure: [ms_ssim]
  x264_params: {ref: 2}
"""
    with pytest.raises(InputError, match="line 2, column series: is missing"):
        read(tmp_path / "j.yaml", text)
    text = text.replace("{crf: 20,", "{series: x, crf: 20,")
    _, entry = read(tmp_path / "j.yaml", text)
    assert (entry.series, entry.output) == (str(tmp_path / "2001-01-01"), None)
    assert entry.skip_bad
    assert entry.settings == EncodeSettings.of(
        crf=10, window="lung", threads=2, measure="ms_ssim", x264_params="ref=2"
    )


def test_many_columns_take_no_longer_than_there_are(tmp_path):
    names = ", ".join(f'"c{number}": 1' for number in range(200_000))
    with pytest.raises(InputError, match="line 1: unknown column 'c0'"):
        read(tmp_path / "j.jsonl", f"{{{names}}}")


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_lines_end_where_the_format_says(tmp_path, odd):
    rows = json.dumps({"series": f"a{odd}b"}, ensure_ascii=False) + '\n{"series": "c"}\n'
    for name, text in (("j.jsonl", rows), ("j.csv", f"series\n'a{odd}b'\nc\n")):
        if name == "j.jsonl" and odd in "\x0b\x1c":
            continue
        assert len(read(tmp_path / name, text)) == 2
