"""What the scripts that measure say of themselves, where their tables go, and how they end."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from benchmark_clips import VARIABLE
from benchmark_tables import points_text, replace_block

from ssimrdo.cli.progress import progress
from ssimrdo.comparison import CompareSettings, Comparison, cache, compare
from ssimrdo.comparison.results import ComparisonReport
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.files import write_whole


def exit_status(name: str, work: Callable[[], None]) -> int:
    """Do the work of a script and return its exit status.

    Parameters
    ----------
    name : str
        Of the script, which its error is told with.
    work : callable
        Measures and prints.

    Returns
    -------
    int
        0 good, 1 failed, 2 bad input, 130 interrupted.
    """
    try:
        work()
    except (SsimrdoError, OSError) as error:
        print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 130
    return 0


def messages_to_stderr(name: str) -> None:
    """Log to stderr under the name of a script."""
    logging.basicConfig(format=f"{name}: %(message)s")
    # pydicom quotes the header values it complains about, and these may name a patient.
    logging.getLogger("pydicom").propagate = False


def add_compare_options(
    parser: argparse.ArgumentParser, *, anchors: str, tests: str, slices: int | None = None
) -> None:
    """Add the options of scripts that compare encoders on series.

    Parameters
    ----------
    parser : ArgumentParser
        Gets the options.
    anchors, tests : str
        What is compared without them, as the help says it.
    slices : int, optional
        How many of each series are compared by default; all where it is None.
    """
    add = parser.add_argument
    default = "" if slices is None else f" [default: {slices}]"
    add(
        "--slices",
        type=int,
        default=slices,
        metavar="N",
        help=f"only the first N slices of each series{default}",
    )
    add("--series", action="append", default=[], metavar="NAME", help="only this; repeatable")
    add(
        "--anchor",
        action="append",
        metavar="NAME",
        help="another encoder, the first of which is the reference; repeatable "
        f"[default: {anchors}]",
    )
    add(
        "--test",
        action="append",
        metavar="RDO",
        help=f"another variant of ssimrdo; repeatable [default: {tests}]",
    )
    add(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="encodes at a time; above 1 encoding times are not comparable [default: 1]",
    )
    add("--no-cache", action="store_true", help="encode and time everything anew")


def cache_folder(options: argparse.Namespace) -> Path | None:
    """Return where encodes are kept, None with ``--no-cache``."""
    return None if options.no_cache else cache.default_folder()


@contextmanager
def compared(
    folders: Sequence[Path], settings: CompareSettings, options: argparse.Namespace
) -> Iterator[Comparison]:
    """Compare with a bar on stderr, keeping encodes as the options of a script say."""
    with (
        progress("reading", "encodes") as observer,
        compare(
            folders, settings, cache_folder=cache_folder(options), observer=observer
        ) as comparison,
    ):
        yield comparison


def command_line(script: str) -> str:
    """Return the command as given, without the folders that paths lie in."""
    words = []
    for word in sys.argv[1:]:
        option, is_assigned, value = word.partition("=")
        if option.startswith("-") and is_assigned:
            words.append(f"{option}={Path(value).name}")
        else:
            words.append(Path(word).name)
    return shlex.join([f"scripts/{script}", *words])


def about(script: str, *reports: ComparisonReport) -> str:
    """Return when, how and from what the tables of a script were made."""
    first = reports[0]
    series = ", ".join(f"{one.name} ({one.slices} slices)" for one in first.compared)
    return (
        f"Made on {datetime.now().astimezone():%Y-%m-%d} by "
        f"`{VARIABLE}=… {command_line(script)}` on {first.machine.cores} cores of "
        f"{first.machine.cpu}. "
        f"Series: {series}. Points of x264 and ssimrdo alike: {points_text(reports)}."
    )


def wrapped(text: str) -> str:
    """Return a paragraph in lines as long as the README's."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def update(page: Path, blocks: Mapping[str, str]) -> None:
    """Put texts into their blocks of a page."""
    text = page.read_text()
    try:
        for name, block in blocks.items():
            text = replace_block(text, block, name=name)
    except ValueError as error:
        raise InputError(f"{page.name} {error}") from error
    write_whole(page, text.encode(), overwrite=True)
