"""Archives as SERIES: what may be DICOM in a zip or tar archive, extracted to a private folder.

Members get names of ours, so that none is written elsewhere. Numbers of members and bytes have
limits, which hold while members are decompressed, whatever their headers claim.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import tarfile
import weakref
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from ssimrdo.dicom.read.elements import WINDOW_BYTES, may_be_dicom
from ssimrdo.dicom.read.header import NOT_DICOM, BadFile, SkippedFile
from ssimrdo.errors import InputError, cause_of
from ssimrdo.files import scratch_folder
from ssimrdo.text import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_MEMBERS: Final = 100_000
MAX_RATIO: Final = 100
"""How many times an archive's own size it may give, beside what any may; slices give 2 to 10."""

_FREE_BYTES: Final = 64 << 20
_KEPT_FREE_BYTES: Final = 1 << 30
# What a zip's directory and a tar's extended headers may take; slices take some 100 bytes each.
_MAX_DIRECTORY_BYTES: Final = 16 << 20
_TOO_MUCH_BYTES: Final = _MAX_DIRECTORY_BYTES + 1
_MAX_HEADER_BYTES: Final = 1 << 16
_MAX_XZ_BYTES: Final = 128 << 20
_CHUNK: Final = 1 << 16
_DIGITS: Final = re.compile(b"[0-9]{64}")
_MAX_NAME: Final = 150

_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP: Final = b"\x1f\x8b"
_BZIP2: Final = b"BZh"
_XZ: Final = b"\xfd7zXZ\0"
_TAR_AT: Final = 257
_TAR: Final = b"ustar"
_ENCRYPTED: Final = 1
_ZIP_LINK: Final = 0o120000
_ZIP_KIND: Final = 0o170000

NESTED: Final = "an archive in an archive"
LINK: Final = "a link in an archive"
DEVICE: Final = "not a regular file"


@dataclass(frozen=True, eq=False)
class Unpacked:
    """What was extracted of an archive; the folder is there as long as this is.

    Parameters
    ----------
    path : Path
        The archive.
    members : tuple of Path and str
        Extracted files, and what they are called in the archive, printable; in order of these.
    left_out : tuple of SkippedFile
        What was not extracted.
    """

    path: Path
    members: tuple[tuple[Path, str], ...] = field(repr=False)
    left_out: tuple[SkippedFile, ...] = field(repr=False)


class TooMuchError(Exception):
    """An archive holds more than may be extracted; the message says of what."""


class DamagedArchiveError(Exception):
    """An archive does not hold what it has to."""


def is_archive(path: Path) -> bool:
    """Tell whether a file is a zip or tar archive, compressed or not, by how it begins."""
    try:
        # Opening a named pipe would wait for a writer.
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return _looks_like_archive(stream.read(WINDOW_BYTES))
    except (OSError, ValueError):
        return False


def _looks_like_archive(head: bytes) -> bool:
    if head[128:132] == b"DICM":
        return False
    is_tar = head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR
    return head.startswith((*_ZIP, _GZIP, _BZIP2, _XZ)) or is_tar


def unpack(path: Path) -> Unpacked:
    """Extract what may be DICOM from an archive.

    Raises
    ------
    InputError
        If it cannot be read, is encrypted, or holds more than may be extracted.
    OSError
        If the files cannot be written, such as on a full disk; it names the temporary folder.
    """
    shown = printable(path)
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        work = _Work(folder, allowed_bytes(path, folder))
        try:
            with path.open("rb") as stream:
                if zipfile.is_zipfile(stream):
                    stream.seek(0)
                    _unzip(Sized(stream), work, shown)
                else:
                    stream.seek(0)
                    _untar(stream, work, path.name)
        except TooMuchError as error:
            raise InputError(
                f"{shown}: {error}", remedy="extract it yourself if you trust it"
            ) from None
        except OSError as error:
            if error.filename is None and error.errno is None:
                raise InputError(
                    f"{shown}: is not a zip or tar archive that can be read", remedy="copy it again"
                ) from None
            raise OSError(error.errno, cause_of(error), str(folder.parent)) from None
        members = tuple(sorted(work.members, key=lambda member: member[1]))
        unpacked = Unpacked(path, members, tuple(work.left_out))
        # Whoever holds a slice of it holds the folder.
        weakref.finalize(unpacked, stack.pop_all().close)
    return unpacked


def allowed_bytes(path: Path, folder: Path) -> int:
    """Return how many bytes may be made in a folder of a compressed file.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    try:
        size = path.stat().st_size
        free = shutil.disk_usage(folder).free - _KEPT_FREE_BYTES
    except OSError as error:
        raise InputError(f"{printable(path)}: cannot be read ({cause_of(error)})") from None
    return max(min(_FREE_BYTES + MAX_RATIO * size, free), 0)


class _Work:
    """What has been extracted, and how much more may be."""

    def __init__(self, folder: Path, allowed: int) -> None:
        self.folder = folder
        self.allowed = allowed
        self.seen = 0
        self.members: list[tuple[Path, str]] = []
        self.left_out: list[SkippedFile] = []

    def count(self) -> None:
        """Count a member."""
        self.seen += 1
        if self.seen > MAX_MEMBERS:
            raise TooMuchError(f"holds more than {MAX_MEMBERS} files")

    def spend(self, size: int) -> None:
        """Count bytes that were decompressed."""
        self.allowed -= size
        if self.allowed < 0:
            raise TooMuchError(
                f"holds more than {MAX_RATIO} times its own size, or more than the disk has room "
                "for"
            )

    def take(self, name: str, read: Callable[[int], bytes]) -> None:
        """Extract a member if it may be DICOM, or note why it is left out."""
        claims_dicom = name.lower().endswith(".dcm")
        head = read(WINDOW_BYTES)
        self.spend(len(head))
        if not (may_be_dicom(head) or claims_dicom):
            self.left_out.append(
                SkippedFile(name, NESTED if _looks_like_archive(head) else NOT_DICOM)
            )
            return
        target = self.folder / f"{self.seen:06d}{'.dcm' if claims_dicom else ''}"
        with target.open("xb") as stream:
            while head:
                stream.write(head)
                head = read(_CHUNK)
                self.spend(len(head))
        self.members.append((target, name))


def _name(name: str) -> str | None:
    """Return what a member is called in messages; None for those that a search ignores."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or any(part.startswith(".") and part != ".." for part in parts):
        return None
    return shortened("/".join(parts), _MAX_NAME)


# Zip


class Sized:
    """A stream of which nobody reads more at once than a zip's directory may have."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.tell, self.close = stream.tell, stream.close

    def seek(self, at: int, whence: int = 0) -> int:
        """Go to a place; damaged archives name some before the beginning."""
        if whence == 0 and at < 0:
            raise DamagedArchiveError
        return self._stream.seek(at, whence)

    def seekable(self) -> bool:
        """Tell that it can be sought in."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return so many bytes, or fewer at the end."""
        # zipfile reads all there is where it looks for the end record, which is not much.
        data = self._stream.read(size if 0 <= size <= _MAX_DIRECTORY_BYTES else _TOO_MUCH_BYTES)
        if len(data) == _TOO_MUCH_BYTES:
            raise TooMuchError("has too large a directory")
        return data


def _unzip(stream: Sized, work: _Work, shown: str) -> None:
    try:
        archive = zipfile.ZipFile(stream)
        infos = archive.infolist()
    except (TooMuchError, MemoryError):
        raise
    except Exception:
        raise OSError from None
    for info in infos:
        work.count()
        name = _name(info.filename)
        if info.is_dir() or name is None:
            continue
        if info.flag_bits & _ENCRYPTED:
            raise InputError(f"{shown}: is encrypted", remedy="extract it first")
        if (info.external_attr >> 16) & _ZIP_KIND == _ZIP_LINK:
            work.left_out.append(SkippedFile(name, LINK))
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            work.left_out.append(BadFile(name, "is compressed by a method that is not read"))
        else:
            _unzip_member(archive, info, name, work)


def _unzip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, work: _Work) -> None:
    members = len(work.members)
    try:
        with archive.open(info) as member:
            work.take(name, member.read)
    except (TooMuchError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        work.left_out.append(BadFile(name, _DAMAGED))
    except Exception:
        # zipfile raises what it likes on damaged members, and quotes them.
        del work.members[members:]
        work.left_out.append(BadFile(name, _DAMAGED))


_DAMAGED: Final = "is damaged in the archive"


# Tar


class _Forward:
    """A stream that is read forwards, and by a block backwards, as far as may be."""

    def __init__(self, read: Callable[[int], bytes], work: _Work) -> None:
        self._read = read
        self._work = work
        self._at = 0
        self._end = 0
        self._tail = b""
        self.in_member = False

    def tell(self) -> int:
        return self._at

    def seek(self, at: int, whence: int = 0) -> int:
        if whence or not self._end - len(self._tail) <= at:
            raise DamagedArchiveError
        while self._end < at:
            if not self._forward(min(at - self._end, _CHUNK)):
                break
        self._at = min(at, self._end)
        return self._at

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise TooMuchError("has too large a header")
        start = len(self._tail) - (self._end - self._at)
        data = self._tail[start : start + size]
        while len(data) < size:
            more = self._forward(size - len(data))
            if not more:
                break
            data += more
        self._at += len(data)
        # tarfile searches headers with a pattern that takes the square of the digits in a row.
        if not self.in_member and _DIGITS.search(data):
            raise DamagedArchiveError
        return data

    def _forward(self, size: int) -> bytes:
        data = self._read(size)
        # Also what is passed over has been decompressed.
        self._work.spend(len(data))
        self._end += len(data)
        self._tail = (self._tail + data)[-tarfile.BLOCKSIZE :]
        return data


def _untar(stream: IO[bytes], work: _Work, own_name: str) -> None:
    # The members are counted where they are decompressed.
    paid = _Paid(work)
    try:
        forward: Any = _Forward(_decompressed(stream), work)
        with tarfile.open(fileobj=forward, mode="r:", errorlevel=1) as archive:
            for info in _infos(archive):
                work.count()
                name = _name(info.name)
                if info.isdir() or name is None:
                    continue
                if info.issym() or info.islnk():
                    work.left_out.append(SkippedFile(name, LINK))
                elif not info.isreg() or info.issparse():
                    work.left_out.append(SkippedFile(name, DEVICE))
                else:
                    member = archive.extractfile(info)
                    assert member is not None, "it is a regular file"
                    forward.in_member = True
                    paid.take(name, info.size, member.read)
                    forward.in_member = False
    except (TooMuchError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None and not isinstance(error, gzip.BadGzipFile):
            raise
        _damaged(work, own_name)
    except Exception:
        # tarfile and the decompressors raise what they like on damaged archives.
        _damaged(work, own_name)


def _infos(archive: Any) -> Iterator[tarfile.TarInfo]:
    while (info := archive.next()) is not None:
        yield info
        # It would keep them all.
        archive.members = []


class _Paid:
    """Takes members whose bytes have been counted already, and looks for those that are cut."""

    def __init__(self, work: _Work) -> None:
        self._work = work

    def take(self, name: str, size: int, read: Callable[[int], bytes]) -> None:
        found = 0

        def counted(most: int) -> bytes:
            nonlocal found
            data = read(most)
            found += len(data)
            self._work.allowed += len(data)
            return data

        members = len(self._work.members)
        self._work.take(name, counted)
        if found < size and len(self._work.members) > members:
            raise DamagedArchiveError


def _damaged(work: _Work, own_name: str) -> None:
    if not work.seen:
        raise OSError from None
    work.left_out.append(BadFile(printable(own_name), "the archive is cut off or damaged"))


def _decompressed(stream: IO[bytes]) -> Callable[[int], bytes]:
    head = stream.read(len(_XZ))
    stream.seek(0)
    if head.startswith(_GZIP):
        return gzip.GzipFile(fileobj=stream).read
    if head.startswith(_BZIP2):
        return bz2.BZ2File(stream).read
    if head.startswith(_XZ):
        return _Xz(stream).read
    return stream.read


class _Xz:
    """An xz stream, whose dictionary may take so much memory and no more."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decompressor: Any = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_XZ_BYTES)

    def read(self, size: int) -> bytes:
        found = b""
        while not found and not self._decompressor.eof:
            data = self._stream.read(_CHUNK) if self._decompressor.needs_input else b""
            if not data and self._decompressor.needs_input:
                raise DamagedArchiveError
            found = self._decompressor.decompress(data, size)
        return found
