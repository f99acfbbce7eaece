"""NumPy's files: .npy is mapped into memory; .npz is extracted first, within bounds."""

from __future__ import annotations

import weakref
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom import Volume
from ssimrdo.dicom.read.archive import Sized, TooMuchError, allowed_bytes
from ssimrdo.errors import InputError, cause_of
from ssimrdo.files import scratch_folder
from ssimrdo.text import printable

MAX_PIXELS: Final = 1 << 26
"""Of a slice, as of one in DICOM."""

_HU: Final = "hu"
_OTHERS: Final = ("pixel_spacing_mm", "positions_mm")
_CHUNK: Final = 1 << 16
_MAX_OTHER_BYTES: Final = 1 << 20


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices of an array that is not in memory, scaled to HU as they are read.

    Parameters
    ----------
    raw : ndarray of shape (slices, rows, columns)
        Stored values.
    slope, intercept : float
        HU are the stored values times the one, and the other added.
    """

    raw: NDArray[Any] = field(repr=False)
    slope: float = 1.0
    intercept: float = 0.0

    def __len__(self) -> int:
        return len(self.raw)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for stored in self.raw:
            # What float32 cannot hold becomes infinite, and no HU are.
            with np.errstate(over="ignore", invalid="ignore"):
                hu = stored.astype(np.float32)
                if (self.slope, self.intercept) != (1, 0):
                    hu *= np.float32(self.slope)
                    hu += np.float32(self.intercept)
            yield hu


def open_array(path: Path) -> Volume:
    """Return the volume of a .npy or .npz file.

    A .npz has it as ``hu``, or as its only array; ``pixel_spacing_mm`` (row spacing, column
    spacing) and ``positions_mm`` may stand beside it.

    Raises
    ------
    InputError
        If the file cannot be used.
    """
    if path.suffix.lower() == ".npy":
        return Volume(Slices(checked_shape(_mapped(path, path), path)))
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        members = _extracted(path, folder)
        arrays = {name: _mapped(member, path) for name, member in members.items()}
        if _HU not in arrays:
            raise InputError(f"{printable(path)}: has no array called {_HU}")
        others = {
            name: None if name not in arrays else arrays[name].ravel().tolist() for name in _OTHERS
        }
        slices = Slices(checked_shape(arrays[_HU], path))
        weakref.finalize(slices, stack.pop_all().close)
    return Volume(slices, others["pixel_spacing_mm"], others["positions_mm"])  # type: ignore[arg-type]


def checked_shape(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return an array of numbers with slices, rows and columns.

    Raises
    ------
    InputError
        If it is none, or a slice is too large.
    """
    shown = printable(path)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{shown}: HU are whole or floating-point numbers, and these are neither")
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(
            f"{shown}: a volume has slices, rows and columns, not shape {array.shape!s:.60}"
        )
    if array.shape[1] * array.shape[2] > MAX_PIXELS:
        raise InputError(f"{shown}: slices of more than {MAX_PIXELS} pixels are not read")
    return array


def _mapped(path: Path, shown: Path) -> NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise InputError(f"{printable(shown)}: cannot be read ({cause_of(error)})") from None
    except Exception:
        # NumPy quotes what it does not understand.
        raise InputError(
            f"{printable(shown)}: is not a NumPy array, or is cut off", remedy="write it again"
        ) from None


def _extracted(path: Path, folder: Path) -> dict[str, Path]:
    """Extract the arrays that are wanted."""
    shown = printable(path)
    allowed = allowed_bytes(path, folder)
    found: dict[str, Path] = {}
    try:
        with path.open("rb") as stream, zipfile.ZipFile(Sized(stream)) as archive:
            infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if _HU not in infos and len(infos) == 1:
                infos = {_HU: next(iter(infos.values()))}
            for name in (_HU, *_OTHERS):
                if name in infos:
                    most = allowed if name == _HU else _MAX_OTHER_BYTES
                    found[name] = folder / f"{name}.npy"
                    with archive.open(infos[name]) as member, found[name].open("xb") as out:
                        while data := member.read(_CHUNK):
                            most -= len(data)
                            if most < 0:
                                raise TooMuchError("holds more than may be extracted")
                            out.write(data)
    except TooMuchError as error:
        raise InputError(f"{shown}: {error}", remedy="write it as .npy") from None
    except OSError as error:
        raise InputError(f"{shown}: cannot be read ({cause_of(error)})") from None
    except Exception:
        # zipfile raises what it likes on damaged members, and quotes them.
        raise InputError(f"{shown}: is damaged", remedy="write it again") from None
    return found
