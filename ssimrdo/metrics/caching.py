"""Numba's cache on disk, with checksums: what is damaged is compiled again.

Numba reads its files without a check, so one that a crash has cut off is an error in every run,
and one with a bit changed is machine code that does something else.
"""

# Numba is typed in part.
# mypy: allow-untyped-calls
from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

SHARED: Final = Path(__file__).with_name("kernels.py")
"""File whose functions become part of kernels in other files, which are compiled again with it."""

_DIGEST_BYTES: Final = hashlib.sha256().digest_size


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function with Numba, with a cache wherever that can be written.

    Parameters
    ----------
    function : callable
        Python function of a module.
    **options
        Of :func:`numba.njit`.
    """
    dispatcher: Any = njit(**options)(function)
    # With NUMBA_DISABLE_JIT it is the function itself.
    if dispatcher is not function:
        # Neither the package's folder nor the user's cache folder may be writable.
        with suppress(RuntimeError):
            dispatcher._cache = _Cache(function)
    return dispatcher


class _Cache(FunctionCache):
    """A cache that never fails: what it cannot give or keep is compiled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _CheckedFile(
            cache_path=self._cache_path,
            # Numba's own files have no checksums.
            filename_base=f"{self._impl.filename_base}-checked",
            source_stamp=(self._impl.locator.get_source_stamp(), _stamp(SHARED)),
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the machine code for a signature, None if there is none that is whole."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the machine code for a signature, if there is room."""
        with suppress(OSError):
            super().save_overload(sig, data)


class _CheckedFile(IndexDataCacheFile):
    """Files of a cache, each ending with its checksum."""

    def _load_index(self) -> dict[Any, str]:
        try:
            version, stamp, overloads = pickle.loads(_checked(Path(self._index_path)))
        except Exception:
            # Besides damage: an index of another Numba may need modules that this one has not.
            return {}
        # Keys of another version of Numba, or of other source code, say nothing.
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._write(self._index_path, self._dump((self._version, self._source_stamp, overloads)))

    def _load_data(self, name: str) -> Any:
        return pickle.loads(_checked(Path(self._data_path(name))))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), self._dump(data))

    def _write(self, path: str, content: bytes) -> None:
        with self._open_for_write(path) as stream:
            stream.write(content + hashlib.sha256(content).digest())


def _stamp(path: Path) -> tuple[float, int]:
    """Return what changes with a file, zeros if there is none, as in an archive."""
    try:
        status = path.stat()
    except OSError:
        return 0.0, 0
    return status.st_mtime, status.st_size


def _checked(path: Path) -> bytes:
    """Return the content of a file without its checksum.

    Raises
    ------
    ValueError
        If it does not match.
    """
    data = path.read_bytes()
    content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path.name} is damaged")
    return content
