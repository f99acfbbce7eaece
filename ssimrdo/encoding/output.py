"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
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
    folder = output.parent
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot write to this folder")
    for path in (output, sidecar_path(output)):
        if path.is_dir():
            raise InputError(f"{path}: is a folder: name a file")
        if path.exists() and not overwrite:
            raise InputError(f"{path}: exists already: use --overwrite or another name")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it to ``path`` when the block succeeds.

    Raises
    ------
    InputError
        If the folder takes no file.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot write to this folder: {error.strerror}") from error
    temporary = Path(name)
    try:
        os.fchmod(handle, 0o666 & ~_umask())
        os.close(handle)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    # Linux tells the mask without setting it, which would be seen by other threads.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
