"""Exceptions raised by ssimrdo; every message is one line fit for a terminal."""

from __future__ import annotations


class SsimrdoError(Exception):
    """Base class of all errors that ssimrdo raises on purpose."""


class InputError(SsimrdoError):
    """The input or an option cannot be used; the message says what, where and what to do."""


class BadSliceError(InputError):
    """One DICOM file cannot be used; ``skip_bad`` leaves such files out instead.

    Parameters
    ----------
    path : str
        Path of the offending file, as reached from the path the user gave.
    reason : str
        One line saying what is wrong with it.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class EncoderError(SsimrdoError):
    """x264 refused its parameters or failed; the message carries x264's own reason."""


class VerificationError(SsimrdoError):
    """The finished file does not decode to the frames that were measured."""
