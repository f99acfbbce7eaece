"""``ssimrdo batch``: encode many series; ``status`` and ``prune``: what has come of it."""

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
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from ssimrdo.cli import EXIT_INTERRUPTED
from ssimrdo.cli.options import (
    GroupedCommand,
    dask_option,
    encode_options,
    encode_settings,
    json_option,
    max_hu_error_option,
    skip_bad_option,
    syntax_option,
)
from ssimrdo.cli.progress import regularly
from ssimrdo.cli.terminal import show, tell, write_to_stderr
from ssimrdo.errors import InputError
from ssimrdo.observer import Event, Observer
from ssimrdo.text import counted, duration_text, printable, size_text

if TYPE_CHECKING:
    from ssimrdo.batch import (
        BatchEvent,
        BatchRecord,
        BatchResult,
        CTSettings,
        Estimate,
        Plan,
        Totals,
    )
    from ssimrdo.encoding.settings import EncodeSettings

EXIT_SOME_FAILED: Final = 3

TWICE_S: Final = 0.1
UNWIND_S: Final = 2.0

JUST_NOW_S: Final = 5.0
"""Since a line was told, for which no other is to tell how far the work is."""

_EPILOG: Final = """\b
Examples:
  ssimrdo batch archive/ -o videos/ --crf 20 --jobs 8
  ssimrdo batch --manifest jobs.csv -o videos/ --dask tcp://scheduler:8786
  ssimrdo batch archive/ -o videos/ --suffix .dcm --skip-bad
  ssimrdo batch status videos/
"""


class BatchGroup(GroupedCommand, click.Group):
    """A command with options of its own, and others that its first argument may name."""

    allow_extra_args = False
    allow_interspersed_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, or leave those of another command to it."""
        if args and args[0] in self.commands:
            ctx.args = args
            return args
        return click.Command.parse_args(self, ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in groups, and the other commands."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Run this command, or the other one."""
        if not ctx.args:
            return click.Command.invoke(self, ctx)
        name, command, args = self.resolve_command(ctx, ctx.args)
        assert command is not None, "it is one of them"
        with command.make_context(name, args, parent=ctx) as below:
            return below.command.invoke(below)


class RootArgument(click.Argument):
    """The argument of the command itself, which stands in the usage of no other."""

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return what stands for it in a usage message."""
        return super().get_usage_pieces(ctx) if isinstance(ctx.command, BatchGroup) else []


@click.group(cls=BatchGroup, epilog=_EPILOG, invoke_without_command=True, subcommand_metavar="")
@click.argument("root", cls=RootArgument, required=False, type=click.Path())
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
    "--as",
    "kind",
    type=click.Choice(("video", "ct")),
    default="video",
    show_default=True,
    help="ct: folders NAME.ct of lossy CT images that keep HU; needs ssimrdo[archive].",
)
@max_hu_error_option
@syntax_option
@click.option(
    "--suffix",
    default=".mp4",
    show_default=True,
    metavar=".mp4|.mkv|.dcm|…",
    help="Of the videos; it tells the container: a DICOM object in .dcm, a raw stream in .h264, "
    ".hevc, .ivf or .obu.",
)
@click.option(
    "--name-template",
    metavar="TEXT",
    help="Names of the videos, such as {study_hash}/{series_number}. [default: as the folders]",
)
@skip_bad_option
@click.option(
    "--volumes",
    is_flag=True,
    help="Take .nii, .nii.gz, .npy and .npz files as well, whose values are taken for HU.",
)
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
    output: str | None,
    manifest: str | None,
    jobs: int | None,
    dask: str | None,
    kind: str,
    max_hu_error: str | None,
    syntax: str | None,
    suffix: str,
    name_template: str | None,
    skip_bad: bool,
    volumes: bool,
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
    """Encode every CT series below ROOT, also in zip and tar archives.

    A series of several phases gives an output for each. The same command again does what is
    missing or has changed. Results are in results.csv, results.jsonl and report.html. Ctrl-C
    finishes the series that are being encoded, a second one stops at once. Each series is encoded
    with one thread unless --threads gives more, so that outputs are the same on any machine. Exit
    status 3: some series failed.
    """
    if not output:
        raise click.UsageError("give the output folder with -o OUT_ROOT")
    if not root and manifest is None:
        raise click.UsageError("give ROOT, the folder to search, or --manifest")

    from ssimrdo import batch as batches

    settings = batches.BatchSettings(
        encode=_encode_settings(kind, options, max_hu_error=max_hu_error, syntax=syntax),
        jobs=jobs,
        dask=dask,
        suffix=suffix,
        name_template=name_template,
        skip_bad=skip_bad,
        volumes=volumes,
        timeout_s=timeout,
        fail_fast=fail_fast,
        retry_failed=retry_failed,
        keep_older=keep_older,
        inside_root=inside_root,
    )
    if dask is not None:
        _quieten_dask()
    if dry_run:
        plan, estimate = batches.dry_run(root or None, output, settings, manifest=manifest)
        _print_plan(plan, estimate, as_json)
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


def _encode_settings(
    kind: str, options: dict[str, Any], **only_ct: str | None
) -> EncodeSettings | CTSettings:
    if kind == "ct":
        from ssimrdo.batch import CTSettings

        return CTSettings.of(**options, **only_ct)
    for name, value in only_ct.items():
        if value is not None:
            raise InputError("is for CT images", field=name, remedy="give --as ct, or leave it out")
    return encode_settings(options)


def _quieten_dask() -> None:
    from ssimrdo.executors import quieten_dask

    # What is missing is said where the cluster is opened.
    with suppress(ImportError):
        quieten_dask()


def _text(result: BatchResult) -> str:
    totals = result.totals
    lines = [
        f"{result.output}: {totals.encoded} series encoded, {result.failed} failed, "
        f"{totals.done_before} done before"
    ]
    if totals.encoded:
        lines.append(
            f"  {size_text(totals.input_bytes)} of input, {size_text(totals.output_bytes)} of "
            f"output; {totals.slices / result.encoding_seconds:.1f} slices/s"
        )
    if result.stale:
        verb, them = ("is", "it") if result.stale == 1 else ("are", "them")
        lines.append(
            f"  {counted(result.stale, 'output')} {verb} not current: ssimrdo batch status "
            f"{result.output} names {them}, ssimrdo batch prune {result.output} removes {them}"
        )
    if result.interrupted:
        lines.append("  not all was done; the same command goes on from here")
    folder = result.output.rstrip("/")
    made = [f"{what} {folder}/{name}" for name, what in result.written.items()]
    again = ["--retry-failed tries what failed again"] if result.failed else []
    return "\n".join([*lines, f"  {'; '.join([*made, *again])}"])


def _print_plan(plan: Plan, estimate: Estimate, as_json: bool) -> None:
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
                    "orphaned": plan.orphaned,
                    "slices": plan.slices,
                    "input_bytes": plan.input_bytes,
                    "estimated_seconds": _rounded(estimate.seconds),
                }
            )
        )
        return
    for todo in plan.todo:
        size = size_text(todo.input_bytes)
        found = (
            f"{counted(todo.job.slices, 'slice')}, {size}" if todo.job.slices else "no CT series"
        )
        show(f"{todo.job.name} -> {todo.job.output}: {found}, {todo.why}")
    orphaned = f", {plan.orphaned} of series that are gone" if plan.orphaned else ""
    show(
        f"{len(plan.todo)} series to encode, {plan.done} done, {plan.failed} failed before"
        f"{orphaned}; {counted(plan.slices, 'slice')}, {size_text(plan.input_bytes)}"
    )
    if estimate.seconds is not None:
        show(f"about {duration_text(estimate.seconds)} ({estimate.basis})")
    elif plan.todo:
        show(f"no estimate of the time: {estimate.basis}")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


@batch.command(epilog="Example: ssimrdo batch status videos/")
@click.argument("out_root", type=click.Path())
@json_option
def status(out_root: str, as_json: bool) -> int:
    """Tell what has come of the batch in OUT_ROOT, also while it runs.

    Counts, sizes, failures with their reasons, and outputs that are not current: of series that
    are not found any more, or fail now. Exit status 3: some series failed.
    """
    from ssimrdo.batch import is_running, read_results, stale_outputs

    counts: Counter[str] = Counter()
    reasons: list[tuple[str, str]] = []
    for record in read_results(out_root):
        counts[record.status] += 1
        if record.status == "encoded":
            counts["slices"] += record.slices or 0
            counts["input"] += record.input_bytes or 0
            counts["output"] += record.output_bytes or 0
        elif record.status == "failed":
            reasons.append((record.output, record.reason))
    stale, running = list(stale_outputs(out_root)), is_running(out_root)
    if as_json:
        show(
            json.dumps(
                {
                    "output": out_root,
                    "running": running,
                    "encoded": counts["encoded"],
                    "failed": counts["failed"],
                    "slices": counts["slices"],
                    "input_bytes": counts["input"],
                    "output_bytes": counts["output"],
                    "failures": [{"output": name, "reason": reason} for name, reason in reasons],
                    "not_current": [{"output": one.output, "reason": one.reason} for one in stale],
                }
            )
        )
        return EXIT_SOME_FAILED if reasons else 0
    show(
        f"{out_root}: {counts['encoded']} series encoded, {counts['failed']} failed; "
        f"{size_text(counts['input'])} of input, {size_text(counts['output'])} of output; "
        f"{'a' if running else 'no'} batch is running"
    )
    for name, reason in reasons:
        show(f"  {name}: failed: {reason}")
    for one in stale:
        show(f"  {one.output}: not current: {one.reason}")
    if stale:
        show(f"ssimrdo batch prune {out_root} removes what is not current")
    return EXIT_SOME_FAILED if reasons else 0


@batch.command(epilog="Example: ssimrdo batch prune videos/ --dry-run")
@click.argument("out_root", type=click.Path())
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@json_option
def prune(out_root: str, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Remove outputs from OUT_ROOT that are not current, with their sidecars.

    These are outputs of series that the last run has not found any more, and of series that fail
    now. The batch's own results are written anew.
    """
    from ssimrdo import batch as batches

    stale = list(batches.stale_outputs(out_root))
    if stale and not (yes or dry_run):
        for one in stale:
            tell(f"{one.output}: {one.reason}")
        if sys.stdin is None or not sys.stdin.isatty():
            raise click.UsageError("nobody can be asked here: give --yes, or --dry-run")
        question = f"Remove {counted(len(stale), 'output')} from {out_root}?"
        if not click.confirm(printable(question), err=True):
            tell("nothing was removed")
            return 0
    if not dry_run and stale:
        stale = batches.prune(out_root, {one.output for one in stale})
    if as_json:
        removed = [{"output": one.output, "reason": one.reason} for one in stale]
        show(json.dumps({"output": out_root, "removed": removed, "dry_run": dry_run}))
        return 0
    for one in stale:
        show(f"{one.output}: {one.reason}")
    done = "would be removed" if dry_run else "removed"
    show(f"{out_root}: {counted(len(stale), 'output')} {done}")
    return 0


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
        with _lines() as show:
            yield of_batch(show)


def _log_json(event: BatchEvent) -> None:
    line: dict[str, Any] = {"event": event.kind, "time": round(time.time(), 3)}
    if event.job is not None:
        line |= {"series": event.job.told_name, "output": event.job.output}
    if event.record is not None:
        line["record"] = event.record.as_dict()
    line["totals"] = dataclasses.asdict(event.totals)
    write_to_stderr(json.dumps(line))


@contextmanager
def _lines() -> Iterator[Callable[[BatchEvent], None]]:
    """Show plain lines: what was found, each series as it is done, and what runs meanwhile."""
    started = time.monotonic()
    running: dict[str, float] = {}
    last: BatchEvent | None = None
    told_at = -math.inf

    def show(event: BatchEvent) -> None:
        nonlocal started, last, told_at
        last = event
        if event.kind == "planned":
            started = time.monotonic()
            tell(_planned(event.totals))
        elif event.kind == "stopping":
            tell("finishing the series that are being encoded; Ctrl-C stops at once")
        elif event.kind == "started" and event.job is not None:
            running[event.job.output] = time.monotonic()
            return
        elif event.kind == "finished" and event.record is not None:
            running.pop(event.record.output, None)
            tell(
                f"{_count(event.totals)} {_outcome(event.record)} ({_pace(event.totals, started)})"
            )
        if event.kind != "search":
            told_at = time.monotonic()

    def live() -> None:
        if last is None or time.monotonic() - told_at < JUST_NOW_S:
            return
        if last.kind == "search":
            tell(f"searching for series, {time.monotonic() - started:.0f} s so far")
        elif names := list(running):
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            tell(
                f"{_count(last.totals)} encoding {', '.join(names[:3])}{more} "
                f"({_pace(last.totals, started)})"
            )

    with regularly(live):
        yield show


def _count(totals: Totals) -> str:
    return f"[{totals.encoded + totals.failed}/{totals.todo}]"


def _pace(totals: Totals, started: float) -> str:
    """Return how fast slices are encoded, and how long the rest will take."""
    seconds = max(time.monotonic() - started, 1e-9)
    failed = f"{totals.failed} failed"
    if not totals.slices:
        return f"{seconds:.0f} s so far, {failed}"
    speed = totals.slices / seconds
    left = (totals.slices_todo - totals.slices - totals.slices_failed) / speed
    rest = duration_text(left) if left >= 60 else f"{left:.0f} s"
    shown = f", {rest} left" if left >= 0.5 else ""
    return f"{speed:.1f} slices/s{shown}, {failed}"


def _planned(totals: Totals) -> str:
    before = f", {totals.done_before} done" if totals.done_before else ""
    failed = f", {totals.failed_before} failed before" if totals.failed_before else ""
    slices = counted(totals.slices_todo, "slice")
    return f"{totals.todo} series to encode, {slices}{before}{failed}"


def _outcome(record: BatchRecord) -> str:
    from ssimrdo.batch.journal import mean_column
    from ssimrdo.batch.page import main_index

    if record.status == "failed":
        return printable(f"{record.output}: failed: {record.reason}")
    index = main_index()
    quality = f"{index.title} {record.quality[mean_column(index)]:.{index.decimals}f}"
    warned = f", warnings: {', '.join(record.warnings.split())}" if record.warnings else ""
    slices = counted(record.slices or 0, "slice")
    return printable(f"{record.output}: {slices}, {quality}{warned}")


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
                    note=counted(totals.slices_todo, "slice"),
                )
                progress.console.print(escape(f"ssimrdo: {_planned(totals)}"))
            elif event.kind == "stopping":
                progress.console.print("finishing what runs; Ctrl-C stops at once")
            elif event.kind == "started" and event.job is not None:
                name = escape(printable(event.job.output))
                note = counted(event.job.slices, "slice")
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
                    completed=totals.slices + totals.slices_failed,
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
