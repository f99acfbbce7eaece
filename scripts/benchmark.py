"""Compare ssimrdo with other encoders on real CT and on the phantom; print tables in Markdown.

The series are the folders in $SSIMRDO_CT_DATA and data/phantom, with all their slices.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
import textwrap
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmark_tables import (
    MODE_NAMES,
    Target,
    bd_table,
    leave_one_out_table,
    pair_table,
    paper_table,
    replace_block,
    target_table,
)

from ssimrdo.cli.compare import encode_progress
from ssimrdo.compare import CompareSettings, cache, compare
from ssimrdo.compare.record import check_folder, report_folder, write_report
from ssimrdo.compare.viewers import write_page
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.html.text import TIMING_NOTES

ROOT = Path(__file__).resolve().parents[1]
PHANTOM = ROOT / "data" / "phantom"
README = ROOT / "README.md"
METHOD = ROOT / "docs" / "method.md"
VARIABLE = "SSIMRDO_CT_DATA"

MODES = ("crf", "qp")
ANCHORS = ("x264", "x264-ssim", "x265", "svtav1")
TESTS = ("ssim,preset=medium", "ssim")
"""The first is what the paper's figures stand beside: offsets alone."""

SLOW_X264 = ("x264-ssim:slow", "x264-ssim:slower", "x264-ssim:veryslow")
EFFORTS = ("ssim,effort=fast", "ssim", "ssim,effort=high", "ssim,effort=max")
STRENGTHS = tuple(f"ssim,preset=medium,strength={s}" for s in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9))
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
EXIT_SOME_FAILED = 3


def all_series() -> list[Path]:
    """Return the folders of $SSIMRDO_CT_DATA and the phantom."""
    data = os.environ.get(VARIABLE)
    if not data:
        raise InputError(f"{VARIABLE} is not set: let it name a folder with CT series in folders")
    try:
        folders = sorted(path for path in Path(data).iterdir() if path.is_dir())
    except OSError as error:
        raise InputError(f"{VARIABLE}={data}: cannot be read: {error.strerror}") from error
    if not folders:
        raise InputError(f"{VARIABLE}={data}: holds no folder with a CT series")
    return [*folders, PHANTOM]


def chosen_series(names: list[str]) -> list[Path]:
    """Return the series of these names, all for none."""
    found = all_series()
    known = {path.name: path for path in found}
    for name in names:
        if name not in known:
            raise InputError(f"--series {name!r} is unknown: use one of {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)] if names else found


def run(
    series: list[Path],
    settings: CompareSettings,
    options: argparse.Namespace,
    folder: Path | None,
) -> dict[str, Any]:
    """Compare in one mode, write the report if it is asked for, and return it."""
    print(f"benchmark: {MODE_NAMES[settings.mode]}, {len(series)} series", file=sys.stderr)
    cache_folder = None if options.no_cache else cache.default_folder()
    with (
        encode_progress() as advance,
        compare(series, settings, cache_folder=cache_folder, progress=advance) as comparison,
        report_folder(folder, overwrite=options.overwrite) if folder else nullcontext() as staged,
    ):
        report = comparison.report
        report["command"] = command_line()
        if staged is not None:
            write_report(report, staged)
            write_page(comparison, staged)
    return report


def report_folders(options: argparse.Namespace, names: list[str]) -> dict[str, Path | None]:
    """Return where reports go, checked before any work is done for them."""
    if options.output is None:
        return dict.fromkeys(names)
    options.output.mkdir(parents=True, exist_ok=True)
    folders = {name: options.output / name for name in names}
    for folder in folders.values():
        check_folder(folder, overwrite=options.overwrite)
    return dict(folders)


def command_line() -> str:
    """Return the command as given, without the folders that paths lie in."""
    words = []
    for word in sys.argv[1:]:
        option, is_assigned, value = word.partition("=")
        if option.startswith("-") and is_assigned:
            words.append(f"{option}={Path(value).name}")
        else:
            words.append(Path(word).name)
    return shlex.join(["scripts/benchmark", *words])


def about(report: dict[str, Any]) -> str:
    """Return when, how and from what tables were made."""
    good = [one for one in report["series"] if one["error"] is None]
    series = ", ".join(f"{one['name']} ({one['slices']} slices)" for one in good)
    machine = f"{report['machine']['cores']} cores of {report['machine']['cpu']}"
    return (
        f"Made on {datetime.now().astimezone():%Y-%m-%d} by "
        f"`{VARIABLE}=… {command_line()}` on {machine}. Series: {series}."
    )


def text_of(reports: list[dict[str, Any]]) -> str:
    """Return the tables with what they were made from."""
    first = reports[0]
    made = about(first)
    notes = dict.fromkeys(TIMING_NOTES.get(report["timing"], "") for report in reports)
    about_bd = " ".join(
        [
            f"BD-rate against {first['encoders'][0]['label']}, negative is a saving: mean over "
            "the series; for SSIM also median, worst series and bootstrap interval of the mean.",
            "Encode time is a multiple of the reference's.",
            *filter(None, notes),
        ]
    )
    about_paper = (
        "The paper's figures are for orthopaedic CT. Ours are means over the series: SSIM at "
        "every point of the curve, the difference in bit rate over the qualities that both "
        "curves reach."
    )
    parts = (wrapped(made), wrapped(about_bd), bd_table(reports), wrapped(about_paper))
    return "\n\n".join([*parts, paper_table(reports)])


def wrapped(text: str) -> str:
    """Return a paragraph in lines as long as the README's."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def update(page: Path, blocks: dict[str, str]) -> None:
    """Put texts into their blocks of a page."""
    text = page.read_text()
    try:
        for name, block in blocks.items():
            text = replace_block(text, block, name=name)
    except ValueError as error:
        raise InputError(f"{page.name} {error}") from error
    temporary = page.with_name(f".{page.name}.partial")
    try:
        temporary.write_text(text)
        temporary.replace(page)
    finally:
        temporary.unlink(missing_ok=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmark",
        description=__doc__,
        epilog="Example, a quick look: scripts/benchmark --slices 4 --mode qp --series phantom",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("-o", "--output", type=Path, metavar="FOLDER", help="write reports to FOLDER/crf and /qp")
    add("--update", action="store_true", help="put the tables into README.md or docs/method.md")
    add(
        "--method",
        action="store_true",
        help="the tables of docs/method.md instead: targets, efforts and leave-one-series-out, on "
        f"the series of {VARIABLE} alone",
    )
    add("--mode", action="append", choices=MODES, help="only this mode; repeatable")
    add("--series", action="append", default=[], metavar="NAME", help="only this; repeatable")
    add("--slices", type=int, metavar="N", help="only the first N slices of each series")
    add(
        "--anchor",
        action="append",
        metavar="NAME",
        help="another encoder, the first of which "
        f"is the reference; repeatable [default: {' '.join(ANCHORS)}]",
    )
    add(
        "--test",
        action="append",
        metavar="RDO",
        help=f"another variant of ssimrdo; repeatable [default: {' '.join(TESTS)}]",
    )
    add(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="encodes at a time; above 1 encoding times are not comparable [default: 1]",
    )
    add("--no-cache", action="store_true", help="encode and time everything anew")
    add("--overwrite", action="store_true", help="replace existing reports")
    return parser.parse_args()


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
        update(README, {"benchmark": text})
    return exit_status(reports)


def exit_status(reports: list[dict[str, Any]]) -> int:
    """Return 3 if a series had to be left out."""
    failed = any(one["error"] for report in reports for one in report["series"])
    return EXIT_SOME_FAILED if failed else 0


def method(options: argparse.Namespace) -> int:
    """Print the tables of docs/method.md; 3 if a series had to be left out."""
    series = [path for path in chosen_series(options.series) if path != PHANTOM]
    common = {"slices": options.slices, "jobs": options.jobs}
    untimed = {**common, "jobs": os.cpu_count() or 1}
    anchors = ("x264", "x264-ssim", "svtav1", *SLOW_X264)
    settings = {
        "crf": CompareSettings(anchors=anchors, tests=(TESTS[0], *EFFORTS), **common),
        "qp": CompareSettings(mode="qp", tests=TESTS, **common),
        "strength": CompareSettings(anchors=("x264-ssim",), tests=STRENGTHS, **untimed),
        "switches": CompareSettings(
            anchors=("x264-ssim",),
            tests=SWITCHES,
            **{**untimed, "slices": options.slices or SWITCHES_SLICES},
        ),
    }
    folders = report_folders(options, list(settings))
    reports = {name: run(series, one, options, folders[name]) for name, one in settings.items()}
    others = ("x264", "svtav1", *SLOW_X264, TESTS[0], *EFFORTS)
    crf, strength, switches = (reports[name] for name in ("crf", "strength", "switches"))
    sources_and_tables = {
        "targets": (crf, target_table([crf, reports["qp"]], TARGETS)),
        "efforts": (crf, pair_table(crf, others, "x264-ssim")),
        "strengths": (strength, pair_table(strength, STRENGTHS, "x264-ssim", timed=False)),
        "switches": (switches, pair_table(switches, SWITCHES, "x264-ssim", timed=False)),
        "leave-one-out": (strength, leave_one_out_table(strength, STRENGTHS, "x264-ssim")),
    }
    blocks = {
        name: f"{wrapped(about(source))}\n\n{table}"
        for name, (source, table) in sources_and_tables.items()
    }
    print("\n\n".join(blocks.values()))
    if options.update:
        update(METHOD, blocks)
    return exit_status(list(reports.values()))


def main() -> int:
    """Run the benchmark and return the exit status."""
    options = parse_arguments()
    # Unwinds, so that temporary files go away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    logging.basicConfig(format="benchmark: %(message)s")
    # pydicom quotes the header values it complains about, and these may name a patient.
    logging.getLogger("pydicom").propagate = False
    try:
        return (method if options.method else benchmark)(options)
    except (SsimrdoError, OSError) as error:
        print(f"benchmark: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
