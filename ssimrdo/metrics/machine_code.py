"""Machine code that Numba has made, loaded and called without Numba.

Importing Numba and filling its registries takes longer than encoding a short series, and code that
has been compiled needs nothing of them. It is loaded with LLVM, by Numba's own calling convention:
a place for the result, one for an error, then the arguments, an array as its owner, its size, its
first sample, its shape and its strides. It has no runtime: what takes memory has it handed in.
"""

# llvmlite has no types.
# mypy: allow-untyped-calls
from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np

_C_TYPES: Final[dict[str, Any]] = {
    "b": ctypes.c_int8,
    "h": ctypes.c_int16,
    "i": ctypes.c_int32,
    "l": ctypes.c_int64,
    "B": ctypes.c_uint8,
    "H": ctypes.c_uint16,
    "I": ctypes.c_uint32,
    "L": ctypes.c_uint64,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}
"""By NumPy's character code, on Linux."""

_CONTIGUOUS: Final = 0x1
_ALIGNED: Final = 0x100
_WRITEABLE: Final = 0x400

_GOOD: Final = (0, -2)
"""What code returns that has done its work, with a result and with None."""

_lock = Lock()


class Kind(NamedTuple):
    """What code is compiled for: the type of one argument.

    Parameters
    ----------
    code : str
        NumPy's character code.
    dimensions : int
        Of an array; -1 for a number.
    contiguous, writeable : bool
        Of an array.
    """

    code: str
    dimensions: int = -1
    contiguous: bool = False
    writeable: bool = False


@dataclass(frozen=True, slots=True)
class MachineCode:
    """A compiled function.

    Parameters
    ----------
    symbol : str
        Its name in the object file.
    result : str
        What it returns, in the letters of :mod:`struct`; empty for None.
    data : bytes
        An object file.
    """

    symbol: str
    result: str
    data: bytes


@cache
def _kind(code: str, dimensions: int, flags: int) -> Kind:
    if code not in _C_TYPES or not flags & _ALIGNED:
        raise TypeError(f"kernels take no arrays of {code!r}, or unaligned ones")
    return Kind(code, dimensions, bool(flags & _CONTIGUOUS), bool(flags & _WRITEABLE))


def kind_of(argument: Any) -> Kind:
    """Return the type of an array or a number.

    Raises
    ------
    TypeError
        If there is no code for such.
    """
    if isinstance(argument, np.ndarray) and argument.dtype.isnative:
        return _kind(argument.dtype.char, argument.ndim, argument.flags.num)
    if isinstance(argument, np.generic):
        return _kind(argument.dtype.char, -1, _ALIGNED)
    if isinstance(argument, int | float):
        return Kind("d" if isinstance(argument, float) else "l")
    raise TypeError(f"kernels take no {type(argument).__name__}")


def callable_of(code: MachineCode, kinds: tuple[Kind, ...]) -> Callable[..., Any]:
    """Load code and return a function that calls it; the interpreter lock is let go meanwhile.

    Parameters
    ----------
    code : MachineCode
        Compiled on this machine.
    kinds : tuple of Kind
        What for.
    """
    types = [ctypes.c_void_p, ctypes.c_void_p]
    for kind in kinds:
        types += _fields_of(kind)
    owner, address = _load(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *types)(address)
    result = struct.Struct(code.result)

    def call(*arguments: Any) -> Any:
        place = (ctypes.c_int64 * (1 + result.size // 8))()
        error = ctypes.c_void_p()
        values: list[Any] = [ctypes.addressof(place), ctypes.addressof(error)]
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                values += (None, None, argument.size, argument.itemsize, argument.ctypes.data)
                values += argument.shape
                values += argument.strides
            else:
                values.append(argument.item() if isinstance(argument, np.generic) else argument)
        if function(*values) not in _GOOD:
            raise RuntimeError("a kernel has failed")
        found = result.unpack_from(place)
        return found if len(found) > 1 else found[0] if found else None

    # Code goes with the engine that has loaded it.
    vars(call)["owner"] = owner
    return call


def _fields_of(kind: Kind) -> list[Any]:
    if kind.dimensions < 0:
        return [_C_TYPES[kind.code]]
    return [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
        *[ctypes.c_int64] * (2 * kind.dimensions),
    ]


def _load(code: MachineCode) -> tuple[Any, int]:
    """Return an engine that has loaded code, and the address of its function."""
    import llvmlite.binding as llvm

    with _lock:
        # One for each: what Numba compiles along with functions it may name alike.
        nothing = llvm.parse_assembly("")
        engine = llvm.create_mcjit_compiler(nothing, _machine())
        # Compiling nothing takes longer than loading the rest.
        engine.remove_module(nothing)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code.data))
        engine.finalize_object()
        return engine, engine.get_function_address(code.symbol)


def _machine() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(codemodel="jitdefault", jit=True)


@cache
def processor() -> str:
    """Return what code depends on: the processor with its features, and versions of libraries."""
    import llvmlite
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features().flatten()
    return " ".join((llvmlite.__version__, llvm.get_host_cpu_name(), features))
