"""Where series come from and outputs go: folders, or whatever fsspec has a URL for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, cast

from ssimrdo.dicom.read.find import walk
from ssimrdo.dicom.read.header import printable
from ssimrdo.errors import InputError
from ssimrdo.files import sidecar_path

INSTALL = 'pip install "ssimrdo[fsspec]"'


def is_url(place: str) -> bool:
    """Tell whether a place is a URL; all else is a path."""
    return "://" in place


def join(place: str, *names: str) -> str:
    """Return a place below another."""
    return "/".join((place.rstrip("/"), *names)) if is_url(place) else str(Path(place, *names))


def local_path(place: str) -> Path | None:
    """Return the folder of a path or of a ``file://`` URL, None for what is elsewhere."""
    return Path(place.removeprefix("file://")) if _is_local(place) else None


def check(place: str) -> None:
    """Check that a URL can be used here.

    Raises
    ------
    InputError
        If it takes a library that is not installed, or its kind is unknown.
    """
    if is_url(place):
        _filesystem(place)


def folders(root: str) -> Iterator[tuple[str, list[str], bool]]:
    """Yield the folders below a root as `ssimrdo.dicom.read.find.walk` does.

    Raises
    ------
    InputError
        If the root does not exist or cannot be read.
    """
    if not is_url(root):
        yield from walk(Path(root))
        return
    filesystem, path = _filesystem(root)
    scheme = root.partition("://")[0]
    if not filesystem.exists(path):
        raise InputError(f"{printable(root)}: no such file or folder; check the URL")
    for parent, below, names in filesystem.walk(path):
        below[:] = sorted(name for name in below if not name.startswith("."))
        visible = sorted(name for name in names if not name.startswith("."))
        yield f"{scheme}://{parent}", visible, not below


def open_file(place: str) -> BinaryIO:
    """Open a file for reading, unbuffered where that is possible."""
    if not is_url(place):
        return cast(BinaryIO, Path(place).open("rb", buffering=0))
    filesystem, path = _filesystem(place)
    return cast(BinaryIO, filesystem.open(path, "rb"))


def file_facts(series: str, files: Collection[str] | None) -> list[tuple[int, str]]:
    """Return size and time of change, or what else a store has for it, of a series' files.

    Nothing is told of a series that cannot be listed; encoding it will say why.
    """
    try:
        return _local_facts(Path(series), files) if not is_url(series) else _facts(series, files)
    except (InputError, OSError):
        return []


@contextmanager
def local_input(
    series: str, files: tuple[str, ...] | None
) -> Iterator[tuple[Path, tuple[str, ...] | None]]:
    """Yield a local folder with a series, downloaded for the time being if need be."""
    if not is_url(series):
        yield Path(series), files
        return
    filesystem, path = _filesystem(series)
    with tempfile.TemporaryDirectory(prefix="ssimrdo-") as name:
        folder = Path(name)
        names = files
        if names is None:
            names = tuple(os.path.relpath(found, path) for found in filesystem.find(path))
        for number, file in enumerate(names):
            # Names of objects need not be fit for a file system.
            filesystem.get_file(f"{path}/{file}", str(folder / f"{number:06d}.dcm"))
        yield folder, None


@contextmanager
def local_output(out_root: str, output: str) -> Iterator[Path]:
    """Yield where to write an output; uploaded behind the block if it belongs elsewhere.

    A store shows every object whole or not at all; the sidecar comes last, so whoever finds it
    finds the video.
    """
    if not is_url(out_root):
        path = Path(out_root, output)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ssimrdo-") as name:
        path = Path(name) / Path(output).name
        yield path
        if path.exists():
            filesystem, target = _filesystem(join(out_root, output))
            sidecar = str(sidecar_path(Path(target)))
            filesystem.makedirs(str(Path(target).parent), exist_ok=True)
            if filesystem.exists(sidecar):
                filesystem.rm_file(sidecar)
            filesystem.put_file(str(path), target)
            filesystem.put_file(str(sidecar_path(path)), sidecar)


@contextmanager
def fetched(out_root: str, output: str) -> Iterator[Path]:
    """Yield a local copy of an output, or the output itself."""
    if not is_url(out_root):
        yield Path(out_root, output)
        return
    filesystem, path = _filesystem(join(out_root, output))
    with tempfile.TemporaryDirectory(prefix="ssimrdo-") as name:
        copy = Path(name) / Path(output).name
        filesystem.get_file(path, str(copy))
        yield copy


def read_output(out_root: str, sidecar: str, output: str) -> tuple[str, int | None]:
    """Return the text of a sidecar and the size of its video; empty and None if missing."""
    try:
        if not is_url(out_root):
            size = Path(out_root, output).stat().st_size
            return Path(out_root, sidecar).read_text(), size
        filesystem, path = _filesystem(out_root)
        text = filesystem.cat_file(f"{path}/{sidecar}").decode()
        return text, int(filesystem.info(f"{path}/{output}")["size"])
    except (OSError, UnicodeDecodeError):
        return "", None


def exists(out_root: str, output: str) -> bool:
    """Tell whether there is a file, whatever is in it."""
    if not is_url(out_root):
        return os.path.lexists(Path(out_root, output))
    filesystem, path = _filesystem(out_root)
    return bool(filesystem.exists(f"{path}/{output}"))


@contextmanager
def local_folder(out_root: str, names: Collection[str]) -> Iterator[Path]:
    """Yield a folder for a batch's own files; with a URL they are fetched, and uploaded behind.

    Raises
    ------
    InputError
        If the folder cannot be made.
    """
    if not is_url(out_root):
        folder = Path(out_root)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made: {error.strerror}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{folder}: cannot write to this folder")
        with nullcontext():
            yield folder
        return
    filesystem, path = _filesystem(out_root)
    folder = Path(tempfile.mkdtemp(prefix="ssimrdo-"))
    try:
        filesystem.makedirs(path, exist_ok=True)
        for name in names:
            if filesystem.exists(f"{path}/{name}"):
                filesystem.get_file(f"{path}/{name}", str(folder / name))
        yield folder
    finally:
        for name in names:
            if (folder / name).exists():
                filesystem.put_file(str(folder / name), f"{path}/{name}")
        shutil.rmtree(folder, ignore_errors=True)


def _is_local(place: str) -> bool:
    return not is_url(place) or place.startswith("file://")


def local_files(series: Path, files: Collection[str] | None) -> Iterator[Path]:
    """Yield the paths of a series' files."""
    if files is not None:
        yield from (series / name for name in files)
        return
    for folder, names, _ in walk(series):
        yield from (Path(folder, name) for name in names)


def _local_facts(series: Path, files: Collection[str] | None) -> list[tuple[int, str]]:
    facts = []
    for path in local_files(series, files):
        try:
            status = path.stat()
            facts.append((status.st_size, str(status.st_mtime_ns)))
        except OSError:
            facts.append((0, "unreadable"))
    return facts


def _facts(series: str, files: Collection[str] | None) -> list[tuple[int, str]]:
    filesystem, path = _filesystem(series)
    if files is None:
        infos = list(filesystem.find(path, detail=True).values())
    else:
        infos = [filesystem.info(f"{path}/{name}") for name in files]
    return [(int(info.get("size") or 0), _changed(info)) for info in infos]


def _changed(info: dict[str, Any]) -> str:
    known = (info.get(key) for key in ("ETag", "etag", "mtime", "LastModified", "updated"))
    return str(next((value for value in known if value), ""))


def _filesystem(place: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL and the path in it."""
    if find_spec("fsspec") is None:
        raise InputError(f"{printable(place)}: URLs need fsspec: {INSTALL}")
    # Untyped.
    fsspec: Any = import_module("fsspec")
    try:
        filesystem, path = fsspec.url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise InputError(f"{printable(place)}: this kind of URL cannot be used: {error}") from error
    return filesystem, path
