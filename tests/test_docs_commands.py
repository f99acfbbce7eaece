"""Commands and examples of the README and the documentation run as they stand.

Folders that they name hold small series. What would take minutes is made smaller, see `smaller`;
an output that an earlier example has made is replaced.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from dask_cluster import cluster
from dicom_files import write_series
from docs_pages import PAGES, ROOT, blocks_of, name_of
from video_files import ct_volume, run_command

from ssimrdo.codecs.named import NAMED
from ssimrdo.codecs.names import CODECS

SLICES, ROWS, COLUMNS = 6, 64, 80
SCHEDULER = "tcp://scheduler:8786"
# Installing and testing are for scripts/build_wheel --check and scripts/test themselves.
INSTALLERS = {"pip", "pip3", "pipx", "python3", "ssimrdo-env/bin/pip", "git", "cd", "pre-commit"}
# Codecs that this build does without.
LACKING = {name for name in CODECS if NAMED[name].lacking()}
# Pages that begin where a first encode has been made.
AFTER_AN_ENCODE = {"docs/metrics.md"}
# tests/test_losses_docs.py runs these, and looks at what they find.
ELSEWHERE = {"docs/losses.md"}


def commands_of(page: Path) -> list[list[str]]:
    """Return the commands of a page, word by word, without comments."""
    lines = "".join(blocks_of(page, "sh")).replace("\\\n", " ").splitlines()
    words = (shlex.split(line, comments=True) for line in lines)
    return [one for one in words if one]


def smaller(words: list[str]) -> list[str]:
    """Return a command of ssimrdo that does the same with less."""
    command = words[1]
    if command == "phantom":
        return [*words, "--slices", "3", "--size", "64"]
    if "--slice" in words:
        # The series of the tests has fewer.
        at = words.index("--slice") + 1
        return [*words[:at], f"{SLICES}", *words[at + 1 :]]
    if command == "lab" and "--help" not in words:
        quick = [] if "--quick" in words else ["--quick"]
        return [*("terms" if word == "all" else word for word in words), *quick]
    return words


def output_of(words: list[str]) -> str | None:
    names = [words[at + 1] for at, word in enumerate(words) if word in ("-o", "--map")]
    return next(iter(names), None)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with what the pages name."""
    folder = tmp_path_factory.mktemp("pages")
    volume = ct_volume(SLICES, ROWS, COLUMNS)
    noise = np.random.default_rng(0).normal(0, 5, volume.shape)
    of_series = {"RescaleIntercept": "-1024"}
    write_series(folder / "ct-series", volume)
    write_series(folder / "original", volume)
    write_series(folder / "denoised", volume + np.rint(noise).astype(int))
    for number in (1, 2):
        uid = {"SeriesInstanceUID": f"1.2.{number}", **of_series}
        write_series(folder / "study" / f"{number}", volume, **uid)
    for name in ("part-1", "part-2"):
        write_series(folder / "archive" / name, volume, **of_series)
    (folder / "jobs.csv").write_text("series,crf\narchive/part-1,20\n")
    return folder


@pytest.fixture
def place(files, tmp_path, monkeypatch):
    """A copy of that folder, in which commands run."""
    folder = tmp_path / "place"
    shutil.copytree(files, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SSIMRDO_CACHE_DIR", f"{tmp_path / 'cache'}")
    monkeypatch.setenv("N", "1")
    return folder


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A real cluster, that is made when the first page asks for one."""
    with cluster(tmp_path_factory.mktemp("dask")) as found:
        found.add_worker()
        yield found.address


def with_commands(page: Path) -> bool:
    return any(words[0] == "ssimrdo" for words in commands_of(page))


def run(capfd, words: list[str]) -> None:
    words = smaller([os.path.expandvars(word) for word in words])
    output = output_of(words)
    if words[1] not in ("batch", "list") and output is not None and Path(output).exists():
        words.append("--overwrite")
    done = run_command(capfd, *words[1:])
    assert done.status == 0, (words, done.err)
    assert output is None or "--dry-run" in words or Path(output).exists(), words


@pytest.mark.parametrize("page", [*filter(with_commands, PAGES)], ids=name_of)
@pytest.mark.usefixtures("place")
def test_commands_run(page, capfd, request):
    if name_of(page) in AFTER_AN_ENCODE:
        run(capfd, ["ssimrdo", "encode", "ct-series/", "-o", "chest.mp4"])
    left_out = []
    for words in commands_of(page):
        if words[0] != "ssimrdo":
            continue
        if any(f"codec={name}" in word or name == word for name in LACKING for word in words):
            left_out.append(" ".join(words))
            continue
        if SCHEDULER in words:
            address = request.getfixturevalue("scheduler")
            words = [address if word == SCHEDULER else word for word in words]
        run(capfd, words)
    if left_out:
        pytest.skip(f"built without a codec that is needed: {'; '.join(left_out)}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_scripts_that_are_named_are_there(page):
    for words in commands_of(page):
        words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
        if words[0] == "ssimrdo" or words[0].endswith("/ssimrdo") or words[0] in INSTALLERS:
            continue
        script = ROOT / words[0]
        assert script.parent.name == "scripts", words
        assert os.access(script, os.X_OK), words
        # The options of most stand in a file of Python beside.
        texts = [one.read_text() for one in ROOT.glob(f"{words[0]}*") if one.is_file()]
        for word in words[1:]:
            flag = word.partition("=")[0]
            assert not flag.startswith("-") or any(flag in text for text in texts), words


def with_python(page: Path) -> bool:
    return name_of(page) not in ELSEWHERE and bool(blocks_of(page, "python"))


@pytest.mark.parametrize("page", [*filter(with_python, PAGES)], ids=name_of)
@pytest.mark.usefixtures("place")
def test_examples_run(page, capfd):
    if name_of(page) in AFTER_AN_ENCODE:
        run(capfd, ["ssimrdo", "encode", "ct-series/", "-o", "chest.mp4"])
    names: dict[str, object] = {"__name__": "__main__"}
    for code in blocks_of(page, "python"):
        exec(compile(code, name_of(page), "exec"), names)
    assert "Traceback" not in capfd.readouterr().err


def test_there_is_something_to_run():
    assert sum(map(with_commands, PAGES)) >= 10
    assert sum(map(with_python, PAGES)) >= 4
