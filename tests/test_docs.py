"""docs/json.md names every key that is written, and docs/architecture.md what there is."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest
import yaml
from dicom_files import write_series
from video_files import ct_volume, run_command

import ssimrdo
from ssimrdo.batch.journal import BatchRecord

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/json.md").read_text()
# What stands for all quality indices.
INDICES = {"ssim", "weighted_ssim", "psnr", "ms_ssim"}


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in")
    write_series(folder, ct_volume(3, 32, 48))
    return folder


def documented(title):
    """Return the keys that a section of the document names."""
    section = TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert section
    names = re.findall(r"`([\w.\[\]]+)`", section)
    return {part for name in names for part in re.findall(r"\w+", name)} | INDICES


def keys_of(record, *free):
    """Return the keys of objects in objects, but those that follow from the data."""
    if isinstance(record, list):
        return set().union(*(keys_of(one, *free) for one in record))
    if not isinstance(record, dict):
        return set()
    below = (keys_of(value, *free) for name, value in record.items() if name not in free)
    return set(record).union(*below)


def values_of(record, name):
    """Return the values of an object, whose keys are names that the user chose."""
    found = [list(one[name].values()) for one in record]
    return [value for values in found for value in values]


def test_of_encode_and_its_sidecar(series, tmp_path, capfd):
    title = "`encode --json` and the sidecar"
    for number, options in enumerate((["--min-ssim", "0.8"], ["--bitrate", "100"])):
        output = tmp_path / f"{number}.mp4"
        done = run_command(capfd, "encode", series, "-o", output, "--json", *options)
        sidecar = json.loads(output.with_suffix(".json").read_text())
        for record in (json.loads(done.out), sidecar):
            assert keys_of(record, "settings", "ct") <= documented(title)
        assert keys_of(sidecar["ct"], "differing") <= documented("The series record")


def test_of_a_batch():
    columns = set(BatchRecord("", "", "failed").as_dict())
    known = documented("Results of a batch")
    assert {name for name in columns if not name.endswith(("_mean", "_min"))} <= known
    assert {"ssim_mean", "ssim_min"} <= known & columns


def test_of_a_comparison(series, tmp_path, capfd):
    known = documented("`report.json` of a comparison")
    done = run_command(
        capfd,
        "compare",
        series,
        "-o",
        tmp_path / "report",
        "--no-cache",
        "--metric",
        "ssim",
        "--json",
    )
    report = json.loads((tmp_path / "report/report.json").read_text())
    for record in (json.loads(done.out), report):
        by_name = ("curves", "bd", "classes", "speed", "summary", "versions")
        assert keys_of(record, *by_name) <= known
        for curve in values_of(record["series"], "curves"):
            assert keys_of(curve, "quality", "per_slice", "tissue") <= known
        for classes in (*values_of(record["series"], "classes"), *record["classes"].values()):
            assert keys_of(classes) <= known
        for deltas in values_of(record["series"], "bd"):
            assert keys_of(list(deltas.values())) <= known
        for one in record["summary"].values():
            assert keys_of([value for name, value in one.items() if name != "speed"]) <= known


def test_of_an_inspection(series, tmp_path, capfd):
    done = run_command(capfd, "inspect", series, "-o", tmp_path / "maps.png", "--json")
    assert keys_of(json.loads(done.out)) <= documented("`inspect --json`")


def named_in_architecture():
    """Return the modules that the table of the page on architecture names, and names in each."""
    table = (ROOT / "docs/architecture.md").read_text().partition("## Where is …")[2]
    return re.findall(r"`(\w[\w/]*)\.py`(?:: ((?:`[\w.]+`(?:, )?)+))?", table.partition("\n## ")[0])


def test_the_page_on_architecture_names_modules():
    assert len(named_in_architecture()) >= 15


@pytest.mark.parametrize(("file", "names"), named_in_architecture())
def test_what_the_page_on_architecture_names_is_there(file, names):
    if file.endswith("torch"):
        pytest.importorskip("torch")
    module = import_module(f"ssimrdo.{file.replace('/', '.')}")
    for name in re.findall(r"[\w.]+", names):
        assert attrgetter(name)(module), name


def test_files_that_the_page_on_architecture_names_are_there():
    page = (ROOT / "docs/architecture.md").read_text()
    files = re.findall(r"`(\w[\w/]*\.py)`", page)
    folders = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    for name in files:
        assert (ROOT / "ssimrdo" / name).is_file() or name == "cli/NAME.py", name
    for name in folders:
        assert (ROOT / "ssimrdo" / name).exists() or (ROOT / f"ssimrdo/{name}.py").exists(), name


def test_the_citation_names_this_version_and_licence():
    record = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert record["cff-version"] == "1.2.0"
    assert record["title"] == project["name"]
    assert record["version"] == ssimrdo.__version__
    assert record["license"] == project["license"]


def test_pre_commit_runs_what_scripts_test_runs_first():
    (own,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = {hook["entry"].replace(" --force-exclude", "") for hook in own["hooks"]}
    checks = re.findall(r"^check (.+)$", (ROOT / "scripts/test").read_text(), re.MULTILINE)
    assert hooks == {
        f".venv/bin/{one.removesuffix(' .')}" for one in checks if not one.startswith("pytest")
    }


@pytest.mark.parametrize("kind", ["metrics", "objective", "codecs", "lab", "cli"])
def test_contributing_names_an_example_of_each_kind(kind):
    page = (ROOT / "docs/contributing.md").read_text()
    rows = re.findall(r"`(tests/toys/\w+\.py)` \| .*`ssimrdo/(\w+)/`", page)
    assert len(rows) == 5
    (toy,) = (toy for toy, folder in rows if folder == kind)
    assert (ROOT / toy).is_file()
