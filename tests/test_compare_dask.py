"""Comparisons on a Dask cluster, a real scheduler and workers over TCP, and on local processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace

import distributed
import numpy as np
import pytest
from dask_cluster import cluster
from dicom_files import CANARY, write_series
from messages import error_of, others
from video_files import SOFT_TISSUE, ct_volume, run_command

from ssimrdo import InputError, SsimrdoError, Window, metrics, objective
from ssimrdo.codecs.base import QualityScale, UnsteeredCodec
from ssimrdo.codecs.lavc import LavcSession
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.comparison import Candidate, CompareSettings, ComparisonReport, compare, viewers
from ssimrdo.comparison.encoders import make_contenders
from ssimrdo.comparison.results import MachineFacts
from ssimrdo.comparison.series import SeriesOptions, SeriesTask, all_versions, run_series
from ssimrdo.errors import CancelledError
from ssimrdo.executors import DaskExecutor, InProcess, LocalExecutor, dask
from ssimrdo.observer import Observer

pytestmark = pytest.mark.filterwarnings("ignore")

SETTINGS = CompareSettings(
    preset="ultrafast",
    anchors=("x264", "jpeg2000"),
    tests=("ssim",),
    window=Window(*SOFT_TISSUE),
    slices=3,
)
FAST = ("--test", "ssim", "--preset", "ultrafast", "--window", "40/400", "--slices", "2")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three series; the middle one is cut short."""
    root = tmp_path_factory.mktemp("study")
    for number in range(3):
        volume = ct_volume(3 + number, 64, 96, seed=number)
        paths = write_series(root / f"{number}", volume, OperatorsName=f"{CANARY}^OPERATOR")
        if number == 1:
            paths[0].write_bytes(paths[0].read_bytes()[:-1000])
    return [root / f"{number}" for number in range(3)]


@pytest.fixture(scope="module")
def local(study):
    with compare(study, SETTINGS) as found:
        return found.report


@pytest.fixture
def workers(tmp_path):
    """Two workers that come back when they are killed."""
    with cluster(tmp_path) as dask:
        for _ in range(2):
            dask.add_worker("--nanny")
        with distributed.Client(dask.address) as client:
            client.wait_for_workers(2)
        yield dask.address


def measured(series):
    """Return what does not depend on the speed of a machine."""
    return [
        replace(
            one,
            speed={},
            curves={
                name: tuple(replace(point, seconds=0.0) for point in curve)
                for name, curve in one.curves.items()
            },
        )
        for one in series
    ]


def test_cluster_measures_what_this_machine_does(study, local, workers, tmp_path, caplog):
    events = []
    cache = tmp_path / "cache"
    executor = DaskExecutor(workers, 1)
    options = {"cache_folder": cache, "executor": executor}
    with compare(study, SETTINGS, **options, observer=Observer(events.append)) as found:
        report = found.report
        assert report.timing == "loaded"
        assert (report.encodes.made, report.encodes.cached) == (24, 0)
        assert measured(report.series) == measured(local.series)
        assert [bool(one.error) for one in report.series] == [False, True, False]
        assert report.machine == local.machine
        assert report.summary["ssim"].deltas == local.summary["ssim"].deltas
        # One event per series, in whatever order they are finished.
        assert [(event.done, event.total) for event in events] == [(12, 36), (24, 36), (36, 36)]
        assert sorted(event.what for event in events) == ["0", "1", "2"]
        # Slices come from the shared storage.
        assert set(viewers.viewers_of(found)) == {"0", "2"}
        assert len(list(found.decoded("2", "jpeg2000", 43.24))) == len(found.frames("2")) == 3
    assert CANARY not in json.dumps(report.to_json()) + caplog.text
    with compare(study, SETTINGS, **options) as found:
        assert (found.report.encodes.made, found.report.encodes.cached) == (0, 24)
    executor.shutdown()


class Deadly(Executor):
    """Hands a cluster calls that kill the worker at one of the series."""

    slots = 1

    def __init__(self, executor):
        self._executor = executor

    def submit(self, function, argument):
        assert function is run_series
        return self._executor.submit(die_at_2, argument)


def die_at_2(task: SeriesTask):
    if task.name == "2":
        os.kill(os.getpid(), signal.SIGKILL)
    return run_series(task)


def test_series_that_kills_its_workers_is_left_out(study, local, workers, caplog):
    executor = DaskExecutor(workers, 1)
    with compare([study[2], study[0]], SETTINGS, executor=Deadly(executor)) as found:
        killer, other = found.report.series
        assert killer.error == "the workers that ran it died, several times"
        assert measured([other]) == measured(local.series[:1])
        with pytest.raises(InputError, match="not on this machine: give cache_dir a folder"):
            found.decoded("0", "x264", 23)
    assert "2 is left out: the workers that ran it died" in caplog.text
    executor.shutdown()


def test_local_processes_and_a_killed_one(study, local):
    executor = LocalExecutor(2)
    with compare([study[2], study[0]], SETTINGS, executor=Deadly(executor)) as found:
        assert found.report.series[0].error == "the worker process died (SIGKILL)"
        assert measured(found.report.series)[1] == measured(local.series)[0]
    executor.shutdown()


def test_what_a_worker_warns_of_is_told_here_once(tmp_path, caplog):
    for name, windows in (("none", [None] * 2), ("two", [400, 80])):
        for number, (pixels, width) in enumerate(zip(ct_volume(2, 64, 96), windows, strict=True)):
            center = None if width is None else 40
            write_series(
                tmp_path / name / f"{number}",
                pixels[None],
                SeriesInstanceUID=f"1.2.3.{len(name)}",
                SOPInstanceUID=f"1.2.3.{len(name)}.{number}",
                ImagePositionPatient=[0, 0, number],
                WindowCenter=center,
                WindowWidth=width,
            )
    settings = replace(SETTINGS, window=None, anchors=("x264",), slices=2)
    for executor in (LocalExecutor(1), InProcess()):
        caplog.clear()
        with compare([tmp_path / "none", tmp_path / "two"], settings, executor=executor):
            pass
        executor.shutdown()
        told = [message for message in caplog.messages if "window" in message]
        assert len(told) == 2
        assert told[0].startswith("none: the header has no window")
        assert told[1].startswith("two: the windows in the header differ")


def test_processes_of_the_standard_library(study, local):
    """They can be told of a codec, an objective and an index that are registered here alone."""
    index = metrics.QualityIndex("largest", "Largest", largest_error, higher_is_better=False)
    aim = objective.Objective("even", "Even", no_theta, no_reference)
    metrics.register(index)
    try:
        settings = replace(SETTINGS, metrics=metrics.names())
        tests = ("ssim", Candidate(X264(preset="ultrafast"), aim), Candidate(Toy()))
        with (
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
            compare(study, replace(settings, tests=tests), executor=pool) as found,
        ):
            report = found.report
    finally:
        del metrics.registry._INDICES["largest"]
    assert [bool(one.error) for one in report.series] == [False, True, False]
    first = report.series[0]
    assert set(first.curves) == {"x264", "jpeg2000", "ssim", "x264+even", "toy"}
    assert first.curves["toy"][0].quality["largest"].worst > 0
    for here, there in zip(local.series[0].curves["ssim"], first.curves["ssim"], strict=True):
        assert here.bytes == there.bytes


def largest_error(pair):
    return float(np.abs(pair.source.astype(int) - pair.shown).max())


def no_theta(luma, frame_format):
    assert luma.shape == frame_format.shape
    return np.ones(frame_format.grid, np.float32)


def no_reference(frame_format):
    return float(frame_format.peak > 0)


class Toy(UnsteeredCodec):
    """FFmpeg's MPEG-1, by its quantizer."""

    name = "toy"
    label = "Toy"
    syntax = "mpegvideo"
    containers = ("matroska",)
    depths = (8,)
    sides = (16, 2048)
    version = "1"

    def scale(self, mode, bit_depth):
        assert bit_depth == 8
        if mode == "crf":
            return QualityScale(2, 31, step=1, default=6, whole=True)
        raise InputError("the toy knows CRF alone")

    def open(self, stream):
        options = {"qmin": f"{stream.rate.crf:g}", "qmax": f"{stream.rate.crf:g}"}
        return LavcSession("mpeg1video", stream, options, reordering=0)

    def describe(self, stream):
        return f"toy crf={stream.rate.crf:g}"


def test_a_comparison_on_an_executor_can_be_cancelled(study):
    observer = Observer()

    class Cancelling(InProcess):
        def submit(self, function, argument):
            observer.cancel.set()
            return super().submit(function, argument)

    told = []
    with (
        pytest.raises(CancelledError),
        compare(
            study,
            replace(SETTINGS, slices=1),
            executor=Cancelling(),
            observer=Observer(told.append, observer.cancel),
        ),
    ):
        pass
    assert len(told) <= 1


def test_command_on_a_cluster(study, workers, tmp_path, capfd):
    arguments = ("compare", *study, *FAST, "--dask", workers)
    done = run_command(capfd, *arguments, "-o", tmp_path / "a", "--cache-dir", tmp_path / "cache")
    assert done.status == 3
    assert done.out.startswith(f"{tmp_path / 'a'}: 2 series, 16 encodes\n")
    assert "on a loaded machine" in done.out
    assert done.err.startswith("ssimrdo: 1 is left out: a slice cannot be used: ")
    assert others(done.err).count("\n") == 1
    assert 'data-viewer="1"' in (tmp_path / "a/report.html").read_text()

    done = run_command(capfd, *arguments, "-o", tmp_path / "b", "--no-cache")
    assert done.status == 3
    assert "report.html shows no slices: the encodes are not on this machine" in done.err
    page = (tmp_path / "b/report.html").read_text()
    assert "No slices are shown: the encodes are not on this machine" in page
    assert "data-viewer=" not in page
    first, second = (
        ComparisonReport.from_json(json.loads((tmp_path / name / "report.json").read_text()))
        for name in "ab"
    )
    assert measured(first.series) == measured(second.series)
    assert first.command.endswith("--cache-dir cache")


def test_command_on_a_cluster_of_this_machine(study, tmp_path, capfd):
    arguments = ("compare", study[0], *FAST, "--dask", "local", "--jobs", "2", "--no-cache")
    done = run_command(capfd, *arguments, "-o", tmp_path / "report")
    assert done.status == 0
    assert done.out.startswith(f"{tmp_path / 'report'}: 1 series, 8 encodes\n")


def test_scheduler_that_does_not_answer(study, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(dask, "CONNECT_S", 1.0)
    arguments = ("compare", *study, *FAST, "--dask", "tcp://127.0.0.1:9", "-o", tmp_path / "a")
    done = run_command(capfd, *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("ssimrdo: error: tcp://127.0.0.1:9: ")
    assert error_of(done.err)
    assert list(tmp_path.iterdir()) == []


def test_worker_without_the_package_is_named(study, tmp_path, capfd):
    (tmp_path / "fake/ssimrdo").mkdir(parents=True)
    (tmp_path / "fake/ssimrdo/__init__.py").write_text("raise ImportError")
    with cluster(tmp_path) as dask:
        dask.add_worker("--no-nanny", PYTHONPATH=str(tmp_path / "fake"))
        with distributed.Client(dask.address) as client:
            client.wait_for_workers(1)
        arguments = ("compare", *study, *FAST, "--dask", dask.address, "-o", tmp_path / "a")
        done = run_command(capfd, *arguments)
    assert done.status == 2
    assert "has no ssimrdo, this is" in done.err
    assert not (tmp_path / "a").exists()


def test_cluster_that_is_lost(study, tmp_path):
    with cluster(tmp_path) as dask:
        dask.add_worker("--no-nanny")
        executor = DaskExecutor(dask.address, 1)

        def lose_it(event):
            assert event.done < event.total
            dask.scheduler.kill()

        with (
            pytest.raises(SsimrdoError, match="the cluster was lost; the same command goes on"),
            compare([study[0]] * 9, SETTINGS, executor=executor, observer=Observer(lose_it)),
        ):
            pass
        executor.stop()


def test_worker_with_another_library_refuses(study):
    contenders = make_contenders(SETTINGS)
    here = all_versions(contenders)
    task = SeriesTask(
        study[0], "0", 0, SeriesOptions(SETTINGS), contenders, SETTINGS.indices, None, here
    )
    assert run_series(task).outcome.error is None
    for library in ("x265", "encoder jpeg2000"):
        other = run_series(replace(task, versions={**here, library: "0.1"}))
        assert other.outcome.error == (
            f"the worker has {library} {here[library]}, the comparison has 0.1: "
            "install the same on both"
        )


def test_series_that_a_worker_cannot_see(study, tmp_path):
    with compare([study[0], tmp_path / "no"], SETTINGS, executor=InProcess()) as found:
        assert found.report.series[1].error == "no: no such file or folder: check the path"
    with (
        pytest.raises(InputError, match="no series can be compared: no: no: no such file"),
        compare([tmp_path / "no"], SETTINGS, executor=InProcess()),
    ):
        pass


class TwoMachines(InProcess):
    """Makes the results of series "0" and "2" come from machines that differ."""

    def submit(self, function, argument):
        reply = function(argument)
        machine = MachineFacts("C", {"0": 4, "2": 12}[argument.name])
        return super().submit(lambda _: replace(reply, machine=machine), argument)


def test_workers_with_other_numbers_of_cores_are_told(study, caplog):
    for threads, said in ((0, True), (1, False)):
        settings = replace(SETTINGS, threads=threads, slices=1)
        caplog.clear()
        with compare([study[0], study[2]], settings, executor=TwoMachines()) as found:
            assert found.report.machine == MachineFacts("C", "4 or 12")
        assert ("the workers have 4 or 12 cores" in caplog.text) == said


def test_the_page_shows_a_few_of_many_series(study, tmp_path, monkeypatch):
    monkeypatch.setattr(viewers, "MAX_SERIES", 1)
    with compare([study[0], study[2]], SETTINGS) as found:
        viewers.write_page(found, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "The first 1 of 2 series." in page
    assert page.count("data-viewer=") == 1
