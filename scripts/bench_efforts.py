"""Ask of each effort of HEVC what the other series would choose in its time, and print a table.

Candidates are x265's presets with the offsets, and the efforts with one thing changed. Of those
that take no more time than the effort, the best on all series but one is tried on that one.
Series are those of $SSIMRDO_CT_DATA and the phantom, in two windows each.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Final

from benchmark_clips import (
    ROOT,
    chosen_series,
    compare_windowed,
    folder_name,
    windowed_series,
)
from benchmark_pairs import compare_pair, leave_one_out
from benchmark_script import (
    about,
    add_compare_options,
    compared,
    exit_status,
    messages_to_stderr,
    update,
    wrapped,
)
from benchmark_tables import labels_of, table

from ssimrdo.codecs.x265.effort import EFFORTS
from ssimrdo.comparison import CompareSettings
from ssimrdo.comparison.results import ComparisonReport
from ssimrdo.encoding.options import RDO
from ssimrdo.html.text import percent

SCRIPT: Final = "bench_efforts"
PAGE: Final = ROOT / "docs" / "method.md"
BLOCK: Final = "hevc-efforts"

SLICES: Final = 12

REFERENCE: Final = "x264-ssim"

TOLERANCE: Final = 1.03
"""Encode times differ by as much from run to run."""

_HEVC: Final = f"{RDO},codec=hevc"

_DECISIONS: Final = ",".join(f"{name}={value}" for name, value in EFFORTS["fast"].options)
"""As the efforts decide; ``fast`` changes nothing else in its preset."""

OWN: Final = tuple(f"{_HEVC},effort={effort}" for effort in EFFORTS)
"""The efforts, as a comparison names them."""

OTHERS: Final = tuple(
    f"{_HEVC},{change}"
    for change in (
        *(f"preset={preset},{_DECISIONS}" for preset in ("veryfast", "faster")),
        "preset=slow,tskip=1",
        "effort=default,rdoq-level=1",
        "effort=default,tu-intra-depth=2,tu-inter-depth=2",
        "effort=high,limit-modes=0",
        "effort=high,max-merge=5",
        "effort=max,limit-refs=0",
        "effort=max,limit-refs=3",
        "effort=max,limit-modes=1",
    )
)
"""What could be in their place."""


def measured(options: argparse.Namespace, settings: CompareSettings) -> ComparisonReport:
    """Return the report over all clips."""

    def run(folders: list[Path], one: CompareSettings) -> ComparisonReport:
        with compared(folders, one, options) as comparison:
            return comparison.report

    return compare_windowed(
        windowed_series(chosen_series(options.series, phantom=True)), settings, run
    )


def choices_table(report: ComparisonReport, own: Sequence[str], tests: Sequence[str]) -> str:
    """Return each effort beside what series that have no part in the choice get, in Markdown.

    Parameters
    ----------
    report : ComparisonReport
        Of clips of two or more series.
    own : sequence of str
        Names of the efforts.
    tests : sequence of str
        Names of all that there is to choose from, the efforts among them.
    """
    reference, labels = report.reference.name, labels_of(report)
    pairs = {test: compare_pair(report, test, reference) for test in tests}
    rows = []
    for effort in own:
        limit = pairs[effort].time * TOLERANCE
        fast_enough = [test for test in tests if pairs[test].time <= limit]
        chosen = leave_one_out(report, fast_enough, reference, left_out=folder_name)
        counted = Counter(test for test, _ in chosen.values())
        rows.append(
            (
                labels[effort],
                f"{pairs[effort].time:.2f}\u202f×",
                percent(pairs[effort].mean_rate),
                percent(fmean(rate for _, rate in chosen.values())),
                ", ".join(
                    f"{labels[test]} ({count} of {len(chosen)})"
                    for test, count in counted.most_common()
                ),
            )
        )
    return table(["", "time", "SSIM", "chosen without the series", "which is"], rows)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=SCRIPT,
        description=__doc__,
        epilog="Example, a quick look: scripts/bench_efforts --slices 4 --series phantom "
        "--series head-tilt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--update", action="store_true", help="put the table into docs/method.md")
    add_compare_options(
        parser,
        anchors=REFERENCE,
        tests="x265's presets, efforts with a change",
        slices=SLICES,
    )
    return parser.parse_args()


def work(options: argparse.Namespace) -> None:
    """Compare, print the table, and write it if that is asked for."""
    settings = CompareSettings(
        anchors=tuple(options.anchor or (REFERENCE,)),
        tests=(*OWN, *(options.test or OTHERS)),
        slices=options.slices,
        jobs=options.jobs,
    )
    report = measured(options, settings)
    tests = [one.name for one in report.encoders if one.role == "test"]
    text = f"{wrapped(about(SCRIPT, report))}\n\n{choices_table(report, tests[: len(OWN)], tests)}"
    print(text)
    if options.update:
        update(PAGE, {BLOCK: text})


def main() -> int:
    """Run the comparison and return the exit status."""
    options = parse_arguments()
    messages_to_stderr(SCRIPT)
    return exit_status(SCRIPT, partial(work, options))


if __name__ == "__main__":
    sys.exit(main())
