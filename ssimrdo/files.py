"""Files and folders that appear whole or not at all, and never over what came first."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from ssimrdo.errors import InputError, cause_of

ANOTHER_NAME = "use {overwrite} or another name"

PARTIAL = re.compile(r"\..{1,40}\.[0-9a-f]{16}\.partial", re.DOTALL)
"""Names of files and folders that are not finished; those of killed processes stay behind."""

SCRATCH = re.compile("ssimrdo-scratch-[0-9a-f]{16}")
"""Names of temporary folders."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

ABANDONED_S = 60.0
"""Age from which on a file or folder that nobody holds is one of a process that was killed."""


def check_free(path: Path, *, overwrite: bool) -> None:
    """Check that a file may be written, before any work is done for it.

    Raises
    ------
    InputError
        If the folder is missing or takes no files, the path is a folder, or the file exists and
        may not be replaced.
    """
    try:
        _check_writable(path.parent)
        if path.is_dir():
            raise InputError(f"{path}: is a folder", remedy="name a file")
        if os.path.lexists(path) and not overwrite:
            raise _exists(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {cause_of(error)}") from error


def check_folder_free(folder: Path, *, overwrite: bool) -> None:
    """Check that files may be put into a folder of their own, before any work is done for them.

    Raises
    ------
    InputError
        If its parent is missing or takes no files, it is no folder, or it holds something already
        and may not be changed.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder}: is not a folder", remedy="name another")
    _check_writable(folder if folder.is_dir() else folder.parent)
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{folder}: is not empty", remedy=ANOTHER_NAME)


def temporary_for(path: Path) -> Path:
    """Return a hidden name beside a path, for what is to become it; nothing is made."""
    # A file name has at most 255 bytes, and a character up to four. FFmpeg takes a relative path
    # with a colon for a URL.
    path = path.absolute()
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial")


@contextmanager
def whole_files(*paths: Path, overwrite: bool) -> Iterator[tuple[Path, ...]]:
    """Yield empty temporary files that get their names, in order, if the block succeeds.

    Whoever finds the last file finds all others beside it.

    Raises
    ------
    InputError
        If a folder takes no file, or a file has come into being and may not be replaced.
    OSError
        If writing fails, such as on a full disk; it names the file.
    """
    # Named before they are made, so that no signal finds a file that nobody removes.
    temporaries = tuple(map(temporary_for, paths))
    for folder in {path.parent for path in temporaries}:
        remove_abandoned(folder, PARTIAL)
    try:
        for temporary, path in zip(temporaries, paths, strict=True):
            _create(temporary, path.parent)
        with _held(*temporaries):
            yield temporaries
            for temporary in temporaries:
                _flush(temporary)
            if overwrite:
                for path in paths[1:]:
                    path.unlink(missing_ok=True)
            _publish(temporaries, paths, overwrite)
    except OSError as error:
        if error.filename is None or Path(error.filename) in temporaries:
            named = dict(zip(map(str, temporaries), map(str, paths), strict=True))
            shown = named.get(str(error.filename), str(paths[0]))
            raise OSError(error.errno, cause_of(error), shown) from error
        raise
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write one file; errors as :func:`whole_files`."""
    with whole_files(path, overwrite=overwrite) as (temporary,):
        temporary.write_bytes(data)


@contextmanager
def whole_folder(folder: Path, *, overwrite: bool, replace: bool = False) -> Iterator[Path]:
    """Yield a new folder for files; they get to ``folder`` if the block succeeds.

    A new folder appears whole. In one that exists, each file is replaced whole and others stay, or
    with ``replace`` the new folder takes its place.

    Raises
    ------
    InputError
        As :func:`check_folder_free`, also if the folder has come into being meanwhile.
    OSError
        If writing fails.
    """
    check_folder_free(folder, overwrite=overwrite)
    staged = temporary_for(folder)
    remove_abandoned(staged.parent, PARTIAL)
    try:
        staged.mkdir()
        with _held(staged):
            yield staged
            for path in sorted(staged.iterdir()):
                _flush(path)
            _put(staged, folder, overwrite=overwrite, replace=replace)
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, cause_of(error), str(folder)) from error
        raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _put(staged: Path, folder: Path, *, overwrite: bool, replace: bool) -> None:
    try:
        staged.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        check_folder_free(folder, overwrite=overwrite)
        if replace:
            _swap(staged, folder)
        else:
            for path in sorted(staged.iterdir()):
                path.replace(folder / path.name)


def _swap(new: Path, folder: Path) -> None:
    """Give a folder's name to another; the old one is set aside and put back on failure."""
    aside = temporary_for(folder)
    folder.rename(aside)
    try:
        new.rename(folder)
    except BaseException:
        aside.rename(folder)
        raise
    shutil.rmtree(aside)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a private temporary folder that goes with the block."""
    import tempfile

    # Named before it is made, so that no signal finds a folder that nobody removes.
    folder = Path(tempfile.gettempdir(), f"ssimrdo-scratch-{secrets.token_hex(8)}")
    remove_abandoned(folder.parent, SCRATCH)
    try:
        folder.mkdir(mode=0o700)
        with _held(folder):
            yield folder
    except OSError as error:
        # Streams do not say what they could not write to.
        if error.filename is None and error.errno in _NO_ROOM:
            raise OSError(error.errno, cause_of(error), str(folder.parent)) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def remove_abandoned(folder: Path, names: re.Pattern[str]) -> None:
    """Remove what killed processes have left in a folder; once in a process, as that takes time.

    It is known by its name, its age and its owner, and by nobody holding it.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if names.fullmatch(entry.name):
                _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(path: Path) -> None:
    with suppress(OSError):
        status = path.lstat()
        if status.st_uid != os.geteuid() or time.time() - status.st_mtime < ABANDONED_S:
            return
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        finally:
            os.close(handle)


@contextmanager
def _held(*paths: Path) -> Iterator[None]:
    """Hold files or folders, which the kernel lets go when this process ends, however it does.

    Not every file system has locks; where it has none, nothing is held, and nothing removed.
    """
    with ExitStack() as stack:
        for path in paths:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, handle)
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _check_writable(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", remedy="create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot write to this folder")


def _create(temporary: Path, folder: Path) -> None:
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise InputError(f"{folder}: cannot write to this folder: {cause_of(error)}") from error


def _flush(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _publish(temporaries: Sequence[Path], paths: Sequence[Path], overwrite: bool) -> None:
    """Give finished files their names, all or none; a file that came first stays."""
    with ExitStack() as undo:
        for temporary, path in zip(temporaries, paths, strict=True):
            if overwrite:
                temporary.replace(path)
                continue
            _link(temporary, path)
            undo.callback(path.unlink)
        undo.pop_all()


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
        return
    except FileExistsError:
        raise _exists(path) from None
    except OSError:
        # Not every file system has hard links. Opening for exclusive creation is as safe; the
        # file is then seen empty for a moment.
        pass
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        raise _exists(path) from None
    try:
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _exists(path: Path) -> InputError:
    return InputError(f"{path}: exists already", remedy=ANOTHER_NAME)
