"""What is written to the terminal: results to stdout, messages to stderr, all of it printable."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from ssimrdo.errors import cause_of
from ssimrdo.text import printable, printable_lines


def show(text: str) -> None:
    """Write results to stdout.

    Raises
    ------
    BrokenPipeError
        If nobody reads them any more.
    OSError
        If they cannot be written, such as on a full disk; it names stdout.
    """
    try:
        click.echo(printable_lines(text))
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise OSError(error.errno, cause_of(error), "stdout") from error


def tell(message: str) -> None:
    """Write a message of one line to stderr; no work is lost because it cannot be written."""
    write_to_stderr(f"ssimrdo: {message}")


def write_to_stderr(line: str) -> None:
    """Write a line to stderr, if that can be."""
    # Not click's own stderr: a progress bar takes the place of Python's, to print above itself.
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            click.echo(printable(line), file=sys.stderr)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows below a row of headings as lines of aligned columns, without empty columns."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*columns, strict=True)
    ]


class MessageHandler(logging.Handler):
    """Writes log messages to stderr, wherever that is when they come."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        tell(record.getMessage())
