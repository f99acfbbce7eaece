"""Stress ssimrdo batch and measure its cost; exit status 1 if a target is missed.

Parts: kill (kill -9 of the main process at random moments, resumed each time), throughput (two
jobs over one), overhead (a batch over the bare encodes), memory (of the main process over the
number of simulated jobs), scan (headers read per second) and cluster (what a Dask scheduler
spends on a simulated job). With --store s3, these are left for batches from and to an S3 server on
the loopback interface, which is busy at times, and whose main process is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from ssimrdo.batch import BatchSettings, lock, runner
from ssimrdo.batch.discover import discover
from ssimrdo.batch.inside import FoundSeries
from ssimrdo.batch.job import BatchJob
from ssimrdo.batch.journal import BatchRecord, Journal, write_table
from ssimrdo.batch.plan import jobs_of_found, make_plan
from ssimrdo.batch.store import store_of
from ssimrdo.encoding.encode import encode
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.executors import DaskExecutor, LocalExecutor
from ssimrdo.files import PARTIAL
from ssimrdo.machine import cores
from ssimrdo.observer import Observer
from ssimrdo.phantom import PhantomSettings, write_phantom

ROOT = Path(__file__).resolve().parent.parent
SSIMRDO = str(Path(sys.executable).with_name("ssimrdo"))
PHANTOM = ROOT / "data" / "phantom"
PARTS = ("kill", "throughput", "overhead", "memory", "scan", "cluster")


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    series: int = 1000
    kills: int = 20
    encodes: int = 30
    repeats: int = 3
    jobs: int = 10_000
    files: int = 4000
    tasks: int = 2000
    stored: int = 60
    store_kills: int = 3


QUICK = Size(
    series=60,
    kills=5,
    encodes=6,
    repeats=1,
    jobs=1000,
    files=1000,
    tasks=200,
    stored=12,
    store_kills=1,
)


@dataclass(frozen=True)
class Line:
    """One line of the report: what, how much, and whether that is what it should be."""

    what: str
    value: str
    target: str = ""
    met: bool = True


def main() -> int:
    """Run the parts asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="little of everything; a trial")
    parser.add_argument("--store", choices=("s3",), help="stress batches on this kind of store")
    parser.add_argument("--seed", type=int, default=None, help="of the moments of the kills")
    arguments = parser.parse_args()
    parts = ["store"] if arguments.store else arguments.only.split(",")
    if unknown := set(parts) - {*PARTS, "store"}:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    size = QUICK if arguments.quick else Size()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    measures: dict[str, Callable[[Path], Iterator[Line]]] = {
        "kill": lambda folder: kill(folder, size, random.Random(seed)),
        "throughput": lambda folder: throughput(folder, size),
        "overhead": lambda folder: overhead(folder, size),
        "memory": lambda folder: memory(folder, size),
        "scan": lambda folder: scan(folder, size),
        "cluster": lambda folder: cluster(folder, size),
        "store": lambda folder: store(folder, size, random.Random(seed)),
    }
    good = True
    print(f"seed {seed}, {cores()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    for part in parts:
        with tempfile.TemporaryDirectory(prefix="stress-") as name:
            for line in measures[part](Path(name)):
                verdict = "" if not line.target else "met" if line.met else "MISSED"
                print(f"{line.what}: {line.value}  {line.target} {verdict}".rstrip(), flush=True)
                good = good and line.met
    return 0 if good else 1


def note(message: str) -> None:
    """Tell the user how far the stress is."""
    print(f"stress_batch: {message}", file=sys.stderr, flush=True)


# Kills


def kill(folder: Path, size: Size, rng: random.Random) -> Iterator[Line]:
    """Kill the main process at random moments and resume; compare with an uninterrupted run."""
    root, whole, out = folder / "in", folder / "whole", folder / "out"
    note(f"writing {size.series} series")
    write_small_series(root, size.series)
    note("one run without interruption")
    finish(start(root, whole))
    # Most kills are spread over the work, some over the search at the start of a run.
    early = size.kills // 5
    targets: list[int | None] = [*sorted(rng.sample(range(1, size.series), size.kills - early))]
    for _ in range(early):
        targets.insert(rng.randrange(len(targets) + 1), None)
    done: dict[str, tuple[int, int]] = {}
    changed: set[str] = set()
    for number, target in enumerate(targets, 1):
        kill_at(start(root, out), out, target, rng)
        # The lock comes free when no job of the killed run is left.
        out.mkdir(exist_ok=True)
        with lock.exclusive(out):
            now = finished(out)
        changed |= {name for name, state in done.items() if now.get(name) != state}
        done = now
        note(f"kill {number} of {len(targets)}: {len(done)} outputs finished")
    finish(start(root, out))
    now = finished(out)
    changed |= {name for name, state in done.items() if now.get(name) != state}
    lost = set(finished(whole)) - set(now)
    differing = [
        name
        for name in now
        if (out / name).read_bytes() != (whole / name).read_bytes() or not is_valid(out / name)
    ]
    left = [path for path in out.rglob("*") if PARTIAL.fullmatch(path.name)]
    lines = (out / "results.jsonl").read_text().splitlines()
    journalled = len({json.loads(line)["output"] for line in lines})
    yield Line("kills, each resumed", f"{len(targets)}")
    yield Line("outputs", f"{len(now)}", f"= {size.series}", len(now) == size.series)
    yield Line("outputs lost", f"{len(lost)}", "= 0", not lost)
    yield Line("encoded again once complete", f"{len(changed)}", "= 0", not changed)
    yield Line("not valid or not as without kills", f"{len(differing)}", "= 0", not differing)
    yield Line("temporary files left", f"{len(left)}", "= 0", not left)
    yield Line(
        "outputs in the journal", f"{journalled}", f"= {size.series}", journalled == size.series
    )


def store(folder: Path, size: Size, rng: random.Random) -> Iterator[Line]:
    """Run batches from and to S3, with faults and kills; compare with one from folder to folder."""
    # Installed for tests only.
    s3_server: Any = import_module("s3_server")
    fsspec: Any = import_module("fsspec")

    root, whole = folder / "in", folder / "whole"
    note(f"writing {size.stored} series")
    write_small_series(root, size.stored)
    started = time.monotonic()
    finish(start(root, whole))
    yield Line("folder to folder, series per second", f"{size.stored / passed(started):.2f}")
    with s3_server.s3_server() as proxy:
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
            "AWS_ACCESS_KEY_ID": "stress",
            "AWS_SECRET_ACCESS_KEY": "stress",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        bucket = fsspec.filesystem("s3", use_listings_cache=False)
        bucket.mkdir("stress")
        bucket.put(f"{root}/", "stress/in/", recursive=True)
        proxy.seen.clear()
        started = time.monotonic()
        finish(start("s3://stress/in", "s3://stress/plain"))
        yield Line("S3 to S3, series per second", f"{size.stored / passed(started):.2f}")
        yield Line("requests per series of three slices", f"{len(proxy.seen) / size.stored:.0f}")
        proxy.fault = lambda _, __, number: "503" if number % 20 == 7 else None
        started = time.monotonic()
        finish(start("s3://stress/in", "s3://stress/busy"))
        yield Line("the same, 5 % answered with 503", f"{size.stored / passed(started):.2f}")
        for number in range(size.store_kills):
            process = start("s3://stress/in", "s3://stress/killed")
            assert process.stderr is not None
            wanted = rng.randrange(1, max(size.stored // (size.store_kills + 1), 2))
            for line in process.stderr:
                wanted -= '"finished"' in line
                if wanted <= 0:
                    break
            process.kill()
            process.wait()
            process.stderr.close()
            note(f"kill {number + 1} of {size.store_kills}; waiting for its lock to grow old")
            time.sleep(lock.STALE_S + 1)
        finish(start("s3://stress/in", "s3://stress/killed"))
        proxy.fault = lambda *_: None
        expected = {path.relative_to(whole).as_posix() for path in whole.rglob("*.mp4")}
        for name in ("plain", "busy", "killed"):
            place = f"stress/{name}/"
            stored = [path for path in bucket.find(place) if path.endswith(".mp4")]
            other = [
                path
                for path in stored
                if bucket.cat_file(path) != (whole / path.removeprefix(place)).read_bytes()
            ]
            lost = expected - {path.removeprefix(place) for path in stored}
            yield Line(f"{name}: outputs lost", f"{len(lost)}", "= 0", not lost)
            yield Line(f"{name}: other bytes than in folders", f"{len(other)}", "= 0", not other)
    yield Line("kills, each resumed", f"{size.store_kills}")


def passed(since: float) -> float:
    """Return the seconds since a moment."""
    return time.monotonic() - since


def write_small_series(root: Path, count: int) -> None:
    """Write series of three 64x64 slices of a phantom, each with noise of its own."""
    source = root.parent / "source"
    write_phantom(source, PhantomSettings(slices=12, size=64))
    slices = [pydicom.dcmread(path) for path in sorted(source.iterdir())]
    for number in range(count):
        folder = root / f"study{number // 25:03d}" / f"ct{number % 25:02d}"
        folder.mkdir(parents=True)
        rng = np.random.default_rng(number)
        for index in range(3):
            data = slices[number % 10 + index].copy()
            noise = rng.integers(-20, 21, data.pixel_array.shape)
            data.PixelData = (data.pixel_array + noise).astype("<i2").tobytes()
            data.SeriesInstanceUID = generate_uid(entropy_srcs=["stress", str(number)])
            data.SOPInstanceUID = generate_uid(entropy_srcs=["stress", str(number), str(index)])
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
            data.save_as(folder / f"{index}.dcm", enforce_file_format=True)


def start(root: Path | str, out: Path | str, *options: str) -> subprocess.Popen[str]:
    """Start a batch that tells its events as JSON."""
    return subprocess.Popen(
        [SSIMRDO, "batch", str(root), "-o", str(out), "--json-log", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Wait for a batch and return its events."""
    assert process.stderr is not None
    with process.stderr:
        events = [json.loads(line) for line in process.stderr if line.startswith("{")]
    if process.wait() != 0:
        sys.exit(f"stress_batch: a batch ended with status {process.returncode}")
    return events


def kill_at(
    process: subprocess.Popen[str], out: Path, target: int | None, rng: random.Random
) -> None:
    """Kill a batch when so many outputs are there; without a number, while it starts."""
    assert process.stderr is not None
    if target is None:
        time.sleep(rng.uniform(0.1, 3.0))
    else:
        for line in process.stderr:
            if '"finished"' in line and len(finished(out)) >= target:
                break
        time.sleep(rng.uniform(0, 0.03))
    process.kill()
    process.wait()
    process.stderr.close()


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Return what tells of each complete output whether it was written again."""
    states = {}
    for sidecar in out.rglob("*.json"):
        video = sidecar.with_suffix(".mp4")
        try:
            size = json.loads(sidecar.read_text())["bytes"]
            status = video.stat()
        except (OSError, ValueError):
            continue
        if status.st_size == size:
            states[video.relative_to(out).as_posix()] = status.st_ino, status.st_mtime_ns
    return states


def is_valid(video: Path) -> bool:
    """Tell whether FFmpeg decodes all slices of a small series."""
    import av

    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0)) == 3


# Speed


def write_copies(root: Path, count: int) -> None:
    """Make folders with the phantom's 24 slices of 512x512; copies are series of their own."""
    for number in range(count):
        (root / f"{number:03d}").mkdir(parents=True)
        for path in PHANTOM.glob("*.dcm"):
            shutil.copyfile(path, root / f"{number:03d}" / path.name)


def seconds_between_series(events: list[dict[str, Any]], jobs: int) -> float:
    """Return the time from when every worker has finished a series to the end, per series."""
    times = [event["time"] for event in events if event["event"] == "finished"]
    seconds: float = times[-1] - times[jobs - 1]
    return seconds / (len(times) - jobs)


def throughput(folder: Path, size: Size) -> Iterator[Line]:
    """Compare two jobs with one, in turns; the least disturbed run of each counts."""
    write_copies(folder / "in", size.encodes)
    best = dict.fromkeys((1, 2), float("inf"))
    for repeat in range(size.repeats):
        for jobs in best:
            out = folder / f"out{repeat}{jobs}"
            events = finish(start(folder / "in", out, "--jobs", str(jobs)))
            seconds = seconds_between_series(events, jobs)
            best[jobs] = min(best[jobs], seconds)
            note(f"throughput: {seconds:.3f} s per series with {jobs} jobs")
    # What else runs on the machine only ever makes an encode slower.
    ratio = best[1] / best[2]
    yield Line("slices per second, one job", f"{24 / best[1]:.1f}")
    yield Line("throughput of two jobs over one", f"{ratio:.2f}", ">= 1.8", ratio >= 1.8)


def overhead(folder: Path, size: Size) -> Iterator[Line]:
    """Compare a batch of one job with the same encodes in a loop, in turns."""
    root = folder / "in"
    write_copies(root, size.encodes)
    settings = EncodeSettings(threads=1)
    (folder / "bare").mkdir()
    shares = []
    for repeat in range(size.repeats):
        times = []
        for series in sorted(root.iterdir()):
            encode(series, folder / "bare" / f"{series.name}.mp4", settings, overwrite=True)
            times.append(time.time())
        bare = (times[-1] - times[0]) / (len(times) - 1)
        events = finish(start(root, folder / f"out{repeat}", "--jobs", "1"))
        batch = seconds_between_series(events, 1)
        shares.append(100 * (batch / bare - 1))
        note(f"overhead: {bare:.3f} s bare, {batch:.3f} s in a batch, per series")
    share = statistics.median(shares)
    yield Line("time of a batch over bare encodes", f"{share:+.1f} %", "<= 3 %", share <= 3)


# Memory and overhead with simulated jobs


def simulate(job: BatchJob) -> BatchRecord:
    """Do nothing, and say it was done."""
    return BatchRecord(
        output=job.output,
        series=job.name,
        status="encoded",
        slices=100,
        input_bytes=10**8,
        output_bytes=10**6,
        quality={"ssim_mean": 0.97, "ssim_min": 0.9},
        seconds=0.01,
    )


def simulated_jobs(folder: Path, count: int) -> Iterator[BatchJob]:
    """Yield jobs as those of a search that found so many series."""
    founds = (
        FoundSeries(f"/archive/{n // 40:06d}/{n:09d}", f"1.2.3.{n}", "1.2", n, None, 100, True)
        for n in range(count)
    )
    return jobs_of_found(founds, "/archive", str(folder), BatchSettings())


def run_simulated(folder: Path, count: int, executor: Executor) -> tuple[float, float]:
    """Run simulated jobs from plan to journal; return the seconds and processor time of running."""
    folder.mkdir()
    with Journal(folder / "results.jsonl") as journal:
        out = store_of(folder)
        plan = make_plan(simulated_jobs(folder, count), out, journal, retry_failed=False)
        started, used = time.perf_counter(), time.process_time()
        runner.run_jobs(
            (todo.job for todo in plan.todo),
            executor,
            journal,
            runner.Totals(),
            observer=Observer(),
            function=simulate,
        )
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        write_table(journal, folder / "results.csv")
    return seconds, cpu


def memory(folder: Path, size: Size) -> Iterator[Line]:
    """Compare the peak memory of main processes that ran few and many jobs."""
    peaks = {}
    for count in (100, size.jobs):
        command = [sys.executable, __file__, "--simulate", str(count), str(folder / f"{count}")]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks[count] = json.loads(done.stdout)
    few, many = peaks.values()
    ratio = many["peak_mb"] / few["peak_mb"]
    yield Line("peak memory of the main process, 100 jobs", f"{few['peak_mb']:.0f} MB")
    yield Line(f"the same, {size.jobs} jobs", f"{many['peak_mb']:.0f} MB")
    yield Line("ratio", f"{ratio:.2f}", "<= 1.1", ratio <= 1.1)
    yield Line("time per job", f"{1000 * many['seconds'] / size.jobs:.2f} ms")
    yield Line("main process, CPU per job", f"{1000 * many['cpu'] / size.jobs:.2f} ms")


def simulate_and_tell(count: int, folder: Path) -> None:
    """Run simulated jobs on two processes and print what this one took."""
    with LocalExecutor(2) as executor:
        seconds, cpu = run_simulated(folder, count, executor)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mb": peak, "seconds": seconds, "cpu": cpu}))


def cluster(folder: Path, size: Size) -> Iterator[Line]:
    """Measure what a Dask scheduler spends on a simulated job."""
    # Untyped.
    psutil: Any = import_module("psutil")

    file = folder / "scheduler.json"
    base = [sys.executable, "-m"]
    scheduler = subprocess.Popen(
        [
            *base,
            "distributed.cli.dask_scheduler",
            *("--host", "127.0.0.1", "--port", "0", "--no-dashboard"),
            *("--scheduler-file", str(file)),
        ],
        stderr=subprocess.DEVNULL,
    )
    workers = []
    try:
        while not file.exists() or not file.read_text().endswith("}"):
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        workers = [
            subprocess.Popen(
                [
                    *base,
                    "distributed.cli.dask_worker",
                    *(address, "--nthreads", "1", "--no-nanny", "--no-dashboard"),
                    *("--local-directory", str(folder)),
                ],
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            )
            for _ in range(2)
        ]
        executor = DaskExecutor(address, 2)
        executor.wait_for_workers(2)
        run_simulated(folder / "warm", 50, executor)
        process = psutil.Process(scheduler.pid)
        before, used = process.cpu_times(), process.memory_info().rss
        seconds, main_cpu = run_simulated(folder / "run", size.tasks, executor)
        after = process.cpu_times()
        cpu = after.user + after.system - before.user - before.system
        grown = process.memory_info().rss - used
        executor.shutdown()
    finally:
        for one in (*workers, scheduler):
            one.kill()
            one.wait()
    yield Line("simulated jobs through Dask", f"{size.tasks / seconds:.0f} per second")
    yield Line("main process, CPU per job", f"{1000 * main_cpu / size.tasks:.2f} ms")
    yield Line("scheduler's CPU per job", f"{1000 * cpu / size.tasks:.2f} ms")
    yield Line("scheduler's memory grew by", f"{grown / 1e6:.1f} MB")


def scan(folder: Path, size: Size) -> Iterator[Line]:
    """Measure headers read per second, from a warm cache, with workers that have started."""
    # Untyped.
    psutil: Any = import_module("psutil")

    def used() -> float:
        children = psutil.Process().children(recursive=True)
        times = [one.cpu_times() for one in (psutil.Process(), *children)]
        return float(sum(one.user + one.system for one in times))

    sources = sorted(PHANTOM.glob("*.dcm"))
    root = folder / "in"
    # Folders that are alike: a series in parts would be looked at once more.
    per_folder = 8 * len(sources)
    files = size.files - size.files % per_folder
    for number in range(files):
        copy, index = divmod(number, per_folder)
        path = root / f"{copy:03d}" / f"{index:03d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sources[index % len(sources)], path)
    executor = LocalExecutor(BatchSettings().workers)
    speeds, costs = [], []
    for _ in range(1 + size.repeats):
        before, started = used(), time.perf_counter()
        found = discover(store_of(root), executor)
        speeds.append(files / (time.perf_counter() - started))
        costs.append(used() - before)
        assert sum(one.slices for one in found) == files
    executor.shutdown()
    speed = statistics.median(speeds[1:])
    yield Line("headers per second", f"{speed:.0f}", ">= 2000", speed >= 2000)
    cpu = statistics.median(costs[1:])
    yield Line("all processes, CPU per header", f"{1e6 * cpu / files:.0f} µs")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--simulate"]:
        simulate_and_tell(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main())
