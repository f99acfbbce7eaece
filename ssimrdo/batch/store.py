"""Where series come from and outputs go: folders, or whatever fsspec has a URL for."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeVar, cast

from ssimrdo.dicom.read.find import read_file, walk
from ssimrdo.dicom.read.header import SkippedFile
from ssimrdo.errors import InputError, SsimrdoError, cause_of
from ssimrdo.extras import require
from ssimrdo.files import PARTIAL, scratch_folder, whole_files
from ssimrdo.record.sidecar import sidecar_path
from ssimrdo.text import printable, shortened

T = TypeVar("T")

KEY_NAME: Final = ".ssimrdo-batch.key"
"""File below the output folder; whoever has it and a series can tell the outputs of the series."""

MAX_SIDECAR_BYTES: Final = 1 << 26
"""What is larger is no sidecar; one of 100,000 slices takes half of this."""

_KEY: Final = re.compile(rb"[0-9a-f]{64}\n?")


def always() -> bool:
    """Return True."""
    return True


Files = tuple[str, ...] | None
"""Names of files relative to a place; None for all that are below it."""


class Store(Protocol):
    """A place with files, whose names are relative to it, POSIX style."""

    @property
    def place(self) -> str:
        """Path or URL that means the same in every process of this machine."""
        ...

    @property
    def folder(self) -> Path | None:
        """The place as a folder of this machine; None for what is elsewhere."""
        ...

    def check(self) -> None:
        """Check that this kind of place can be used here.

        Raises
        ------
        InputError
            If it takes a library that is not installed, or is of no known kind.
        """
        ...

    def walk(self) -> Iterator[tuple[str, list[str], bool]]:
        """Yield the places below this one as `ssimrdo.dicom.read.find.walk` does.

        Raises
        ------
        InputError
            If the place does not exist or cannot be read.
        """
        ...

    def read(self, name: str, read: Callable[[BinaryIO, str], T]) -> T | SkippedFile:
        """Return what a function reads from a file, or why that is left out."""
        ...

    def facts(self, files: Files) -> list[tuple[int, str]]:
        """Return size and time of change, or what else there is for it, of a series' files.

        Nothing is told of a series that cannot be listed; encoding it will say why.
        """
        ...

    def series(self, files: Files) -> AbstractContextManager[tuple[Path, Files]]:
        """Yield a local folder with a series' files and their names there."""
        ...

    def written(self, output: str) -> AbstractContextManager[Path]:
        """Yield where to write an output, which gets where it belongs behind the block.

        Whoever finds its sidecar finds the whole video.
        """
        ...

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Yield a file, or a local copy of it."""
        ...

    def finished(self, output: str) -> tuple[str, int | None]:
        """Return the text of an output's sidecar and its size; empty and None if missing."""
        ...

    def holds(self, name: str) -> bool:
        """Tell whether there is a file, whatever is in it."""
        ...

    def key(self, *, make: bool = False) -> str:
        """Return the key of the digests in what goes here; empty if there is none.

        Parameters
        ----------
        make : bool
            Whether to make one where there is none; by a batch that keeps others out.

        Raises
        ------
        InputError
            If its file cannot be used.
        """
        ...

    def own_files(
        self, names: Collection[str], may_write: Callable[[], bool] = ...
    ) -> AbstractContextManager[Path]:
        """Yield a local folder for a batch's own files, which get where they belong behind it.

        Parameters
        ----------
        names : collection of str
            The files.
        may_write : callable
            Tells behind the block whether they still may.

        Raises
        ------
        InputError
            If the place cannot be made or written to.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it, if there is one."""
        ...

    def remove_leftovers(self, outputs: Iterable[str]) -> None:
        """Remove what killed processes have left beside outputs and the batch's own files."""
        ...


def store_of(place: Path | str) -> Store:
    """Return the store of a path or URL; a ``file://`` URL is its path."""
    text = _without_scheme(str(place))
    return FsspecStore(text) if is_url(text) else LocalStore(Path(text).absolute())


@dataclass(frozen=True)
class LocalStore:
    """A folder, or a single file; see :class:`Store`."""

    folder: Path

    @property
    def place(self) -> str:
        """The path."""
        return str(self.folder)

    def check(self) -> None:
        """Do nothing: a path is always of a known kind."""

    def walk(self) -> Iterator[tuple[str, list[str], bool]]:
        """See :meth:`Store.walk`."""
        return walk(self.folder)

    def read(self, name: str, read: Callable[[BinaryIO, str], T]) -> T | SkippedFile:
        """See :meth:`Store.read`."""

        def read_path(path: Path, name: str) -> T:
            with path.open("rb", buffering=0) as stream:
                return read(cast(BinaryIO, stream), name)

        return read_file(self.folder / name, name, read_path)

    def facts(self, files: Files) -> list[tuple[int, str]]:
        """See :meth:`Store.facts`."""
        try:
            return [_facts_of(path) for path in local_files(self.folder, files)]
        except (InputError, OSError):
            return []

    @contextmanager
    def series(self, files: Files) -> Iterator[tuple[Path, Files]]:
        """See :meth:`Store.series`."""
        yield self.folder, files

    @contextmanager
    def written(self, output: str) -> Iterator[Path]:
        """See :meth:`Store.written`."""
        path = self.folder / output
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """See :meth:`Store.local`."""
        yield self.folder / name

    def finished(self, output: str) -> tuple[str, int | None]:
        """See :meth:`Store.finished`."""
        path = self.folder / output
        try:
            size = _size_of(path)
            if sidecar_path(path).stat().st_size > MAX_SIDECAR_BYTES:
                return "", None
            return sidecar_path(path).read_text(encoding="utf-8"), size
        except (OSError, UnicodeDecodeError):
            return "", None

    def holds(self, name: str) -> bool:
        """See :meth:`Store.holds`."""
        return os.path.lexists(self.folder / name)

    def key(self, *, make: bool = False) -> str:
        """See :meth:`Store.key`."""
        path = self.folder / KEY_NAME
        try:
            if not path.exists():
                if not make:
                    return ""
                with whole_files(path, overwrite=False) as (temporary,):
                    temporary.chmod(0o600)
                    temporary.write_bytes(_new_key())
            return _checked_key(path.read_bytes(), str(path))
        except OSError as error:
            raise InputError(f"{path}: cannot be read or made: {cause_of(error)}") from error

    @contextmanager
    def own_files(
        self, names: Collection[str], may_write: Callable[[], bool] = always
    ) -> Iterator[Path]:
        """See :meth:`Store.own_files`."""
        del names, may_write
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be made: {cause_of(error)}") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise InputError(f"{self.folder}: cannot write to this folder")
        yield self.folder

    def remove(self, name: str) -> None:
        """See :meth:`Store.remove`; folders that are empty then go with it."""
        path = self.folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            for folder in path.relative_to(self.folder).parents[:-1]:
                (self.folder / folder).rmdir()

    def remove_leftovers(self, outputs: Iterable[str]) -> None:
        """See :meth:`Store.remove_leftovers`."""
        for folder in {self.folder, *((self.folder / output).parent for output in outputs)}:
            if folder.is_dir():
                for path in folder.iterdir():
                    if PARTIAL.fullmatch(path.name):
                        _remove(path)


@dataclass(frozen=True)
class FsspecStore:
    """A URL that fsspec knows; see :class:`Store`.

    Stores show every object whole or not at all. Their own libraries try again what fails for a
    moment; what they give up is an InputError that names the place, whatever they raise.
    """

    place: str

    @property
    def folder(self) -> Path | None:
        """None: it is elsewhere."""
        return None

    def check(self) -> None:
        """See :meth:`Store.check`."""
        _ = self._opened

    def walk(self) -> Iterator[tuple[str, list[str], bool]]:
        """See :meth:`Store.walk`."""
        filesystem, root = self._opened
        scheme = self.place.partition("://")[0]
        with self._answering():
            if not filesystem.exists(root):
                raise InputError(
                    f"{printable(self.place)}: no such file or folder", remedy="check the URL"
                )
            waiting = [root.rstrip("/")]
            # Not the file system's walk, which leaves out folders below when a store is busy.
            while waiting:
                folder = waiting.pop()
                names, below = _listed(filesystem, folder)
                waiting += [f"{folder}/{name}" for name in reversed(below)]
                yield f"{scheme}://{folder}", names, not below

    def read(self, name: str, read: Callable[[BinaryIO, str], T]) -> T | SkippedFile:
        """See :meth:`Store.read`."""
        filesystem, root = self._opened
        with filesystem.open(f"{root}/{name}", "rb") as stream:
            return read(stream, name)

    def facts(self, files: Files) -> list[tuple[int, str]]:
        """See :meth:`Store.facts`."""
        try:
            filesystem, root = self._opened
            with self._answering():
                if files is None:
                    infos = list(filesystem.find(root, detail=True).values())
                else:
                    infos = [filesystem.info(f"{root}/{name}") for name in files]
        except (InputError, OSError):
            return []
        return [(int(info.get("size") or 0), _changed(info)) for info in infos]

    @contextmanager
    def series(self, files: Files) -> Iterator[tuple[Path, Files]]:
        """See :meth:`Store.series`; all files are downloaded for the time being."""
        filesystem, root = self._opened
        names: tuple[str, ...]
        with scratch_folder() as folder:
            with self._answering():
                if files is None and filesystem.isfile(root):
                    # How it ends tells what it is.
                    copy = folder / f"file{''.join(Path(root).suffixes[-2:]).lower()}"
                    filesystem.get_file(root, str(copy))
                    local, names = copy, ()
                else:
                    names = self._below(filesystem, root) if files is None else files
                    local = folder
                    for number, name in enumerate(names):
                        # Names of objects need not be fit for a file system.
                        filesystem.get_file(f"{root}/{name}", str(folder / f"{number:06d}.dcm"))
            try:
                yield local, None
            except SsimrdoError as error:
                error.reason = self._named(error.reason, local, names)
                raise

    @contextmanager
    def written(self, output: str) -> Iterator[Path]:
        """See :meth:`Store.written`."""
        with scratch_folder() as folder:
            path = folder / Path(output).name
            yield path
            if not path.exists():
                return
            filesystem, root = self._opened
            target = Path(root, output)
            sidecar = str(sidecar_path(target))
            with self._answering():
                filesystem.makedirs(str(target.parent), exist_ok=True)
                if filesystem.exists(sidecar):
                    filesystem.rm_file(sidecar)
                if path.is_dir():
                    if filesystem.exists(str(target)):
                        filesystem.rm(str(target), recursive=True)
                    filesystem.makedirs(str(target), exist_ok=True)
                    for one in sorted(path.iterdir()):
                        filesystem.put_file(str(one), str(target / one.name))
                else:
                    filesystem.put_file(str(path), str(target))
                filesystem.put_file(str(sidecar_path(path)), sidecar)

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """See :meth:`Store.local`."""
        filesystem, root = self._opened
        with scratch_folder() as folder:
            copy = folder / Path(name).name
            with self._answering():
                filesystem.get_file(f"{root}/{name}", str(copy))
            yield copy

    def finished(self, output: str) -> tuple[str, int | None]:
        """See :meth:`Store.finished`."""
        filesystem, root = self._opened
        try:
            with self._answering():
                sidecar = f"{root}/{sidecar_path(Path(output))}"
                if int(filesystem.info(sidecar)["size"]) > MAX_SIDECAR_BYTES:
                    return "", None
                text = filesystem.cat_file(sidecar).decode(errors="replace")
                return text, int(filesystem.du(f"{root}/{output}"))
        except FileNotFoundError:
            return "", None

    def holds(self, name: str) -> bool:
        """See :meth:`Store.holds`."""
        filesystem, root = self._opened
        with self._answering():
            return bool(filesystem.exists(f"{root}/{name}"))

    def key(self, *, make: bool = False) -> str:
        """See :meth:`Store.key`."""
        data = self.get(KEY_NAME)
        if data is None:
            if not make:
                return ""
            # Of two that make one at a time, the first is that of both.
            self.create(KEY_NAME, _new_key())
            data = self.get(KEY_NAME) or b""
        return _checked_key(data, f"{self.place}/{KEY_NAME}")

    @contextmanager
    def own_files(
        self, names: Collection[str], may_write: Callable[[], bool] = always
    ) -> Iterator[Path]:
        """See :meth:`Store.own_files`; they are fetched, and uploaded behind the block."""
        filesystem, root = self._opened
        with scratch_folder() as folder:
            with self._answering():
                filesystem.makedirs(root, exist_ok=True)
                for name in names:
                    if filesystem.exists(f"{root}/{name}"):
                        filesystem.get_file(f"{root}/{name}", str(folder / name))
            try:
                yield folder
            finally:
                with self._answering():
                    for name in names if may_write() else ():
                        if (folder / name).exists():
                            filesystem.put_file(str(folder / name), f"{root}/{name}")

    def get(self, name: str) -> bytes | None:
        """Return the content of an object, None if there is none."""
        filesystem, root = self._opened
        try:
            with self._answering():
                return bytes(filesystem.cat_file(f"{root}/{name}"))
        except FileNotFoundError:
            return None

    def put(self, name: str, data: bytes) -> None:
        """Write an object, whether there is one or not."""
        filesystem, root = self._opened
        with self._answering():
            filesystem.pipe_file(f"{root}/{name}", data)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object if there is none, by a conditional put; return whether there was none."""
        filesystem, root = self._opened
        try:
            with self._answering():
                filesystem.pipe_file(f"{root}/{name}", data, mode="create")
        except FileExistsError:
            return False
        return True

    def remove(self, name: str) -> None:
        """See :meth:`Store.remove`."""
        filesystem, root = self._opened
        with self._answering(), suppress(FileNotFoundError):
            if filesystem.isdir(f"{root}/{name}"):
                filesystem.rm(f"{root}/{name}", recursive=True)
            else:
                filesystem.rm_file(f"{root}/{name}")

    def remove_leftovers(self, outputs: Iterable[str]) -> None:
        """Do nothing: what is not whole never gets here."""

    def _below(self, filesystem: Any, root: str) -> tuple[str, ...]:
        """Return the names of all files below."""
        return tuple(os.path.relpath(found, root) for found in filesystem.find(root))

    def _named(self, reason: str, folder: Path, names: Sequence[str]) -> str:
        """Return a message about downloaded files with their own names."""
        if folder.is_file():
            return printable(reason.replace(str(folder), self.place))

        def name_of(copy: re.Match[str]) -> str:
            name = names[int(copy[2])] if int(copy[2]) < len(names) else copy[2]
            return f"{self.place}/{name}" if copy[1] else name

        named = re.sub(rf"({re.escape(str(folder))}/)?(\d{{6}})\.dcm", name_of, reason)
        return printable(named.replace(str(folder), self.place))

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Let whatever a store's library raises be an error that names the place.

        Many of these are no OSError, and most of those say nothing but in their text.
        """
        try:
            yield
        except (SsimrdoError, FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise
            said = shortened(" ".join(str(error).split()) or type(error).__name__)
            raise InputError(f"{printable(self.place)}: the store says: {said}") from error

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system of fsspec, and the path in it."""
        require("fsspec", what=f"{printable(self.place)}: a URL")
        # Untyped.
        fsspec: Any = import_module("fsspec")
        try:
            # Other processes write here as well.
            filesystem, path = fsspec.url_to_fs(self.place, use_listings_cache=False)
        except Exception as error:
            raise InputError(
                f"{printable(self.place)}: this kind of URL cannot be used: {shortened(error)}"
            ) from error
        return filesystem, path


def _new_key() -> bytes:
    return f"{secrets.token_hex(32)}\n".encode()


def _checked_key(data: bytes, place: str) -> str:
    if not _KEY.fullmatch(data):
        raise InputError(
            f"{printable(place)}: is damaged", remedy="remove it, and all series are encoded again"
        )
    return data.decode().strip()


def _listed(filesystem: Any, folder: str) -> tuple[list[str], list[str]]:
    """Return the visible files and folders of a folder, each sorted."""
    names: dict[str, list[str]] = {"file": [], "directory": []}
    for info in filesystem.ls(folder, detail=True):
        path = info["name"].rstrip("/")
        name = path.rpartition("/")[2]
        # Some stores list the folder itself.
        if path.strip("/") != folder.strip("/") and not name.startswith("."):
            names["directory" if info["type"] == "directory" else "file"].append(name)
    return sorted(names["file"]), sorted(names["directory"])


def _without_scheme(place: str) -> str:
    # fsspec would open pipes, and take links to folders for files.
    return place.removeprefix("file://")


def is_url(place: str) -> bool:
    """Tell whether a place is a URL; all else is a path."""
    return "://" in place


def place_below(base: str, place: str) -> str:
    """Return a place that is named relative to another; URLs and absolute paths stay."""
    place = _without_scheme(place)
    if is_url(place):
        return place
    return f"{base.rstrip('/')}/{place}" if is_url(base) else str(Path(base, place))


def relative_name(place: str, root: str) -> str:
    """Return a place below a root, POSIX style; the last folder's name for the root itself."""
    if is_url(place):
        # Some file systems give paths with a slash in front and some without.
        place, root = (text.partition("://")[2].strip("/") for text in (place, root))
    relative = os.path.relpath(place or ".", root or ".")
    if relative == "." or relative.startswith(".."):
        return Path(place).name or "series"
    return Path(relative).as_posix()


def common_place(places: Collection[str]) -> str:
    """Return the deepest place that has all of some."""
    common = os.path.commonpath(list(places))
    return common.replace(":/", "://", 1) if is_url(next(iter(places))) else common


def local_files(series: Path, files: Collection[str] | None) -> Iterator[Path]:
    """Yield the paths of a series' files."""
    if files is not None:
        yield from (series / name for name in files)
        return
    for folder, names, _ in walk(series):
        yield from (Path(folder, name) for name in names)


def _size_of(path: Path) -> int:
    """Return the size of a file, or of the files in a folder."""
    if path.is_dir():
        return sum(one.stat().st_size for one in path.iterdir())
    return path.stat().st_size


def _facts_of(path: Path) -> tuple[int, str]:
    try:
        status = path.stat()
    except OSError:
        return 0, "unreadable"
    return status.st_size, str(status.st_mtime_ns)


def _changed(info: dict[str, Any]) -> str:
    known = (info.get(key) for key in ("ETag", "etag", "mtime", "LastModified", "updated"))
    return str(next((value for value in known if value), ""))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
