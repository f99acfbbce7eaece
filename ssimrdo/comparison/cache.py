"""Encodes and their measurements on disk, found again by what they were made from.

An entry is two files named by their key: ``KEY.mkv``, the encode (an archive
of pictures where FFmpeg knows no such stream), and ``KEY.json``, what was
measured. The JSON is written last and holds the checksum of the other, so a half-written or
damaged entry counts as absent. The time of the JSON is that of its last use: when the folder
outgrows its limit, the entries used longest ago go. The folder may be deleted at any time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Self

from ssimrdo.comparison.measure import Qualities
from ssimrdo.errors import InputError, cause_of
from ssimrdo.files import temporary_for, write_whole
from ssimrdo.record.tissue import TissueSummary

VARIABLE: Final = "SSIMRDO_CACHE_DIR"
"""Environment variable that names the folder."""

DEFAULT_LIMIT_BYTES: Final = 5_000_000_000

ABANDONED_SECONDS: Final = 86_400.0
"""Age at which an unfinished file is one of a run that was killed."""

_KEY = re.compile("[0-9a-f]{64}")
_WORKING = "encode.mkv"
_UNFINISHED = re.compile(rf"\.({re.escape(_WORKING)}|[0-9a-f]{{40}})\.[0-9a-f]{{16}}\.partial")
"""Names that :func:`ssimrdo.files.temporary_for` gives to what becomes part of an entry."""

_PRIVATE = 0o700
_REMEDY = "use {cache_dir} or {no_cache}"


@dataclass(frozen=True)
class Measurement:
    """One encode of one clip.

    Parameters
    ----------
    bytes : int
        Payload, see :mod:`ssimrdo.comparison.payload`.
    seconds : float
        Wall time of the encode.
    alone : bool
        Whether no other encode or measurement ran meanwhile.
    run : str
        Which comparison encoded it; what a machine does besides differs from one to the next.
    per_slice : mapping
        Quality of every slice, by index.
    measured_by : mapping of str to str
        Digest of the code behind each of these.
    tissue : TissueSummary, optional
        Errors by tissue.
    tissue_by : str
        Digest of the code behind these.
    """

    bytes: int
    seconds: float
    alone: bool
    run: str
    per_slice: Qualities = field(default_factory=dict)
    measured_by: Mapping[str, str] = field(default_factory=dict)
    tissue: TissueSummary | None = None
    tissue_by: str = ""

    def kbps(self, fps: Fraction, slices: int) -> float:
        """Return the bit rate in kbit/s."""
        return float(self.bytes * 8 * fps / slices / 1000)

    def with_values(self, per_slice: Qualities, digests: Mapping[str, str]) -> Measurement:
        """Return the measurement with values of some indices in place of any that it has."""
        digests = {name: digests[name] for name in per_slice}
        return dataclasses.replace(
            self,
            per_slice={**self.per_slice, **per_slice},
            measured_by={**self.measured_by, **digests},
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        fields = dataclasses.fields(self)
        record = {one.name: getattr(self, one.name) for one in fields}
        return {**record, "tissue": self.tissue and self.tissue.as_dict()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_json` was made from."""
        per_slice = {name: tuple(values) for name, values in record["per_slice"].items()}
        tissue = record.get("tissue")
        return cls(
            **{
                **record,
                "per_slice": per_slice,
                "tissue": None if tissue is None else TissueSummary.from_dict(tissue),
            }
        )


def default_folder() -> Path:
    """Return the folder of :data:`VARIABLE`, or one in the user's cache."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    return _users_folder()


def _users_folder() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("ssimrdo") / "compare"


def make_folder(folder: Path) -> Path:
    """Make the cache's folder if there is none, for this user alone, and return its absolute path.

    A folder that is there already stays as it is, but for the one in the user's own cache.
    FFmpeg would take a relative path with a colon for a URL.

    Raises
    ------
    InputError
        If that fails or it cannot be written to.
    """
    try:
        folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        if folder == _users_folder() and folder.stat().st_mode & ~_PRIVATE & 0o777:
            folder.chmod(_PRIVATE)
    except OSError as error:
        raise InputError(
            f"{folder}: no cache can be kept here: {cause_of(error)}", remedy=_REMEDY
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot write to this cache", remedy=_REMEDY)
    return folder.absolute()


def key_of(*parts: object) -> str:
    """Return a key that changes with any of the parts."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


def payload_path(folder: Path, key: str) -> Path:
    """Return where the encode of a key is."""
    return folder / f"{key}.mkv"


def load(folder: Path, key: str) -> Measurement | None:
    """Return the measurement of a key, None if it is not there or damaged."""
    try:
        record = json.loads(_record_path(folder, key).read_text(encoding="utf-8"))
        if record.pop("crc32") != _checksum(payload_path(folder, key)):
            return None
        measurement = Measurement.from_json(record)
        _record_path(folder, key).touch()
        return measurement
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def store(folder: Path, key: str, payload: Path, measurement: Measurement) -> None:
    """Put an encode into the cache, or what was measured of one that is there.

    Parameters
    ----------
    folder, key
        Where.
    payload : Path
        A file that :func:`working_file` gave for the same folder, which is moved, or the entry's
        own.
    measurement : Measurement
        What was measured of it.
    """
    record = {**measurement.to_json(), "crc32": _checksum(payload)}
    payload.replace(payload_path(folder, key))
    write_whole(_record_path(folder, key), json.dumps(record).encode(), overwrite=True)


def trim(folder: Path, limit_bytes: int) -> None:
    """Remove the entries used longest ago until the folder holds no more than a limit.

    Files that a killed run left behind go as well.

    Parameters
    ----------
    folder : Path
        Where.
    limit_bytes : int
        What may stay.

    Raises
    ------
    OSError
        If the folder cannot be read or changed.
    """
    entries: defaultdict[str, list[Path]] = defaultdict(list)
    for path in folder.iterdir():
        # The user may have chosen a folder with other files in it.
        if _KEY.fullmatch(path.stem) and path.suffix in (".json", ".mkv"):
            entries[path.stem].append(path)
        elif _UNFINISHED.fullmatch(path.name) and _used(path) < time.time() - ABANDONED_SECONDS:
            path.unlink(missing_ok=True)
    kept = 0
    for files in sorted(entries.values(), key=lambda files: max(map(_used, files)), reverse=True):
        kept += sum(map(_size, files))
        if kept > limit_bytes:
            for path in files:
                path.unlink(missing_ok=True)


@contextmanager
def working_file(folder: Path) -> Iterator[Path]:
    """Yield a name for a new file in the cache's folder; what is there goes unless it is moved."""
    # Named before it is made, so that no signal finds a file that nobody removes.
    path = temporary_for(folder / _WORKING)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _used(path: Path) -> float:
    # Others may trim the folder at the same time.
    return path.stat().st_mtime if path.exists() else 0.0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _record_path(folder: Path, key: str) -> Path:
    return folder / f"{key}.json"


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum
