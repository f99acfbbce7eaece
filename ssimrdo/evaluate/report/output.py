"""A single output file that appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ssimrdo.errors import InputError


def check_free(path: Path, *, overwrite: bool) -> None:
    """Check that a file may be written, before any work is done for it.

    Raises
    ------
    InputError
        If the folder is missing, the path is a folder, or the file exists and may not be replaced.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder: create it first")
    if path.is_dir():
        raise InputError(f"{path}: is a folder: name a file")
    if os.path.lexists(path) and not overwrite:
        raise InputError(f"{path}: exists already: use --overwrite or another name")


def write_whole(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write a file under a temporary name and give it its own when it is complete.

    Raises
    ------
    InputError
        As :func:`check_free`, and if the folder takes no file.
    OSError
        If writing fails, such as on a full disk; it names the file.
    """
    check_free(path, overwrite=overwrite)
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name[:40]}.", suffix=".partial", dir=path.parent
        )
    except OSError as error:
        raise InputError(f"{path.parent}: cannot write to this folder: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            # mkstemp makes files private; an existing umask decides about ordinary ones.
            os.fchmod(stream.fileno(), 0o666 & ~_umask())
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # A file of another process that came first stays.
        check_free(path, overwrite=overwrite)
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    # Linux tells the mask without setting it, which would be seen by other threads.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
