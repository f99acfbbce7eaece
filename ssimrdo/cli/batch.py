"""``ssimrdo batch``: encode many series; ``ssimrdo batch status``: what has come of it."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click

from ssimrdo.cli.options import (
    dask_option,
    encode_options,
    encode_settings,
    json_option,
    skip_bad_option,
)
from ssimrdo.cli.terminal import show, tell, write_to_stderr
from ssimrdo.observer import Event, Observer
from ssimrdo.text import printable

if TYPE_CHECKING:
    from ssimrdo.batch import BatchEvent, BatchRecord, BatchResult, Plan, Totals
    from ssimrdo.encoding.settings import EncodeSettings

EXIT_SOME_FAILED: Final = 3
EXIT_INTERRUPTED: Final = 130

TWICE_S: Final = 0.1
UNWIND_S: Final = 2.0

GUESSED_SLICES_PER_S: Final = MappingProxyType({"default": 30.0, "high": 25.0, "max": 19.0})
"""Of one job with one thread at 512x512, by effort, until a batch has measured its own."""

GUESSED_OTHERS: Final = 50.0
"""The same without any of these efforts."""

GUESSED_SEARCH: Final = 10
"""Encodes that the search for a quality takes."""

_EPILOG: Final = """\b
Examples:
  ssimrdo batch archive/ -o videos/ --crf 20 --jobs 8
  ssimrdo batch --manifest jobs.csv -o videos/ --dask tcp://scheduler:8786
  ssimrdo batch status videos/
"""


@click.command(epilog=_EPILOG)
@click.argument("root", required=False, type=click.Path())
@click.argument("status_of", required=False, type=click.Path(), metavar="")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="OUT_ROOT",
    help="Folder or URL for the videos, their sidecars and the results; made if need be.",
)
@click.option(
    "--manifest",
    type=click.Path(),
    metavar="FILE",
    help="Series with options of their own: .csv, .jsonl or .yaml. ROOT is then what its "
    "relative paths are relative to.",
)
@click.option(
    "--jobs", type=int, metavar="N", help="Series at once. [default: as many as the cores allow]"
)
@dask_option
@encode_options
@click.option(
    "--suffix",
    default=".mp4",
    show_default=True,
    metavar=".mp4|.mkv|…",
    help="Of the videos; it tells the container, a raw stream in .h264 or .hevc.",
)
@click.option(
    "--name-template",
    metavar="TEXT",
    help="Names of the videos, such as {study_hash}/{series_number}. [default: as the folders]",
)
@skip_bad_option
@click.option(
    "--timeout", type=float, metavar="SECONDS", help="Give up on a series that takes longer."
)
@click.option("--fail-fast", is_flag=True, help="Start no more series once one has failed.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed before.")
@click.option(
    "--keep-older",
    is_flag=True,
    help="Keep outputs of an older model instead of encoding their series again.",
)
@click.option("--inside-root", is_flag=True, help="Allow OUT_ROOT to lie below ROOT.")
@click.option("--dry-run", is_flag=True, help="List what would be encoded, and how long it takes.")
@click.option("--json-log", is_flag=True, help="Progress as one JSON object per line on stderr.")
@json_option
def batch(
    root: str | None,
    status_of: str | None,
    output: str | None,
    manifest: str | None,
    jobs: int | None,
    dask: str | None,
    suffix: str,
    name_template: str | None,
    skip_bad: bool,
    timeout: float | None,
    fail_fast: bool,
    retry_failed: bool,
    keep_older: bool,
    inside_root: bool,
    dry_run: bool,
    json_log: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Encode every CT series below ROOT; "batch status OUT_ROOT" tells what has come of it.

    The same command again does what is missing or has changed. Results are in results.csv,
    results.jsonl and report.html. Ctrl-C finishes the series that are being encoded, a second
    one stops at once. Each series is encoded with one thread unless --threads gives more, so that
    outputs are the same on any machine. Exit status 3: some series failed.
    """
    if status_of is not None:
        if root != "status":
            raise click.UsageError(f"unexpected argument {status_of[:60]!r}: give one ROOT")
        return _status(status_of, as_json)
    if not output:
        raise click.UsageError("give the output folder with -o OUT_ROOT")
    if not root and manifest is None:
        raise click.UsageError("give ROOT, the folder to search, or --manifest")

    from ssimrdo import batch as batches

    settings = batches.BatchSettings(
        encode=encode_settings(options),
        jobs=jobs,
        dask=dask,
        suffix=suffix,
        name_template=name_template,
        skip_bad=skip_bad,
        timeout_s=timeout,
        fail_fast=fail_fast,
        retry_failed=retry_failed,
        keep_older=keep_older,
        inside_root=inside_root,
    )
    if dask is not None:
        _quieten_dask()
    if dry_run:
        plan, speed = batches.dry_run(root or None, output, settings, manifest=manifest)
        _print_plan(plan, speed, _guess(settings.encode), settings.workers, as_json)
        return 0 if all(todo.job.slices for todo in plan.todo) else EXIT_SOME_FAILED
    try:
        with _stop_at_ctrl_c() as stop, _shown(json_log) as tell_of:
            observer = Observer(tell_of, stop)
            result = batches.run(
                root or None, output, settings, manifest=manifest, observer=observer
            )
    except KeyboardInterrupt:
        tell("stopped; what is done is kept, the same command goes on")
        return EXIT_INTERRUPTED
    show(json.dumps(dataclasses.asdict(result)) if as_json else _text(result))
    if result.interrupted and stop.is_set():
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if result.failed else 0


def _quieten_dask() -> None:
    from ssimrdo.executors import quieten_dask

    # What is missing is said where the cluster is opened.
    with suppress(ImportError):
        quieten_dask()


def _guess(settings: EncodeSettings) -> float:
    """Return slices per second and job that are to be expected."""
    from ssimrdo.encoding.settings import Floor

    effort = settings.codec.options().get("effort") or ""
    guess = GUESSED_SLICES_PER_S.get(effort, GUESSED_OTHERS)
    return guess / GUESSED_SEARCH if isinstance(settings.rate, Floor) else guess


def _text(result: BatchResult) -> str:
    from ssimrdo.batch.page import duration_text, size_text

    totals = result.totals
    lines = [
        f"{result.output}: {totals.encoded} series encoded, {result.failed} failed, "
        f"{totals.done_before} done before"
    ]
    if totals.encoded:
        lines.append(
            f"  {size_text(totals.input_bytes)} to {size_text(totals.output_bytes)} in "
            f"{duration_text(result.seconds)}, {totals.slices / result.seconds:.1f} slices/s"
        )
    if totals.failed_before:
        lines.append(f"  {totals.failed_before} failed before; --retry-failed tries them again")
    if result.interrupted:
        lines.append("  not all was done; the same command goes on from here")
    return "\n".join(lines).replace("\u202f", " ")


def _print_plan(plan: Plan, speed: float | None, guess: float, workers: int, as_json: bool) -> None:
    from ssimrdo.batch.page import duration_text, size_text

    seconds = plan.slices / (speed or guess) / min(workers, max(len(plan.todo), 1))
    if as_json:
        listed = [
            {
                "series": todo.job.name,
                "output": todo.job.output,
                "why": todo.why,
                "slices": todo.job.slices,
                "input_bytes": todo.input_bytes,
            }
            for todo in plan.todo
        ]
        show(
            json.dumps(
                {
                    "todo": listed,
                    "done": plan.done,
                    "failed_before": plan.failed,
                    "slices": plan.slices,
                    "input_bytes": plan.input_bytes,
                    "estimated_seconds": round(seconds, 1),
                }
            )
        )
        return
    for todo in plan.todo:
        size = size_text(todo.input_bytes).replace("\u202f", " ")
        found = f"{todo.job.slices} slices, {size}" if todo.job.slices else "no CT series found"
        show(f"{todo.job.name} -> {todo.job.output}: {found}, {todo.why}")
    basis = "as measured here before" if speed else "a guess until some are encoded"
    show(
        f"{len(plan.todo)} series to encode, {plan.done} done, {plan.failed} failed before; "
        f"{plan.slices} slices, {size_text(plan.input_bytes)}, about {duration_text(seconds)} "
        f"({speed or guess:.0f} slices/s and job, {basis})".replace("\u202f", " ")
    )


def _status(folder: str, as_json: bool) -> int:
    from ssimrdo.batch import is_running, read_results
    from ssimrdo.batch.page import size_text

    counts: Counter[str] = Counter()
    reasons: list[tuple[str, str]] = []
    for record in read_results(folder):
        counts[record.status] += 1
        counts["slices"] += record.slices or 0
        counts["input"] += record.input_bytes or 0
        counts["output"] += record.output_bytes or 0
        if record.status == "failed":
            reasons.append((record.output, record.reason))
    running = is_running(folder)
    if as_json:
        show(
            json.dumps(
                {
                    "output": folder,
                    "running": running,
                    "encoded": counts["encoded"],
                    "failed": counts["failed"],
                    "slices": counts["slices"],
                    "input_bytes": counts["input"],
                    "output_bytes": counts["output"],
                    "failures": [{"output": name, "reason": reason} for name, reason in reasons],
                }
            )
        )
    else:
        show(
            f"{folder}: {counts['encoded']} series encoded, {counts['failed']} failed; "
            f"{size_text(counts['input'])} to {size_text(counts['output'])}; "
            f"a batch is {'running' if running else 'not running'}".replace("\u202f", " ")
        )
        for name, reason in reasons:
            show(f"  {name}: {reason}")
    return EXIT_SOME_FAILED if reasons else 0


@contextmanager
def _stop_at_ctrl_c() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; the second interrupts, and no more after that."""
    stop = threading.Event()
    quiet_until = -math.inf

    def request(signal_number: int, frame: FrameType | None) -> None:
        nonlocal quiet_until
        del signal_number, frame
        now = time.monotonic()
        if now < quiet_until:
            return
        if stop.is_set():
            quiet_until = now + UNWIND_S
            raise KeyboardInterrupt
        # One that comes twice at a time is one.
        quiet_until = now + TWICE_S
        stop.set()

    previous = signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _shown(json_log: bool) -> Iterator[Callable[[Event], None]]:
    """Yield what shows events: as JSON lines, as bars on a terminal, or as plain lines."""
    from ssimrdo.batch import BatchEvent

    def of_batch(show: Callable[[BatchEvent], None]) -> Callable[[Event], None]:
        def tell(event: Event) -> None:
            assert isinstance(event, BatchEvent), "a batch tells no others"
            show(event)

        return tell

    if json_log:
        yield of_batch(_log_json)
    elif sys.stderr is not None and sys.stderr.isatty():
        with _bars() as show:
            yield of_batch(show)
    else:
        yield of_batch(_Lines().show)


def _log_json(event: BatchEvent) -> None:
    line: dict[str, Any] = {"event": event.kind, "time": round(time.time(), 3)}
    if event.job is not None:
        line |= {"series": event.job.told_name, "output": event.job.output}
    if event.record is not None:
        line["record"] = event.record.as_dict()
    line["totals"] = dataclasses.asdict(event.totals)
    write_to_stderr(json.dumps(line))


class _Lines:
    """Plain lines: what was found, and each series as it is done."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def show(self, event: BatchEvent) -> None:
        """Write what a person would want to find in a log."""
        totals = event.totals
        if event.kind == "planned":
            self._started = time.monotonic()
            tell(_planned(totals))
        elif event.kind == "stopping":
            tell("finishing the series that are being encoded; Ctrl-C stops at once")
        elif event.kind == "finished" and event.record is not None:
            seconds = max(time.monotonic() - self._started, 1e-9)
            done = totals.encoded + totals.failed
            left = (totals.slices_todo - totals.slices) * seconds / max(totals.slices, 1)
            tell(
                f"[{done}/{totals.todo}] {_outcome(event.record)} "
                f"({totals.slices / seconds:.1f} slices/s, {left:.0f} s left, "
                f"{totals.failed} failed)"
            )


def _planned(totals: Totals) -> str:
    before = f", {totals.done_before} done" if totals.done_before else ""
    failed = f", {totals.failed_before} failed before" if totals.failed_before else ""
    return f"{totals.todo} series to encode, {totals.slices_todo} slices{before}{failed}"


def _outcome(record: BatchRecord) -> str:
    from ssimrdo.batch.journal import mean_column
    from ssimrdo.batch.page import main_index

    if record.status == "failed":
        return printable(f"{record.output}: failed: {record.reason}")
    index = main_index()
    quality = f"{index.title} {record.quality[mean_column(index)]:.{index.decimals}f}"
    warned = f", warnings: {', '.join(record.warnings.split())}" if record.warnings else ""
    return printable(f"{record.output}: {record.slices} slices, {quality}{warned}")


@contextmanager
def _bars() -> Iterator[Callable[[BatchEvent], None]]:
    """Show an overall bar, the running jobs below it, and failures as they come above it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        overall = progress.add_task("searching", total=None, note="")
        running: dict[str, TaskID] = {}
        # Log messages and the bars share the terminal.
        handler = _ConsoleHandler(lambda text: progress.console.print(escape(text)))
        logger = logging.getLogger("ssimrdo")
        previous, logger.handlers = logger.handlers, [handler]
        started = time.monotonic()

        def show(event: BatchEvent) -> None:
            nonlocal started
            totals = event.totals
            if event.kind == "planned":
                started = time.monotonic()
                progress.update(
                    overall,
                    description="encoding",
                    total=totals.slices_todo,
                    note=f"{totals.slices_todo} slices",
                )
                progress.console.print(escape(f"ssimrdo: {_planned(totals)}"))
            elif event.kind == "stopping":
                progress.console.print("finishing what runs; Ctrl-C stops at once")
            elif event.kind == "started" and event.job is not None:
                name = escape(printable(event.job.output))
                note = f"{event.job.slices} slices"
                running[event.job.output] = progress.add_task(f"  {name}", total=None, note=note)
            elif event.kind == "finished" and event.record is not None:
                task = running.pop(event.record.output, None)
                if task is not None:
                    progress.remove_task(task)
                if event.record.status == "failed":
                    progress.console.print(f"[red]{escape(_outcome(event.record))}")
                speed = totals.slices / max(time.monotonic() - started, 1e-9)
                progress.update(
                    overall,
                    completed=totals.slices,
                    note=f"{totals.slices}/{totals.slices_todo} slices, {speed:.1f} slices/s, "
                    f"{totals.encoded + totals.failed}/{totals.todo} series, "
                    f"{totals.failed} failed",
                )

        try:
            yield show
        finally:
            logger.handlers = previous


class _ConsoleHandler(logging.Handler):
    """Hands log messages to a function."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._print = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        self._print(printable(f"ssimrdo: {record.getMessage()}"))
