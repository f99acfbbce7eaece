"""Encodes and their measurements on disk, found again by what they were made from.

An entry is two files named by their key: ``KEY.mkv``, the encode, and ``KEY.json``, what was
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
import secrets
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import ssimrdo
from ssimrdo.compare.measure import METRICS, Qualities
from ssimrdo.errors import InputError

VARIABLE = "SSIMRDO_CACHE_DIR"
"""Environment variable that names the folder."""

DEFAULT_LIMIT_BYTES = 5_000_000_000

_KEY = re.compile("[0-9a-f]{64}")
_PARTIAL = ".partial-"
_ABANDONED_SECONDS = 86_400.0


@dataclass(frozen=True)
class Measurement:
    """One encode of one clip.

    Parameters
    ----------
    bytes : int
        Payload: all packets, without the container.
    seconds : float
        Wall time of the encode.
    alone : bool
        Whether no other encode or measurement ran meanwhile.
    run : str
        Which comparison encoded it; what a machine does besides differs from one to the next.
    per_slice : dict
        Quality of every slice, by metric.
    """

    bytes: int
    seconds: float
    alone: bool
    run: str
    per_slice: Qualities

    def kbps(self, fps: Fraction, slices: int) -> float:
        """Return the bit rate in kbit/s."""
        return float(self.bytes * 8 * fps / slices / 1000)


def default_folder() -> Path:
    """Return the folder of :data:`VARIABLE`, or one in the user's cache."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    from platformdirs import user_cache_path

    return user_cache_path("ssimrdo") / "compare"


def make_folder(folder: Path) -> Path:
    """Make the cache's folder if there is none, and return its absolute path.

    FFmpeg would take a relative path with a colon for a URL.

    Raises
    ------
    InputError
        If that fails or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: no cache can be kept here: {error.strerror}: use --cache-dir or --no-cache"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot write to this cache: use --cache-dir or --no-cache")
    return folder.absolute()


def key_of(*parts: object) -> str:
    """Return a key that changes with any of the parts."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()


@cache
def code_digest(*names: str) -> str:
    """Return a hash of modules and folders of this package, for what changes with the code."""
    package = Path(ssimrdo.__file__).parent
    digest = hashlib.sha256()
    for name in names:
        path = package / name
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.suffix in (".py", ".so"):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def payload_path(folder: Path, key: str) -> Path:
    """Return where the encode of a key is."""
    return folder / f"{key}.mkv"


def load(folder: Path, key: str) -> Measurement | None:
    """Return the measurement of a key, None if it is not there or damaged."""
    try:
        record = json.loads(_record_path(folder, key).read_text())
        if record.pop("crc32") != _checksum(payload_path(folder, key)):
            return None
        per_slice = {name: tuple(record["per_slice"][name]) for name in METRICS}
        _record_path(folder, key).touch()
        return Measurement(**{**record, "per_slice": per_slice})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def store(folder: Path, key: str, payload: Path, measurement: Measurement) -> None:
    """Move an encode into the cache and write its measurement.

    Parameters
    ----------
    folder, key
        Where.
    payload : Path
        A file that :func:`working_file` gave for the same folder.
    measurement : Measurement
        What was measured of it.
    """
    record = {**dataclasses.asdict(measurement), "crc32": _checksum(payload)}
    with working_file(folder) as temporary:
        temporary.write_text(json.dumps(record))
        payload.replace(payload_path(folder, key))
        temporary.replace(_record_path(folder, key))


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
        elif path.name.startswith(_PARTIAL) and _used(path) < time.time() - _ABANDONED_SECONDS:
            path.unlink(missing_ok=True)
    kept = 0
    for files in sorted(entries.values(), key=lambda files: max(map(_used, files)), reverse=True):
        kept += sum(map(_size, files))
        if kept > limit_bytes:
            for path in files:
                path.unlink(missing_ok=True)


def _used(path: Path) -> float:
    # Others may trim the folder at the same time.
    return path.stat().st_mtime if path.exists() else 0.0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def working_file(folder: Path) -> Iterator[Path]:
    """Yield a name for a new file in the cache's folder; what is there goes unless it is moved."""
    # Named before it is made, so that no signal finds a file that nobody removes.
    path = folder / f"{_PARTIAL}{secrets.token_hex(8)}.mkv"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _record_path(folder: Path, key: str) -> Path:
    return folder / f"{key}.json"


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum
