"""Compiling of kernels with Numba, into machine code that is called without it."""

# Numba is typed in part.
# mypy: allow-untyped-calls
from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from functools import cache
from types import FunctionType
from typing import Any, Final

import numba
import numpy as np
from numba import types
from numba.core.errors import NumbaError
from numba.np.numpy_support import from_dtype

from ssimrdo.metrics.caching import Kernel
from ssimrdo.metrics.machine_code import Kind, MachineCode

# Its options are typed in part.
_njit: Final[Any] = numba.njit

KNOWN: Final = ((0, 61), (0, 68))
"""Versions of Numba, both included, whose calling convention :mod:`.machine_code` knows.

With others kernels are called through Numba.
"""

_RESULTS: Final = {types.none: "", types.float32: "f", types.float64: "d", types.int64: "q"}


def is_known() -> bool:
    """Tell whether code of the installed Numba can be called without it."""
    version = tuple(int(part) for part in numba.__version__.split(".")[:2])
    return KNOWN[0] <= version <= KNOWN[1] and sys.platform == "linux"


@cache
def dispatcher_of(kernel: Kernel, *, called: bool = False, bare: bool = False) -> Any:
    """Return what Numba makes of a kernel, which calls the dispatchers of those that it calls.

    Parameters
    ----------
    kernel : Kernel
        Kernel.
    called : bool
        Whether it is to be called from Python.
    bare : bool
        Whether it is to do without Numba's runtime, which counts references to memory.
    """
    function = kernel.function
    seen = {
        name: dispatcher_of(value, bare=bare) if isinstance(value, Kernel) else value
        for name, value in function.__globals__.items()
        if name in function.__code__.co_names
    }
    copy = FunctionType(function.__code__, seen, function.__name__, function.__defaults__)
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    if called:
        with suppress(RuntimeError):
            return _njit(**kernel.options, cache=True)(copy)
        # There is no folder for a cache.
        return _njit(**kernel.options)(copy)
    options = {**kernel.options, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return _njit(**options, _nrt=not bare)(copy)


def machine_code_of(kernel: Kernel, kinds: tuple[Kind, ...]) -> MachineCode | None:
    """Compile a kernel for arguments of some types.

    Returns
    -------
    MachineCode or None
        None where it can be called through Numba only: memory, for one, it takes from Numba.
    """
    if not is_known():
        return None
    signature = tuple(map(_type_of, kinds))
    dispatcher = dispatcher_of(kernel, bare=True)
    try:
        dispatcher.compile(signature)
    except NumbaError:
        return None
    found = dispatcher.overloads[signature]
    library, result = found.library, found.signature.return_type
    results = getattr(result, "types", (result,))
    if not set(results) <= set(_RESULTS) or not all(map(_is_there, _needs_of(library))):
        return None
    letters = "".join(_RESULTS[one] for one in results)
    return MachineCode(found.fndesc.llvm_func_name, letters, library._get_compiled_object())


def _type_of(kind: Kind) -> Any:
    number = from_dtype(np.dtype(kind.code))
    if kind.dimensions < 0:
        return number
    array: Any = types.Array
    layout = "C" if kind.contiguous else "A"
    return array(number, kind.dimensions, layout, readonly=not kind.writeable)


def _needs_of(library: Any) -> list[str]:
    """Return the functions that a library's code takes from elsewhere."""
    functions = library._final_module.functions
    return [one.name for one in functions if one.is_declaration and one.name[:5] != "llvm."]


def _is_there(symbol: str) -> bool:
    return hasattr(ctypes.CDLL(None), symbol)
