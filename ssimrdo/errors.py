"""Exceptions raised by ssimrdo; every message is one line fit for a terminal.

An error that is about an option names it as a field, and its remedy names options in braces, such
as ``use {overwrite} or another name``. Whoever shows the error says what an option is called there:
``--overwrite`` on the command line, a column in a manifest, a keyword in Python.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from ssimrdo.text import printable

_OPTION = re.compile(r"\{(\w+)\}")


def name_options(text: str, called: Callable[[str], str]) -> str:
    """Return a text whose options in braces are called as a function says."""
    return _OPTION.sub(lambda match: called(match[1]), text)


def cause_of(error: OSError) -> str:
    """Return what the system says of an error, without the path; never nothing."""
    if error.strerror:
        return str(error.strerror)
    return os.strerror(error.errno) if error.errno else f"it failed ({type(error).__name__})"


class SsimrdoError(Exception):
    """Base class of all errors that ssimrdo raises on purpose.

    Parameters
    ----------
    reason : str
        One line: what is wrong, and where.
    field : str, optional
        The option that it is about, as Python calls it.
    remedy : str, optional
        What to do about it; options stand in braces.
    """

    def __init__(self, reason: str, *, field: str | None = None, remedy: str | None = None) -> None:
        reason = printable(" ".join(reason.splitlines()))
        super().__init__(reason)
        self.reason = reason
        self.field = field
        self.remedy = remedy

    def text(self, called: Callable[[str], str] = str) -> str:
        """Return the message, with options as they are called where it is shown."""
        return ": ".join(filter(None, (self.what(called), self.hint(called))))

    def what(self, called: Callable[[str], str] = str) -> str:
        """Return what is wrong, without what to do about it."""
        return self.reason if self.field is None else f"{called(self.field)}: {self.reason}"

    def hint(self, called: Callable[[str], str] = str) -> str:
        """Return what to do about it; may be empty."""
        return name_options(self.remedy or "", called)

    def __str__(self) -> str:
        return self.text()


class InputError(SsimrdoError):
    """The input or an option cannot be used."""


class BadSliceError(InputError):
    """One DICOM file cannot be used; ``skip_bad`` leaves such files out instead.

    Parameters
    ----------
    path : str
        Path of the offending file, as reached from the path the user gave.
    cause : str
        One line saying what is wrong with it.
    remedy : str, optional
        See :class:`SsimrdoError`.
    """

    def __init__(self, path: str, cause: str, *, remedy: str | None = None) -> None:
        super().__init__(f"{path}: {cause}", remedy=remedy)
        # What an exception is pickled and copied with.
        self.args = (path, cause)
        self.path = path
        self.cause = cause


class UidsToldError(InputError):
    """The message lists UIDs of series, to choose from.

    Parameters
    ----------
    reason, field, remedy
        See :class:`SsimrdoError`.
    brief : str, optional
        The reason without UIDs, for what is kept: they may tell whose series these are.
    choices : tuple of tuple of str
        What there is to choose from, as rows of a table below a row of headings, without UIDs; may
        be empty.
    """

    def __init__(
        self,
        reason: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
        brief: str = "one series has to be chosen",
        choices: tuple[tuple[str, ...], ...] = (),
    ) -> None:
        super().__init__(reason, field=field, remedy=remedy)
        self.brief = brief
        self.choices = choices

    def without_uids(self) -> InputError:
        """Return the same error without the UIDs."""
        return InputError(self.brief, field=self.field, remedy=self.remedy)


class SeveralSeriesError(UidsToldError):
    """A folder holds several CT series."""


class EncoderError(SsimrdoError):
    """An encoder refused its parameters or failed; the message carries its own reason."""


class VerificationError(SsimrdoError):
    """The finished file does not decode to the frames that were measured."""


class CancelledError(SsimrdoError):
    """The work was cancelled through its observer."""

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)
