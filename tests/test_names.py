"""Names that are no UTF-8, that a terminal would obey, or that a spreadsheet would compute."""

from __future__ import annotations

import csv
import os
import pty
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from batch_series import write_tree
from dicom_files import write_series
from hypothesis import given
from hypothesis import strategies as st
from messages import error_of
from video_files import ct_volume, run_command

from ssimrdo.batch import BatchSettings, read_results, run
from ssimrdo.batch.names import Names
from ssimrdo.errors import BadSliceError, InputError
from ssimrdo.executors import InProcess
from ssimrdo.text import printable, printable_lines, table_cell

LATIN_1 = os.fsdecode(b"J\xfcrgen")
ESCAPE, C1, BIDI, FORMULA = "\x1b]0;OWNED\x07", "a\x9b2Jb", "a\u202egnp", "=1+1"
ODD = (LATIN_1, ESCAPE, C1, BIDI, "-x", "@x", "+x", "\tx", FORMULA)
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@pytest.fixture
def ssimrdo(capfd):
    return partial(run_command, capfd)


def assert_printable(text: str) -> None:
    assert [char for char in text if not (char.isprintable() or char == "\n")] == []


def assert_no_formulas(path: Path) -> None:
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.reader(stream):
            for cell in row:
                assert_printable(cell)
                if cell.startswith(FORMULAS):
                    float(cell)


@given(st.text())
def test_text_becomes_printable_and_what_is_stays(text):
    assert_printable(printable(text))
    assert len(printable(text)) == len(text)
    assert printable(printable(text)) == printable(text)
    assert printable_lines(text).count("\n") == text.count("\n")
    assert printable(text) == text or not text.isprintable()


@given(st.one_of(st.text(), st.builds("{}{}".format, st.sampled_from(FORMULAS), st.text())))
def test_no_text_is_a_formula_in_a_table(text):
    cell = table_cell(text)
    assert not cell.startswith(FORMULAS)
    assert cell.removeprefix("'") == printable(text) or cell == printable(text)


@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.none()))
def test_numbers_stay_numbers_in_a_table(number):
    assert table_cell(number) is number


@pytest.mark.parametrize("odd", ["\x1b[2J", "\x9b2J", "\u202e", "\udcfc", "\n", "\u2028", "\0"])
def test_errors_are_one_printable_line(odd):
    for error in (InputError(f"{odd}x{odd}: is bad"), BadSliceError(f"a{odd}", f"b{odd}c")):
        assert_printable(str(error))
        assert "\n" not in str(error)


def test_names_of_outputs_are_printable_and_stay_with_their_folder():
    names = Names(".mp4")
    taken = {odd: names.take(odd) for odd in (*ODD, "J?rgen", os.fsdecode(b"J\xe4rgen"))}
    assert len(set(taken.values())) == len(taken)
    for name in taken.values():
        assert_printable(name)
        name.encode("utf-8")
        assert "?" not in name
    # Neither depends on what else there is.
    assert Names(".mp4").take(LATIN_1) == taken[LATIN_1]
    assert Names(".mp4").take("Jürgen 胸部") == "Jürgen 胸部.mp4"


@pytest.fixture
def root(tmp_path):
    write_tree(tmp_path / "in", *ODD)
    (tmp_path / "in" / LATIN_1 / f"{ESCAPE}.dcm").write_bytes(b"")
    (tmp_path / "in" / FORMULA / f"{LATIN_1}.dcm").write_bytes(b"")
    return tmp_path / "in"


def test_batch_of_odd_names(root, tmp_path):
    out = tmp_path / f"{BIDI}{LATIN_1}"
    result = run(root, out, executor=InProcess())
    assert (result.totals.encoded, result.totals.failed) == (len(ODD) - 2, 2)
    for path in out.rglob("*"):
        assert_printable(path.name)
        path.name.encode("utf-8")
    for name in ("results.csv", "results.jsonl", "report.html"):
        assert_printable((out / name).read_text(encoding="utf-8").replace("\u202f", " "))
    assert_no_formulas(out / "results.csv")
    for record in read_results(out):
        assert_printable(record.output + record.series + record.reason)
    again = run(root, out, executor=InProcess())
    assert (again.totals.done_before, again.totals.failed_before) == (len(ODD) - 2, 2)


def test_folder_of_an_odd_name_that_holds_damaged_files_alone(tmp_path):
    folder = tmp_path / "in" / LATIN_1
    folder.mkdir(parents=True)
    (folder / "1.dcm").write_bytes(b"")
    for template in (None, "{uid_hash}", "{folder}"):
        out = tmp_path / f"out-{template}"
        settings = BatchSettings(name_template=template)
        assert run(tmp_path / "in", out, settings, executor=InProcess()).totals.failed == 1


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--json-log"], ["--dry-run"]])
def test_batch_says_nothing_that_a_terminal_obeys(ssimrdo, root, tmp_path, arguments):
    out = tmp_path / ESCAPE
    done = ssimrdo("batch", root, "-o", out, "--jobs", "1", *arguments)
    assert done.status in (0, 3)
    assert_printable(done.out)
    assert_printable(done.err)
    status = ssimrdo("batch", "status", out)
    assert_printable(status.out + status.err)


def test_bars_of_a_batch_hold_no_escapes_of_names(root, tmp_path):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ssimrdo", "batch", root, "-o", tmp_path / "out"],
        stderr=follower,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            shown += os.read(leader, 4096)
        except OSError:
            break
    os.close(leader)
    assert process.wait() == 3
    for odd in (b"\x1b]0;", b"\x07", b"\xfc", "\x9b".encode(), "\u202e".encode()):
        assert odd not in shown


def test_compare_of_odd_names(ssimrdo, tmp_path):
    folders = [tmp_path / "in" / odd for odd in (LATIN_1, ESCAPE, FORMULA)]
    for folder in folders:
        write_series(folder, ct_volume(2, 32, 32))
    (folders[1] / f"{LATIN_1}.dcm").write_bytes(b"")
    out = tmp_path / f"{LATIN_1}{BIDI}"
    done = ssimrdo(
        *("compare", *folders, "-o", out, "--preset", "ultrafast", "--metric", "ssim"),
        *("--no-cache", "--points", "20,25,30,35"),
    )
    assert done.status == 3
    assert_printable(done.out + done.err)
    assert_no_formulas(out / "rd_points.csv")
    page = (out / "report.html").read_text(encoding="utf-8")
    for odd in (ESCAPE, C1, BIDI, LATIN_1):
        assert odd not in page
    assert "\\udc" not in (out / "report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("odd", [LATIN_1, ESCAPE, C1, BIDI])
def test_encode_and_inspect_of_odd_names(ssimrdo, tmp_path, odd):
    write_series(tmp_path / odd, ct_volume(2, 32, 32))
    for command, output in (("encode", f"{odd}.mp4"), ("inspect", f"{odd}.html")):
        done = ssimrdo(command, tmp_path / odd, "-o", tmp_path / output)
        assert done.status == 0
        assert_printable(done.out + done.err)
        assert (tmp_path / output).exists()
        # It is there already, which is said with its name.
        done = ssimrdo(command, tmp_path / odd, "-o", tmp_path / output)
        assert done.status == 2
        assert_printable(done.err)
        assert error_of(done.err)
    assert_printable((tmp_path / f"{odd}.json").read_text(encoding="utf-8"))
    assert "\\udc" not in (tmp_path / f"{odd}.json").read_text(encoding="utf-8")
    for odd_option in (["--window", odd], ["--crf", odd], [f"--{odd}"], [odd]):
        done = ssimrdo("encode", tmp_path / "none", "-o", tmp_path / "b.mp4", *odd_option)
        assert done.status == 2
        assert_printable(done.err)


def test_nothing_depends_on_the_encoding_of_the_locale(tmp_path):
    """Templates, sidecars and results are UTF-8 where the locale is ASCII."""
    write_tree(tmp_path / "in", "Jürgen", "b")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment.pop("LANG", None)
    for arguments in (
        ["batch", tmp_path / "in", "-o", tmp_path / "out", "--jobs", "1"],
        ["batch", tmp_path / "in", "-o", tmp_path / "out", "--jobs", "1"],
        ["encode", tmp_path / "in/Jürgen", "-o", tmp_path / "ü.mp4"],
        ["inspect", tmp_path / "in/Jürgen", "-o", tmp_path / "ü.html"],
        [
            *("compare", tmp_path / "in/Jürgen", "-o", tmp_path / "compared", "--no-cache"),
            *("--preset", "ultrafast", "--metric", "ssim", "--points", "20,25,30,35"),
        ],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ssimrdo", *arguments],
            capture_output=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    for page in (tmp_path / "out/report.html", tmp_path / "compared/report.html"):
        assert "\u202f" in page.read_text(encoding="utf-8")
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 2
