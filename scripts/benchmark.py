"""Compare ssimrdo with other encoders on real CT; print tables in Markdown.

The series are the folders in $SSIMRDO_CT_DATA, with all their slices; x264 and ssimrdo get the same
QPs or CRFs, and figures are means over the series. The phantom is no patient: it takes part only
where --series names it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from benchmark_aims import AIMS, aims_table, peers_table, short_table
from benchmark_clips import (
    ROOT,
    chosen_series,
    compare_windowed,
    windowed_series,
)
from benchmark_script import (
    about,
    add_compare_options,
    command_line,
    compared,
    messages_to_stderr,
    update,
    wrapped,
)
from benchmark_tables import (
    MODE_NAMES,
    Target,
    bd_table,
    leave_one_out_table,
    pair_table,
    paper_table,
    target_table,
)

from ssimrdo.cli.options import flag_of
from ssimrdo.codecs.base import Mode
from ssimrdo.comparison import CompareSettings
from ssimrdo.comparison.output import write_report
from ssimrdo.comparison.report import TIMING_NOTES
from ssimrdo.comparison.results import ComparisonReport
from ssimrdo.comparison.viewers import write_page
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.files import check_folder_free, whole_folder
from ssimrdo.machine import cores

SCRIPT = "benchmark"

README = ROOT / "README.md"
METHOD = ROOT / "docs" / "method.md"
RESULTS = ROOT / "docs" / "results.md"

MODES: Sequence[Mode] = ("crf", "qp")
ANCHORS = ("x264", "x264-ssim", "x265", "svtav1", "svtav1-scm")
TESTS = ("ssim,preset=medium", "ssim", "balanced")
"""The first is what the paper's figures stand beside: x264's search with the offsets alone.

What the offsets alone save at constant QP has one definition: the mean over the real series, all
slices, of the BD-rate over mean SSIM against x264, both at QP 22, 27, 32 and 37.
"""

PEERS = (
    *("x264-ssim", "x265-untuned:medium", "x265-ssim:medium", "x265", "svtav1", "svtav1:4"),
    *("svtav1-scm", "jpeg2000", "htj2k", "jpegxl", "ct-j2k", "ct-htj2k"),
)
PEERS_TESTS = ("balanced", "balanced,effort=max")
PEERS_SLICES = 24

SLOW_X264 = ("x264-ssim:slow", "x264-ssim:slower", "x264-ssim:veryslow")
EFFORTS = (
    "balanced,effort=fast",
    "balanced",
    "balanced,effort=high",
    "balanced,effort=max",
    "ssim",
)
STRENGTHS = tuple(f"ssim,preset=medium,strength={s}" for s in (0.4, 0.5, 0.6, 0.72, 0.8, 0.9))
SWITCHES = (
    "ssim,preset=medium",
    *(
        f"ssim,preset=medium,{switch}"
        for switch in (
            "me=umh",
            "me=esa",
            "trellis=2",
            "trellis=2,subme=8",
            "trellis=2,subme=9",
            "trellis=2,subme=10",
            "partitions=all",
            "ref=1",
            "ref=6",
            "bframes=0",
            "bframes=1",
            "deblock=-1:-1",
            "deblock=-2:-2",
            "qcomp=0.5",
            "qcomp=0.7",
            "mbtree=0",
            "weightp=1",
            "chroma-me=0",
            "psy=1,psy-rd=0.2:0",
            "cqm=jvt",
        )
    ),
)
SWITCHES_SLICES = 24
TARGETS = (
    Target("qp", "ssim,preset=medium", ("x264",), -14, 1.05),
    Target("crf", "ssim,preset=medium", ("x264",), -14, 1.05),
    Target("crf", "ssim,preset=medium", ("x264-ssim",), -4, 1.05),
    Target("crf", "ssim", ("x264-ssim",), -14, 1.6),
    Target("crf", "ssim", ("x264",), -22, 1.6),
    Target("crf", "ssim,effort=max", ("svtav1",), 0, 1),
    Target("crf", "ssim", ("x264-ssim", *SLOW_X264), -8),
)
AIMS_ANCHORS = ("x264-ssim", "x264", "svtav1:6", "svtav1:4")
EXIT_SOME_FAILED = 3

# What each table of docs/method.md is made from, the first run first.
TABLE_RUNS = {
    "aims": (),
    "targets": ("crf", "qp"),
    "efforts": ("crf",),
    "strengths": ("strength",),
    "switches": ("switches",),
    "leave-one-out": ("strength",),
}


def run(
    series: list[Path],
    settings: CompareSettings,
    options: argparse.Namespace,
    folder: Path | None,
) -> ComparisonReport:
    """Compare in one mode, write the report if it is asked for, and return it."""
    print(f"benchmark: {MODE_NAMES[settings.mode]}, {len(series)} series", file=sys.stderr)
    with (
        compared(series, settings, options) as comparison,
        whole_folder(folder, overwrite=options.overwrite) if folder else nullcontext() as staged,
    ):
        report = replace(comparison.report, command=command_line(SCRIPT))
        if staged is not None:
            write_report(report, staged)
            write_page(replace(comparison, report=report), staged, called=flag_of)
    return report


def report_folders(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Path | None]:
    """Return where reports go, checked before any work is done for them."""
    if options.output is None:
        return dict.fromkeys(names)
    options.output.mkdir(parents=True, exist_ok=True)
    folders = {name: options.output / name for name in names}
    for folder in folders.values():
        check_folder_free(folder, overwrite=options.overwrite)
    return dict(folders)


def text_of(reports: list[ComparisonReport]) -> str:
    """Return the tables with what they were made from."""
    notes = dict.fromkeys(TIMING_NOTES.get(report.timing, "") for report in reports)
    about_bd = " ".join(
        [
            f"BD-rate against {reports[0].reference.label}, negative is a saving: mean over "
            "the series; for SSIM also median, worst series, and of five series or more the "
            "bootstrap interval of the mean, of fewer the range.",
            "Encode time is a multiple of the reference's.",
            *filter(None, notes),
        ]
    )
    about_paper = (
        "The paper's figures are for orthopaedic CT. Ours are means over the series: SSIM at "
        "every point of the curve, the difference in bit rate over the qualities that both "
        "curves reach."
    )
    parts = (
        wrapped(about(SCRIPT, *reports)),
        wrapped(about_bd),
        bd_table(reports),
        wrapped(about_paper),
        paper_table(reports),
    )
    return "\n\n".join(parts)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmark",
        description=__doc__,
        epilog="Example, a quick look: scripts/benchmark --slices 4 --mode qp --series phantom",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="write reports to FOLDER/crf, /qp; none of the aims",
    )
    add("--update", action="store_true", help="put the tables into README.md or docs/")
    add(
        "--method",
        action="store_true",
        help="the tables of docs/method.md instead: aims by tissue, on the phantom too and in two "
        "windows each, targets, efforts and leave-one-series-out",
    )
    add(
        "--table",
        action="append",
        choices=TABLE_RUNS,
        help="with --method: only this table; repeatable",
    )
    add(
        "--peers",
        action="store_true",
        help=f"only the table of the encoders themselves, still images and lossy CT among them, on "
        f"{PEERS_SLICES} slices of each series; a time only where nothing else ran",
    )
    add("--mode", action="append", choices=MODES, help="only this mode; repeatable")
    add_compare_options(parser, anchors=" ".join(ANCHORS), tests=" ".join(TESTS))
    add("--overwrite", action="store_true", help="replace existing reports")
    options = parser.parse_args()
    if options.table and not options.method:
        parser.error("--table goes with --method")
    if options.peers and options.method:
        parser.error("--peers and --method exclude each other")
    return options


def benchmark(options: argparse.Namespace) -> int:
    """Compare in every mode and print the tables; 3 if a series had to be left out."""
    series = chosen_series(options.series)
    settings = [
        CompareSettings(
            mode=mode,
            anchors=tuple(options.anchor or ANCHORS),
            tests=tuple(options.test or TESTS),
            slices=options.slices,
            jobs=options.jobs,
        )
        for mode in dict.fromkeys(options.mode or MODES)
    ]
    folders = report_folders(options, [one.mode for one in settings])
    reports = [run(series, one, options, folders[one.mode]) for one in settings]
    text = text_of(reports)
    print(text)
    if options.update:
        update(RESULTS, {"benchmark": text})
    return exit_status(reports)


def peers(options: argparse.Namespace) -> int:
    """Print the table of the encoders themselves; 3 if a series had to be left out."""
    settings = CompareSettings(
        anchors=tuple(options.anchor or PEERS),
        tests=tuple(options.test or PEERS_TESTS),
        slices=options.slices or PEERS_SLICES,
        jobs=options.jobs,
    )
    folders = report_folders(options, [settings.mode])
    report = run(chosen_series(options.series), settings, options, folders[settings.mode])
    notes = wrapped(
        f"BD-rate against {report.reference.label}, negative is a saving; behind a mean is how "
        "many series define it, where not all do: curves that share less than a quarter of their "
        "range have none."
    )
    text = f"{wrapped(about(SCRIPT, report))}\n\n{notes}\n\n{peers_table(report)}"
    print(text)
    if options.update:
        update(RESULTS, {"peers": text})
    return exit_status([report])


def exit_status(reports: Iterable[ComparisonReport]) -> int:
    """Return 3 if a series had to be left out."""
    failed = any(len(report.compared) < len(report.series) for report in reports)
    return EXIT_SOME_FAILED if failed else 0


def method(options: argparse.Namespace) -> int:
    """Print the tables of docs/method.md; 3 if a series had to be left out."""
    tables = list(dict.fromkeys(options.table or TABLE_RUNS))
    blocks, reports, numbers = {}, [], ""
    if "aims" in tables:
        block, report = aims(options)
        numbers = short_table(report)
        blocks["aims"] = block
        reports.append(report)
    if tables != ["aims"]:
        more, others = method_blocks(options, [name for name in tables if name != "aims"])
        blocks |= more
        reports += others
    print("\n\n".join(blocks.values()))
    if options.update:
        update(METHOD, blocks)
        if "aims" in blocks:
            update(README, {"numbers": numbers})
    return exit_status(reports)


def aims(options: argparse.Namespace) -> tuple[str, ComparisonReport]:
    """Return the text of the aims by tissue, and the report it is made from."""
    settings = CompareSettings(
        anchors=AIMS_ANCHORS,
        tests=tuple(aim.test for aim in AIMS),
        slices=options.slices,
        jobs=options.jobs,
    )
    clips = windowed_series(chosen_series(options.series, phantom=True))
    report = compare_windowed(
        clips, settings, lambda folders, one: run(folders, one, options, None)
    )
    notes = wrapped(
        "BD-rate against each of the encoders in the second column, mean over these clips; behind "
        "the mean is how many define it, where not all do, since not every clip has every tissue. "
        "“Largest” is the largest figure of any index or class, these and all others of a report, "
        "on any one clip. Time is a multiple of the other encoder's. "
        f"{TIMING_NOTES.get(report.timing, '')}"
    )
    return f"{wrapped(about(SCRIPT, report))}\n\n{notes}\n\n{aims_table(report)}", report


def method_blocks(
    options: argparse.Namespace, tables: Sequence[str]
) -> tuple[dict[str, str], list[ComparisonReport]]:
    """Return the texts of tables made from real series in their own windows, and the reports."""
    series = chosen_series(options.series)
    common = CompareSettings(slices=options.slices, jobs=options.jobs)
    untimed = replace(common, anchors=("x264-ssim",), jobs=cores())
    anchors = ("x264", "x264-ssim", "svtav1", *SLOW_X264)
    settings = {
        "crf": replace(common, anchors=anchors, tests=(TESTS[0], *EFFORTS)),
        "qp": replace(common, mode="qp", points=(), tests=TESTS),
        "strength": replace(untimed, tests=STRENGTHS),
        "switches": replace(untimed, tests=SWITCHES, slices=options.slices or SWITCHES_SLICES),
    }
    needed = [name for name in settings if any(name in TABLE_RUNS[table] for table in tables)]
    folders = report_folders(options, needed)
    reports = {name: run(series, settings[name], options, folders[name]) for name in needed}
    others = ("x264", "svtav1", *SLOW_X264, TESTS[0], *EFFORTS)

    def table_of(name: str, sources: Sequence[ComparisonReport]) -> str:
        report = sources[0]
        match name:
            case "targets":
                return target_table(sources, TARGETS)
            case "efforts":
                return pair_table(report, others, "x264-ssim")
            case "strengths":
                return pair_table(report, STRENGTHS, "x264-ssim", timed=False)
            case "switches":
                return pair_table(report, SWITCHES, "x264-ssim", timed=False)
            case _:
                return leave_one_out_table(report, STRENGTHS, "x264-ssim")

    blocks = {}
    for name in tables:
        sources = [reports[one] for one in TABLE_RUNS[name]]
        blocks[name] = f"{wrapped(about(SCRIPT, *sources))}\n\n{table_of(name, sources)}"
    return blocks, list(reports.values())


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = parse_arguments()
    # Unwinds, so that temporary files go away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    messages_to_stderr(SCRIPT)
    # SVT-AV1 would write its settings to stderr; there is no other switch.
    os.environ.setdefault("SVT_LOG", "1")
    try:
        work = method if options.method else peers if options.peers else benchmark
        return work(options)
    except (SsimrdoError, OSError) as error:
        text = error.text(flag_of) if isinstance(error, SsimrdoError) else str(error)
        print(f"benchmark: error: {' '.join(text.split())}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
