"""Records, tables and pages of batches; what is current, told from sidecars of all schemas."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import re
from fractions import Fraction

import numpy as np
import pytest
from batch_series import write_tree
from PIL import Image
from video_files import frames_of, plane

from ssimrdo.batch import BatchSettings, dry_run, read_results, run, state
from ssimrdo.batch.journal import BatchRecord, Journal, write_table
from ssimrdo.batch.page import render
from ssimrdo.batch.store import store_of
from ssimrdo.dicom import parse_window
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.executors import InProcess
from ssimrdo.metrics import QualityIndex, registry
from ssimrdo.record.sidecar import MODEL

OLD_COLUMNS = [
    *("output", "series", "status", "reason", "slices", "width", "height", "bit_depth"),
    *("window_center", "window_width", "input_bytes", "output_bytes", "kbps"),
    *("ssim_mean", "ssim_min", "weighted_ssim_mean", "psnr_mean", "worst_slice"),
    *("seconds", "worker", "finished", "options", "inputs"),
]

OLD_SIDECAR = """{
  "output": "a.mp4", "frames": 2, "width": 256, "height": 32, "bit_depth": 8,
  "window": {"center": 40.0, "width": 80.0},
  "bytes": 2873, "kbps": 202.3,
  "ssim": {"mean": 0.943193411703737, "min": 0.930879115001061},
  "weighted_ssim": {"mean": 0.9437965060372927, "min": 0.9313907496416384},
  "psnr": {"mean": 28.639316960551817, "min": 27.712185102456726},
  "worst_slice": 1,
  "seconds": {"load": 1.45, "analyse": 0.0006, "encode": 0.027, "verify": 0.007, "total": 1.511},
  "x264": {"build": "164 (0.164.3095 baee400)", "settings": "cabac=1 ref=3"},
  "skipped": [],
  "settings": {
    "crf": 23.0, "qp": null, "bitrate_kbps": null, "min_ssim": null, "target": null,
    "effort": "default", "preset": null, "rdo": "ssim", "rdo_strength": 0.7, "window": null,
    "bit_depth": 8, "fps": "25", "threads": 1, "x264_params": ""
  },
  "batch": {
    "options": "1ae90d851d230c1f2730661bf24f2a34", "inputs": "a1645a83d30b9896d067d0ed64c45d48",
    "content": "e365ab965a1609537b1d29a3521a9c0d", "input_files": 2, "input_bytes": 34592,
    "started": "2026-11-25T22:00:36+00:00"
  }
}"""
"""As written before sidecars had a schema and a model."""

OLD_LINE = (
    '{"output": "a.mp4", "series": "a", "status": "encoded", "reason": "", "slices": 2, "width": '
    '256, "height": 32, "bit_depth": 8, "window_center": 40.0, "window_width": 80.0, '
    '"input_bytes": 34592, "output_bytes": 2873, "kbps": 202.3, "ssim_mean": 0.9431, "ssim_min": '
    '0.9308, "weighted_ssim_mean": 0.9437, "psnr_mean": 28.63, "worst_slice": 1, "seconds": 1.5, '
    '"worker": "vm:20878", "finished": "2026-11-25T22:00:38+00:00", "options": "1ae9", '
    '"inputs": "a164"}'
)


@pytest.fixture
def root(tmp_path):
    write_tree(tmp_path / "in", "a", slices=3)
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def toy(monkeypatch):
    """A quality index of which less is better, known for the time of a test."""

    def register(**fields):
        index = QualityIndex(
            "mean_error",
            "Mean error",
            lambda pair: float(np.abs(pair.source.astype(int) - pair.shown).mean()),
            higher_is_better=False,
            decimals=2,
            unit="grey levels",
            **fields,
        )
        monkeypatch.setitem(registry._INDICES, index.name, index)
        return index

    return register


def rows(out):
    with (out / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def sidecar(out, name="a"):
    return json.loads((out / f"{name}.json").read_text())


def test_record_of_an_encode_is_that_of_its_sidecar(root, out):
    run(root, out, executor=InProcess())
    (made,) = read_results(out)
    read = BatchRecord.of_sidecar("a.mp4", "a", sidecar(out))
    changing = {"seconds": None, "worker": "", "finished": "", "origin": ""}
    assert dataclasses.replace(read, **changing) == dataclasses.replace(made, **changing)
    assert made.seconds >= read.seconds


def test_record_of_an_old_sidecar():
    record = BatchRecord.of_sidecar("a.mp4", "a", json.loads(OLD_SIDECAR))
    assert record.quality == {
        "ssim_mean": 0.943193411703737,
        "ssim_min": 0.930879115001061,
        "weighted_ssim_mean": 0.9437965060372927,
        "weighted_ssim_min": 0.9313907496416384,
        "psnr_mean": 28.639316960551817,
        "psnr_min": 27.712185102456726,
    }
    assert (record.slices, record.threads, record.worst_slice) == (2, 1, 1)
    assert (record.input_bytes, record.output_bytes, record.window_width) == (34592, 2873, 80)


def test_journal_of_before_is_read(tmp_path):
    (tmp_path / "results.jsonl").write_text(OLD_LINE + "\n")
    (record,) = read_results(tmp_path)
    row = record.as_dict()
    assert {name: row[name] for name in OLD_COLUMNS} == json.loads(OLD_LINE)
    assert (row["threads"], row["worst_slice_number"], row["psnr_min"]) == (None, 2, None)


def test_columns_of_before_are_still_there_in_their_order(root, out):
    run(root, out, executor=InProcess())
    (row,) = rows(out)
    assert [name for name in row if name in OLD_COLUMNS] == OLD_COLUMNS
    (line,) = (out / "results.jsonl").read_text().splitlines()
    assert [*json.loads(line)] == [*row]
    assert float(row["psnr_min"]) == sidecar(out)["psnr"]["min"]


def test_failed_series_has_all_columns(root, out):
    for path in (root / "a").iterdir():
        path.write_bytes(path.read_bytes()[:-2000])
    run(root, out, executor=InProcess())
    (line,) = (out / "results.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert set(OLD_COLUMNS) <= set(record)
    assert (record["status"], record["ssim_mean"], record["worst_slice"]) == ("failed", None, None)


def test_worst_slice_counts_from_1_for_people(root, out):
    run(root, out, executor=InProcess())
    (row,) = rows(out)
    worst = sidecar(out)["worst_slice"]
    values = [one["ssim"] for one in sidecar(out)["slices"]]
    assert values[worst] == min(values)
    assert (int(row["worst_slice"]), int(row["worst_slice_number"])) == (worst, worst + 1)
    page = (out / "report.html").read_text()
    assert f'alt="Slice {worst + 1}"' in page
    assert f"slice {worst + 1}, SSIM {min(values):.4f}" in page
    picture = re.search(r'src="data:image/png;base64,([^"]+)" alt="Slice', page)[1]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))), float)
    decoded = plane(frames_of(out / "a.mp4")[worst])
    whole = Image.fromarray(decoded)
    whole.thumbnail(shown.shape[::-1])
    assert np.abs(shown - np.asarray(whole, float)).max() <= 1


def test_warnings_have_a_column_and_a_mark(root, out):
    write_tree(root, "a", "b")
    (out.parent / "jobs.csv").write_text("series,crf,window\na,51,\nb,1,0/4000\n")
    run(root, out, manifest=out.parent / "jobs.csv", executor=InProcess())
    found = {row["output"]: row["warnings"] for row in rows(out)}
    codes = [one["code"] for one in sidecar(out)["warnings"]]
    assert "low_ssim_in_body" in codes
    assert found == {"a.mp4": " ".join(codes), "b.mp4": ""}
    (out / "results.jsonl").unlink()
    # Once more from the sidecars.
    run(root, out, manifest=out.parent / "jobs.csv", executor=InProcess())
    assert {row["output"]: row["warnings"] for row in rows(out)} == found
    page = (out / "report.html").read_text()
    assert "<b>1</b><span>with warnings</span>" in page
    section = page.partition('id="warnings"')[2].partition("</section>")[0]
    assert "SSIM inside the body below 0.9 in the worst slice" in section
    assert "b.mp4" not in section
    assert page.count('class="mark"') == 4


def test_threads_are_recorded(root, out):
    run(root, out, BatchSettings(encode=EncodeSettings(threads=2)), executor=InProcess())
    assert rows(out)[0]["threads"] == "2"
    # Resumed with another number, what is there was still made with two.
    (out / "results.jsonl").unlink()
    run(root, out, executor=InProcess())
    assert rows(out)[0]["threads"] == "2"


def test_indices_that_are_asked_for_get_columns_and_histograms(root, out, toy):
    write_tree(root, "a", "b")
    (out.parent / "jobs.csv").write_text("series,measure\na,mean-error\nb,\n")
    toy()
    run(root, out, manifest=out.parent / "jobs.csv", executor=InProcess())
    first, second = rows(out)
    summary = sidecar(out)["mean_error"]
    assert float(first["mean_error_mean"]) == summary["mean"]
    assert float(first["mean_error_max"]) == summary["max"]
    assert (second["mean_error_mean"], second["mean_error_max"]) == ("", "")
    assert [*first].index("mean_error_mean") < [*first].index("worst_slice")
    page = (out / "report.html").read_text()
    assert "<h3>Mean error, mean</h3>" in page
    assert "<h3>Mean error, worst slice</h3>" in page
    assert "<h3>SSIM, worst slice</h3>" in page
    assert "grey levels" in page


def test_worst_slices_follow_the_direction_of_the_first_index(tmp_path, toy, monkeypatch):
    known = dict(registry._INDICES)
    index = toy(everyday=True)
    monkeypatch.setattr(registry, "_INDICES", {index.name: index, **known})
    with Journal(tmp_path / "results.jsonl") as journal:
        for name, value in (("good", 1.0), ("bad", 30.0), ("fair", 9.0)):
            quality = {"mean_error_mean": value / 2, "mean_error_max": value}
            record = BatchRecord(f"{name}.mp4", name, "encoded", quality=quality, worst_slice=4)
            journal.append(record)
        page = render(journal, store_of(tmp_path))
        write_table(journal, tmp_path / "results.csv")
    worst = re.findall(r"<figcaption>(\w+)\.mp4<br>slice 5, Mean error ([\d.]+) grey levels", page)
    assert worst == [("bad", "30.00"), ("fair", "9.00"), ("good", "1.00")]
    assert "The slice with the highest Mean error" in page
    assert rows(tmp_path)[0]["mean_error_max"] == "30.0"


def test_histograms_count_every_series_once(tmp_path):
    values = [0.90, 0.91, 0.95, 0.99, 0.99]
    with Journal(tmp_path / "results.jsonl") as journal:
        for number, value in enumerate(values):
            quality = {"ssim_mean": value, "ssim_min": 0.5}
            record = BatchRecord(f"{number}.mp4", "x", "encoded", quality=quality, worst_slice=0)
            journal.append(record)
        journal.append(BatchRecord("f.mp4", "f", "failed", "why"))
        page = render(journal, store_of(tmp_path))
    mean, worst = (
        [
            (float(low), float(high), int(count))
            for low, high, count in re.findall(r'title="([\d.]+) to ([\d.]+): (\d+) series"', part)
        ]
        for part in page.split('class="histogram"')[1:3]
    )
    assert sum(count for _, _, count in mean) == sum(count for _, _, count in worst) == 5
    assert (mean[0][0], mean[-1][1], mean[-1][2]) == (0.90, 0.99, 2)
    assert worst[0][2] == 5


@pytest.mark.parametrize(
    ("options", "digest"),
    [
        ({}, "1ae90d851d230c1f2730661bf24f2a34"),
        ({"crf": 20}, "acb6ce4482325d733d361bb998d6ec81"),
        ({"qp": 30, "bit_depth": 10}, "18ebd598e46e7aa11a290fe098cc6032"),
        ({"bitrate_kbps": 300, "effort": "max"}, "cffdf95fd85d0c7c019cd6cfc635731f"),
        ({"min_ssim": 0.9, "over": "mean"}, "ed04cc8357017bea309627019262fbf8"),
        ({"over": "p5"}, "289c7b71c47d61f5275ba1c8f530170c"),
        ({"rdo": "off"}, "0d97355858720dcde0552d3353fe16ac"),
        ({"preset": "slow", "rdo_strength": 0.5}, "e519729037d85ca57823befa98343a7b"),
        ({"window": parse_window("lung")}, "91587d96f439793236620af56455130e"),
        ({"window": "40/400"}, "daf34997aa1c53d4290bcabc10f8cb3a"),
        (
            {"fps": Fraction(25, 2), "x264_params": "ref=2:me=umh"},
            "fc325ccb288c97c6d4c592081fcd19bb",
        ),
        ({"bit_depth": 10, "crf": 0.5, "threads": 3}, "72a0220347067703e5ba4547f155ad76"),
    ],
)
def test_digests_of_options_are_those_of_before(options, digest):
    """Made by the release before sidecars had a model."""
    options = {"rdo": "ssim", "rdo_strength": 0.7, "padding": "air", **options}
    assert state.options_digest(EncodeSettings.of(**options), skip_bad=False) == digest


def age(out, **changes):
    """Give an output the sidecar that an earlier version would have written for it."""
    now = sidecar(out)
    old = {**json.loads(OLD_SIDECAR), "bytes": now["bytes"], "batch": now["batch"], **changes}
    (out / "a.json").write_text(json.dumps(old))


@pytest.mark.parametrize("model", [{}, {"model": MODEL - 1}])
def test_output_of_an_older_model_is_encoded_again_unless_it_is_kept(root, out, model):
    run(root, out, executor=InProcess())
    age(out, **model)
    before = (out / "a.mp4").stat().st_mtime_ns

    keep = BatchSettings(keep_older=True)
    assert dry_run(root, out, keep, executor=InProcess())[0].done == 1
    assert run(root, out, keep, executor=InProcess()).totals.done_before == 1
    assert (out / "a.mp4").stat().st_mtime_ns == before
    # Its record is that of its sidecar, where the journal is lost.
    (out / "results.jsonl").unlink()
    run(root, out, keep, executor=InProcess())
    assert float(rows(out)[0]["ssim_mean"]) == 0.943193411703737

    plan, _ = dry_run(root, out, executor=InProcess())
    assert [todo.why for todo in plan.todo] == ["model changed"]
    assert run(root, out, executor=InProcess()).totals.encoded == 1
    assert (out / "a.mp4").stat().st_mtime_ns > before
    assert sidecar(out)["model"] == MODEL
    assert run(root, out, executor=InProcess()).totals.done_before == 1


def test_output_of_a_newer_model_is_never_kept(root, out):
    run(root, out, executor=InProcess())
    age(out, model=MODEL + 1)
    settings = BatchSettings(keep_older=True)
    assert run(root, out, settings, executor=InProcess()).totals.encoded == 1


def test_job_that_was_planned_keeps_an_older_output_with_other_times(root, out):
    """The content tells that it is the same, which only the job looks at."""
    run(root, out, executor=InProcess())
    age(out)
    for path in (root / "a").iterdir():
        path.touch()
    before = (out / "a.mp4").stat().st_ino
    settings = BatchSettings(keep_older=True)
    assert run(root, out, settings, executor=InProcess()).totals.encoded == 1
    assert (out / "a.mp4").stat().st_ino == before
    assert run(root, out, executor=InProcess()).totals.encoded == 1
    assert (out / "a.mp4").stat().st_ino != before


def test_what_changed_first_is_told(root, out):
    run(root, out, executor=InProcess())
    age(out)
    changed = BatchSettings(encode=EncodeSettings.of(crf=30))
    assert dry_run(root, out, changed, executor=InProcess())[0].todo[0].why == "options changed"
    path = next((root / "a").iterdir())
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert dry_run(root, out, executor=InProcess())[0].todo[0].why == "input changed"


def test_table_replaces_the_one_before_as_a_whole(tmp_path):
    (tmp_path / "results.csv").write_text("old")
    with Journal(tmp_path / "j") as journal:
        journal.append(BatchRecord("ü.mp4", "x", "failed", "why"))
        write_table(journal, tmp_path / "results.csv")
    assert "ü.mp4,x,failed,why" in (tmp_path / "results.csv").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "results.csv"]
