"""``ssimrdo compare``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ssimrdo.cli.options import (
    ChoiceOption,
    dask_option,
    encode_option,
    flag_of,
    index_names,
    json_option,
    objective_names,
    overwrite_option,
    quieten_svtav1,
    series_uid_option,
    skip_bad_option,
    value_of,
    verbose_option,
)
from ssimrdo.cli.progress import progress, tell_window
from ssimrdo.cli.terminal import show
from ssimrdo.codecs.x264.choices import PRESET, PRESETS
from ssimrdo.encoding.options import MAX_THREADS, RDO, WIDE_BIT_DEPTH
from ssimrdo.machine import cores
from ssimrdo.text import counted, printable

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ssimrdo.comparison import ComparisonReport
    from ssimrdo.comparison.results import SeriesSpread

EXIT_SOME_FAILED = 3

_EPILOG = """\b
Examples:
  ssimrdo compare chest/ head/ -o report --anchor x264 --anchor x264-ssim --anchor svtav1
  ssimrdo compare chest/ -o report --mode qp --preset slow --anchor x264 --anchor x265:slower
  ssimrdo compare chest/ -o report --anchor x264-ssim --anchor ct-htj2k --anchor jpegxl
  ssimrdo compare chest/ -o report --window full --protect lung,bone
  ssimrdo compare study/* -o report --dask tcp://scheduler:8786 --cache-dir /shared/cache
"""


class _NamingOption(ChoiceOption):
    """An option whose help names what is registered, looked up when the help is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return names and help."""
        from ssimrdo import metrics, objective
        from ssimrdo.comparison.encoders import ANCHORS

        record = super().get_help_record(ctx)
        if record is None:
            return None
        known = {
            "anchors": ANCHORS,
            "metrics": metrics.names(),
            "usual": metrics.usual_names(),
            "objectives": objective.names(),
        }
        shown = {name: ", ".join(values) for name, values in known.items()}
        return record[0], record[1].format(**shown)


def _anchor_names() -> Iterable[str]:
    from ssimrdo.comparison.encoders import ANCHORS

    return ANCHORS


@click.command(epilog=_EPILOG)
@click.argument("series", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="REPORT_FOLDER",
    help="Folder for report.json, rd_points.csv, bd_rates.csv and report.html.",
)
@click.option(
    "--mode",
    cls=ChoiceOption,
    default="crf",
    show_default=True,
    metavar="crf|qp|bitrate",
    help="Rate control of all encoders.",
)
@click.option(
    "--points",
    metavar="P,P,P,P",
    help="At least four CRFs or QPs on x264's scale, or rates in kbit/s. Other encoders get what "
    "gives about the same quality. [default: 18,23,28,33 for CRF, 22,27,32,37 for QP]",
)
@click.option(
    "--preset",
    default=PRESET,
    show_default=True,
    metavar="NAME",
    cls=ChoiceOption,
    names=lambda: PRESETS,
    help="Preset of x264, x265-ssim and x265-untuned where an anchor's name carries none.",
)
@click.option(
    "--anchor",
    "anchors",
    cls=_NamingOption,
    names=_anchor_names,
    multiple=True,
    default=("x264",),
    show_default=True,
    metavar="NAME[:PRESET]",
    help="What to compare with, one of {anchors}; repeatable, the first is the reference.",
)
@click.option(
    "--test",
    "tests",
    cls=_NamingOption,
    names=objective_names,
    multiple=True,
    metavar="RDO[,NAME=VALUE]",
    help="Variant of ssimrdo: off or an objective ({objectives}), alone or such as "
    "balanced,effort=max or ssim,preset=slow or edge,rdo_strength=0.3 or balanced,codec=hevc; "
    f"repeatable. [default: {RDO}; off where the codec follows no objective]",
)
@click.option(
    "--metric",
    "metrics",
    cls=_NamingOption,
    names=index_names,
    unshown=("--index",),
    multiple=True,
    metavar="NAME",
    help="Quality index, one of {metrics}; repeatable. [default: {usual}]",
)
@encode_option("codec")
@encode_option("window")
@encode_option("bit_depth")
@encode_option("protect")
@encode_option("fps")
@series_uid_option
@skip_bad_option
@click.option(
    "--slices", type=int, metavar="N", help="Only the first N slices of each series. [default: all]"
)
@click.option(
    "--threads",
    type=click.IntRange(0, MAX_THREADS),
    default=0,
    metavar="N",
    help="Threads of every encoder. [default: each chooses]",
)
@click.option(
    "--jobs",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Encodes at a time; with more than one, encoding times are not comparable.",
)
@dask_option
@click.option(
    "--cache-dir",
    type=click.Path(),
    metavar="FOLDER",
    help="Where encodes are kept for later runs. "
    "[default: $SSIMRDO_CACHE_DIR, else the user's cache]",
)
@click.option(
    "--cache-limit",
    type=click.FloatRange(min=0),
    default=5,
    show_default=True,
    metavar="GB",
    help="What is kept; what was used longest ago goes first.",
)
@click.option("--no-cache", is_flag=True, help="Encode everything anew and keep nothing.")
@overwrite_option
@json_option
@verbose_option
@click.pass_context
def compare(
    context: click.Context,
    /,
    series: tuple[str, ...],
    output: str,
    series_uid: str | None,
    skip_bad: bool,
    cache_dir: str | None,
    cache_limit: float,
    no_cache: bool,
    dask: str | None,
    overwrite: bool,
    as_json: bool,
    points: str | None,
    metrics: tuple[str, ...],
    codec: str | None,
    window: str | None,
    bit_depth: str | None,
    protect: str | None,
    fps: str | None,
    **options: Any,
) -> int:
    """Compare ssimrdo with other encoders on the CT series in the folders SERIES.

    Every encoder encodes the same frames at every point. Curves of rate and quality, BD-rates
    against the reference and encoding speed go to REPORT_FOLDER. A negative BD-rate is a saving.

    x265 is run at slow with --tune ssim; x265-tskip may also code small blocks without a transform,
    as our HEVC does. svtav1 is run at preset 6; svtav1-scm uses its screen-content tools as well,
    which takes several times as long. jpegxl takes an effort in place of a preset.
    vvenc, for VVC, needs an FFmpeg program that has it, or ssimrdo[vvc]. ct-htj2k and ct-j2k are
    lossy CT, which keeps all HU; their errors in HU are told as far as the window shows them.
    vvenc, htj2k, jpegxl, ct-htj2k and ct-j2k have no bit rate to aim at.

    On a Dask cluster each series is measured by one worker, which reads it from the same path;
    --cache-dir on storage that all share lets the report show slices. Encoding times are then not
    comparable. Exit status 3: some series failed.

    Series are named by the last component of their path; no patient data is reported.
    """
    if no_cache and cache_dir is not None:
        raise click.UsageError("--cache-dir and --no-cache exclude each other: give one")
    if cache_dir == "" or output == "" or "" in series:
        raise click.UsageError("a path is empty")

    from ssimrdo.comparison import CompareSettings, cache
    from ssimrdo.comparison import compare as compare_series
    from ssimrdo.comparison.output import write_report
    from ssimrdo.comparison.viewers import write_page
    from ssimrdo.dicom.grey import WIDE
    from ssimrdo.files import check_folder_free, whole_folder

    quieten_svtav1()
    if metrics:
        options["metrics"] = metrics
    options["tests"] = options["tests"] or None
    chosen = value_of("window", window)
    if bit_depth is None and chosen is not None and chosen.function == WIDE:
        bit_depth = f"{WIDE_BIT_DEPTH}"
    settings = CompareSettings(
        points=_points(points),
        codec=value_of("codec", codec),
        window=chosen,
        bit_depth=value_of("bit_depth", bit_depth),
        protect=None if protect is None else value_of("protect", protect),
        fps=value_of("fps", fps),
        **options,
    )
    folder = Path(output)
    check_folder_free(folder, overwrite=overwrite)
    cache_folder = None if no_cache else Path(cache_dir) if cache_dir else cache.default_folder()
    with (
        _executor(dask, settings.jobs) as executor,
        progress("reading", "encodes") as observer,
        compare_series(
            series,
            settings,
            series_uid=series_uid,
            skip_bad=skip_bad,
            cache_folder=cache_folder,
            cache_limit_bytes=round(cache_limit * 1e9),
            observer=observer,
            executor=executor,
        ) as found,
        whole_folder(folder, overwrite=overwrite) as staged,
    ):
        report = dataclasses.replace(found.report, command=_command_line(context))
        write_report(report, staged)
        write_page(dataclasses.replace(found, report=report), staged, called=flag_of)
    for one in report.compared:
        tell_window(one.window, one.window_source, name=one.name)
    show(json.dumps(_brief(report, folder)) if as_json else _text(report, folder))
    return EXIT_SOME_FAILED if len(report.compared) < len(report.series) else 0


def _executor(dask: str | None, jobs: int) -> AbstractContextManager[Executor | None]:
    if dask is None:
        return nullcontext()

    from ssimrdo.executors import open_executor, quieten_dask

    # What is missing is said where the cluster is opened.
    with suppress(ImportError):
        quieten_dask()
    return open_executor(max(cores() // jobs, 1), dask=dask)


def _points(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(
            f"--points {text[:40]!r}: give numbers separated by commas, such as 18,23,28,33"
        ) from None


def _command_line(context: click.Context) -> str:
    """Return the command as given, with every path reduced to its last component."""
    words = ["ssimrdo", "compare"]
    for parameter in context.command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        given = context.params.get(name, _FLAG)
        for value in given if isinstance(given, tuple) else (given,):
            if isinstance(parameter, click.Option):
                words.append(parameter.opts[-1] if len(parameter.opts) > 1 else parameter.opts[0])
            if value is _FLAG or isinstance(value, bool):
                continue
            if name == "series_uid":
                words.append("UID")  # It tells whose images these are.
                continue
            is_path = isinstance(parameter.type, click.Path)
            words.append(printable(Path(value).name or "." if is_path else value))
    return " ".join(words)


_FLAG = object()
"""Stands for options that take no value and reach no command."""


def _brief(report: ComparisonReport, folder: Path) -> dict[str, Any]:
    """Return the report without the curves of single slices, which only the file holds."""
    record = report.to_json()
    for one in record["series"]:
        for curve in one["curves"].values():
            for point in curve:
                del point["per_slice"]
    return {"output": str(folder), **record}


_TIMING_HINTS = {"loaded": ", on a loaded machine", "mixed": ", partly of earlier runs"}


def _text(report: ComparisonReport, folder: Path) -> str:
    made, cached = report.encodes.made, report.encodes.cached
    width = max(len(encoder.name) for encoder in report.encoders)
    lines = [
        f"{folder}: {len(report.compared)} series, {counted(made, 'encode')}"
        + (f" and {cached} from the cache" if cached else ""),
        f"BD-rate in % against {report.reference.name}, mean over series; speed as a multiple of it"
        + _TIMING_HINTS.get(report.timing, ""),
        "  ".join([" " * width, *(f"{delta:>13}" for delta in report.deltas), "speed"]),
    ]
    for encoder in report.others:
        summary = report.summary[encoder.name]
        means = (summary.deltas[delta].rate_percent.mean for delta in report.deltas)
        cells = ["undefined" if mean is None else f"{mean:+.2f}" for mean in means]
        lines.append(
            "  ".join(
                [
                    f"{encoder.name:{width}}",
                    *(f"{cell:>13}" for cell in cells),
                    f"{summary.speed:5.2f}",
                ]
            )
        )
    lines += _class_lines(report)
    deltas = (
        bd for one in report.compared for by_delta in one.bd.values() for bd in by_delta.values()
    )
    lines += [f"note: {note}" for note in sorted({bd.reason for bd in deltas if bd.reason})]
    return "\n".join(lines)


def _class_lines(report: ComparisonReport) -> list[str]:
    """Return a table of the BD-rates by class, a line for each class."""
    from ssimrdo.comparison.classes import CLASSES

    shown = [
        one for one in CLASSES if any(one.name in spreads for spreads in report.classes.values())
    ]
    if not shown:
        return []
    title = max(len(one.title) for one in shown)
    columns = [max(len(encoder.name), 9) for encoder in report.others]
    heads = (f"{one.name:>{size}}" for one, size in zip(report.others, columns, strict=True))
    lines = ["BD-rate in % by class, mean over series", "  ".join([" " * title, *heads])]
    for one in shown:
        cells = (
            f"{_signed(report.classes[encoder.name].get(one.name)):>{size}}"
            for encoder, size in zip(report.others, columns, strict=True)
        )
        lines.append("  ".join([f"{one.title:{title}}", *cells]))
    return lines


def _signed(spread: SeriesSpread | None) -> str:
    return "undefined" if spread is None or spread.mean is None else f"{spread.mean:+.2f}"
