"""Kernels: functions that Numba compiles once, and that are called without it from then on.

Machine code is kept on disk with a checksum. What is damaged is compiled again: code with a bit
changed is code that does something else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import update_wrapper
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Lock
from typing import Any, Final

from ssimrdo.metrics.machine_code import Kind, MachineCode, callable_of, kind_of, processor

SHARED: Final = Path(__file__).with_name("kernels.py")
"""File whose functions become part of kernels in other files, which are compiled again with it."""

_DIGEST_BYTES: Final = hashlib.sha256().digest_size

# Settings of Numba that no code depends on.
_NO_MATTER: Final = frozenset(("NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER"))


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Have a function compiled when it is first called for arguments of some types.

    Parameters
    ----------
    function : callable
        Python function of a module, of arrays and numbers. Others that it calls are functions of
        this kind too.
    **options
        Of :func:`numba.njit`.

    Returns
    -------
    Kernel
        With ``NUMBA_DISABLE_JIT`` the function itself.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        return function
    return Kernel(function, options)


class Kernel:
    """A function that runs as machine code: from disk, or else as Numba compiles it now.

    Parameters
    ----------
    function : callable
        What Numba compiles.
    options : mapping
        Of :func:`numba.njit`.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        update_wrapper(self, function)
        self.function = function
        self.options = options
        self.loaded = 0
        """For how many types of arguments code was on disk."""
        self.compiled = 0
        """For how many it was not."""
        self._calls: dict[tuple[Kind, ...], Callable[..., Any]] = {}
        self._lock = Lock()

    def __call__(self, *arguments: Any) -> Any:
        """Call the machine code for arguments of these types."""
        kinds = tuple(map(kind_of, arguments))
        call = self._calls.get(kinds)
        if call is None:
            with self._lock:
                call = self._calls.get(kinds) or self._made(kinds)
                self._calls[kinds] = call
        return call(*arguments)

    def _made(self, kinds: tuple[Kind, ...]) -> Callable[..., Any]:
        path, stamp = _place_of(self.function, kinds), _stamp_of(self.function)
        code = _read(path, stamp)
        if code is not None:
            self.loaded += 1
            return callable_of(code, kinds)

        from ssimrdo.metrics.compiling import dispatcher_of, machine_code_of

        self.compiled += 1
        code = machine_code_of(self, kinds)
        if code is None:
            call: Callable[..., Any] = dispatcher_of(self, called=True)
            return call
        _write(path, stamp, code)
        return callable_of(code, kinds)


def _place_of(function: Callable[..., Any], kinds: tuple[Kind, ...]) -> Path:
    """Return where code is kept: one file for each function, types, processor and settings."""
    source = Path(function.__code__.co_filename)
    settings = sorted(
        item for item in os.environ.items() if item[0][:6] == "NUMBA_" and item[0] not in _NO_MATTER
    )
    key = repr((kinds, processor(), settings)).encode()
    name = f"{source.stem}.{function.__name__}-{hashlib.sha256(key).hexdigest()[:16]}.code"
    return _folder_of(source) / name


def _folder_of(source: Path) -> Path:
    given = os.environ.get("NUMBA_CACHE_DIR")
    if not given and os.access(source.parent, os.W_OK):
        return source.parent / "__pycache__"

    from platformdirs import user_cache_path

    # Of several installations each has its own.
    place = hashlib.sha256(str(source.parent).encode()).hexdigest()[:16]
    return (Path(given) if given else user_cache_path("ssimrdo")) / f"{source.parent.name}-{place}"


def _stamp_of(function: Callable[..., Any]) -> list[Any]:
    """Return what changes with the source code of a function, and with Numba."""
    numba = find_spec("numba")
    files = [Path(function.__code__.co_filename), SHARED]
    if numba is not None and numba.origin is not None:
        files.append(Path(numba.origin).with_name("_version.py"))
    return [function.__code__.co_firstlineno, *map(_times, files)]


def _times(path: Path) -> list[float]:
    """Return what changes with a file, zeros if there is none, as in an archive."""
    try:
        status = path.stat()
    except OSError:
        return [0.0, 0]
    return [status.st_mtime, status.st_size]


def _read(path: Path, stamp: list[Any]) -> MachineCode | None:
    """Return the code in a file, None if there is none that is whole and of this stamp."""
    try:
        content = path.read_bytes()
        whole, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
        if hashlib.sha256(whole).digest() != digest:
            return None
        head, data = whole.split(b"\n", 1)
        found = json.loads(head)
        if found["stamp"] == stamp:
            return MachineCode(found["symbol"], found["result"], data)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _write(path: Path, stamp: list[Any], code: MachineCode) -> None:
    """Keep code, where there is room; nobody sees half a file."""
    head = json.dumps({"stamp": stamp, "symbol": code.symbol, "result": code.result})
    whole = head.encode() + b"\n" + code.data
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=path.stem, delete=False) as stream:
            temporary = Path(stream.name)
            try:
                stream.write(whole + hashlib.sha256(whole).digest())
                stream.close()
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
