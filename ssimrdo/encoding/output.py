"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ssimrdo.errors import InputError
from ssimrdo.video import CONTAINERS


def container_of(output: Path) -> str:
    """Return FFmpeg's name of the container that an output path's suffix asks for.

    Raises
    ------
    InputError
        If the suffix is none of ``.mp4``, ``.mkv`` and ``.h264``.
    """
    try:
        return CONTAINERS[output.suffix.lower()]
    except KeyError:
        raise InputError(
            f"{output}: the suffix tells the container: use one of {', '.join(CONTAINERS)}"
        ) from None


def sidecar_path(output: Path) -> Path:
    """Return the path of the JSON file that goes with an output file."""
    return output.with_suffix(".json")


def check_writable(output: Path, *, overwrite: bool) -> None:
    """Check that an output file and its sidecar may be written.

    Raises
    ------
    InputError
        If the folder is missing or unwritable, or a file exists and may not be overwritten.
    """
    try:
        _check_writable(output, overwrite)
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror}") from error


def check_not_input(output: Path, inputs: Iterable[Path]) -> None:
    """Check that neither an output file nor its sidecar is a file of the series or other DICOM.

    Raises
    ------
    InputError
        If one is.
    """
    for path in (output, sidecar_path(output)):
        if path.is_file() and (_is_dicom(path) or any(map(path.samefile, inputs))):
            raise InputError(f"{path}: is a DICOM file: use another name")


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _check_writable(output: Path, overwrite: bool) -> None:
    folder = output.parent
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot write to this folder")
    for path in (output, sidecar_path(output)):
        if path.is_dir():
            raise InputError(f"{path}: is a folder: name a file")
        if os.path.lexists(path) and not overwrite:
            raise _exists(path)


@contextmanager
def atomic_output(output: Path, *, overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """Yield temporary paths for an output file and its sidecar, renamed if the block succeeds.

    Raises
    ------
    InputError
        If the folder takes no file, or a file has come into being and may not be overwritten.
    OSError
        If writing fails, such as on a full disk; it names the output file.
    """
    sidecar = sidecar_path(output)
    # Named before they are made, so that no signal finds a file that nobody removes.
    temporaries = video, record = _temporary_for(output), _temporary_for(sidecar)
    try:
        for temporary in temporaries:
            _create(temporary, output.parent)
        yield video, record
        for temporary in temporaries:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        if overwrite:
            # Whoever finds a sidecar finds it beside the file it describes.
            sidecar.unlink(missing_ok=True)
        _publish(video, output, overwrite)
        try:
            _publish(record, sidecar, overwrite)
        except InputError:
            output.unlink()
            raise
    except OSError as error:
        if error.filename is None or Path(error.filename) in temporaries:
            raise OSError(error.errno, error.strerror, str(output)) from error
        raise
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _temporary_for(path: Path) -> Path:
    # A file name has at most 255 bytes, and a character up to four. FFmpeg takes a relative path
    # with a colon for a URL.
    return path.absolute().with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial")


def _create(temporary: Path, folder: Path) -> None:
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise InputError(f"{folder}: cannot write to this folder: {error.strerror}") from error


def _publish(temporary: Path, path: Path, overwrite: bool) -> None:
    """Give a finished file its name; a file of another process that came first stays."""
    if not overwrite:
        try:
            os.link(temporary, path)
            return
        except FileExistsError:
            raise _exists(path) from None
        except OSError:
            # Not every file system has hard links.
            if os.path.lexists(path):
                raise _exists(path) from None
    temporary.replace(path)


def _exists(path: Path) -> InputError:
    return InputError(f"{path}: exists already: use --overwrite or another name")
