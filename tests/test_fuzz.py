"""The fuzzers: a short run of each, and that each would notice."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import fuzz
import fuzz_inputs
import fuzz_privacy
import fuzz_signals
import pytest
from batch_series import write_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MARKER = "QZX012345YWQ"


@pytest.mark.parametrize(
    ("kind", "count", "results"),
    [
        ("series", 100, {"ordered", "refused", "encoded"}),
        ("manifests", 200, {"read", "refused"}),
        ("journals", 40, {"line kept, sidecar read", "line set aside, sidecar as none"}),
        ("names", 60, {"named"}),
        ("enhanced", 60, {"read", "refused"}),
        ("phases", 40, {"read", "refused"}),
        ("archives", 60, {"read", "refused"}),
        ("volumes", 60, {"read", "refused"}),
        ("videos", 60, {"refused", "nothing", "template"}),
    ],
)
def test_short_run_finds_nothing(kind: str, count: int, results: set[str]) -> None:
    outcomes = [outcome for _, outcome in fuzz.run(kind, 0, count)]
    assert len(outcomes) == count
    assert [outcome for outcome in outcomes if outcome.result == "failure"] == []
    # All that may come of an input does.
    assert results <= {outcome.result for outcome in outcomes}


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["series", "manifests", "names", *fuzz_inputs.KINDS])
def test_input_follows_from_its_number(tmp_path: Path, kind: str) -> None:
    made = []
    for name in ("first", "second", "other"):
        (tmp_path / name).mkdir()
        fuzz.WORKS[kind](11 + (name == "other"), tmp_path / name)
        made.append(files(tmp_path / name))
    assert made[0] == made[1]
    assert made[0] != made[2]


def unsorted(slices: Iterable[object]) -> tuple[object, ...]:
    return tuple(slices)


@pytest.mark.parametrize(
    ("kind", "place", "instead"),
    [
        ("manifests", "ssimrdo.batch.manifest.check_output", lambda name: "\x1b" + name),
        ("manifests", "ssimrdo.batch.manifest._is_plain", lambda _: 1 / 0),
        ("journals", "ssimrdo.batch.journal.table_cell", lambda value: value),
        ("journals", "ssimrdo.batch.journal.BatchRecord.check", lambda _: None),
        ("names", "ssimrdo.batch.names.printable", str),
        ("names", "ssimrdo.batch.names.Names.take", lambda _, __: "same.mp4"),
        ("names", "ssimrdo.batch.job.printable", lambda _: "\x1b"),
        ("series", "ssimrdo.dicom.read.find.sort_slices", unsorted),
        ("enhanced", "ssimrdo.dicom.read.enhanced.read_items", lambda *_: ([], 0 // 0)),
        ("phases", "fuzz_inputs.rows_of", lambda _: ()),
        ("archives", "ssimrdo.dicom.read.archive.unpack", lambda _: 1 // 0),
        ("volumes", "ssimrdo.volumes.nifti._layout", lambda *_: 1 // 0),
    ],
)
def test_run_would_notice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    place: str,
    instead: Callable[..., object],
) -> None:
    monkeypatch.setattr(place, instead)
    failures = 0
    for number in range(300):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome = fuzz.measured(lambda n=number, f=folder: fuzz.Outcome(*fuzz.WORKS[kind](n, f)))
        failures += outcome.result == "failure"
        if failures:
            return
    pytest.fail("it did not")


@pytest.mark.parametrize("way", fuzz_privacy.hidden_ways(MARKER))
def test_search_finds_a_marker_in_each_disguise(way: str) -> None:
    hidden = fuzz_privacy.hidden_ways(MARKER)[way]
    assert fuzz_privacy.all_marks(b"before " * 9 + hidden + b" behind") == [MARKER]
    assert fuzz_privacy.all_marks(hidden.replace(MARKER.encode(), b"nothing")) in ([], [MARKER])


def test_search_finds_nothing_where_nothing_is() -> None:
    assert fuzz_privacy.all_marks(random.Random(0).randbytes(100_000)) == []
    assert fuzz_privacy.all_marks(b"QZX01234YWQ QZX0123456YWQ") == []


def test_no_marker_gets_into_an_output(tmp_path: Path) -> None:
    planted = fuzz_privacy.Planted()
    root = tmp_path / "given"
    series = fuzz_privacy.plant(root, planted, random.Random(0), ("whole", "truncated"))
    assert len(planted.where) > 3000
    commands = [
        command
        for command in fuzz_privacy.commands_of(root, series, tmp_path)
        if command.arguments[-1] != "--skip-bad"
        and ("batch" in command.arguments or "--skip-bad" in command.arguments)
        and command.arguments[0] in ("encode", "batch")
    ]
    assert [command.arguments[0] for command in commands] == ["encode", "encode", "batch", "batch"]
    told = False
    for command in commands:
        result = fuzz_privacy.searched_for(command, planted, fuzz_privacy.UID_ROOT.encode())
        assert result.leaks == ()
        assert result.bytes > 500
        if command.folders_are_told:
            # There are markers in it, as its names are those of folders: the search finds them.
            for path in command.output.rglob("*.csv"):
                told = bool(fuzz_privacy.all_marks(path.read_bytes()))
    assert told


def test_what_leaks_is_told(tmp_path: Path) -> None:
    planted = fuzz_privacy.Planted()
    root = tmp_path / planted.mark("folder", is_name=True)
    write_tree(root, planted.mark("series", is_name=True))
    (tmp_path / "out").mkdir()
    command = fuzz_privacy.Command(
        ("batch", str(root), "-o", str(tmp_path / "out"), "--jobs", "1"), tmp_path / "out"
    )
    leaks = fuzz_privacy.searched_for(command, planted, b"1.2.3.0").leaks
    assert any("results.csv: QZX000001YWQ, series" in leak for leak in leaks)
    assert any("name " in leak for leak in leaks)
    bad = fuzz_privacy.Command(("encode", "none", "-o", "x.mp4"), tmp_path / "out", False, (0,))
    assert "exit status 2" in fuzz_privacy.searched_for(bad, planted, b"1.2.3.0").leaks[0]


def test_commands_that_are_ended_leave_nothing_half() -> None:
    trials = list(fuzz_signals.trials(7, 3))
    assert len(trials) == 3
    assert [problem for trial in trials for problem in trial.problems] == []


def test_what_is_half_is_told(tmp_path: Path) -> None:
    def half(name: str, data: bytes, *, is_killed: bool = False) -> list[str]:
        (tmp_path / name).write_bytes(data)
        told = list(fuzz_signals._half(tmp_path, is_killed=is_killed, old=b"old"))
        (tmp_path / name).unlink()
        return told

    partial = f".a.mp4.{'0' * 16}.partial"
    assert half(partial, b"") == [f"{partial} is left"]
    assert half(partial, b"", is_killed=True) == []
    assert half("report.html", b"<html>") == ["report.html is cut off"]
    assert half("slice.dcm", b"") == ["a part of a phantom"]
    (tmp_path / "a.json").write_text('{"bytes": 5, "frames": 1}')
    with pytest.raises(Exception, match="Invalid data"):
        half("a.mp4", b"video")


def test_script_prints_its_seeds_and_counts() -> None:
    command = [sys.executable, fuzz.__file__, "--only", "names", "--count", "2", "--seed", "40"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("names 40 to 41: 2 named; at most ")
