"""NIfTI files: values are taken as HU, and the grid is turned to axial slices as DICOM has them."""

from __future__ import annotations

import gzip
import logging
import re
import weakref
import zlib
from contextlib import ExitStack
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ssimrdo.dicom import Geometry, Volume
from ssimrdo.dicom.digits import decimal_string, is_orientation
from ssimrdo.dicom.read.archive import allowed_bytes
from ssimrdo.dicom.read.geometry import slice_normal
from ssimrdo.errors import InputError, SeveralSeriesError, cause_of
from ssimrdo.extras import require
from ssimrdo.files import scratch_folder
from ssimrdo.text import printable
from ssimrdo.volumes.arrays import Slices, checked_shape

logger = logging.getLogger(__name__)

_HEADER_BYTES: Final = {348: (b"n+1\0", 344), 540: (b"n+2\0\r\n\x1a\n", 4)}
"""Size of the header by which NIfTI 1 and 2 are known, and the magic of single files and where."""

_ORDERS: Final[tuple[Literal["little", "big"], ...]] = ("little", "big")
_MAX_OFFSET: Final = 64 << 20
_CHUNK: Final = 1 << 20
_NUMBER: Final = re.compile("[0-9]{1,5}")
_MM: Final = {"meter": 1000.0, "micron": 0.001}
# NIfTI counts from right to left as R, A, S; DICOM's patient coordinates are L, P, S.
_TO_LPS: Final = np.array([-1.0, -1.0, 1.0])
# Columns go to the left of the patient, rows to the back, slices to the head.
_SHOWN: Final = ("L", "P", "S")
_PLAUSIBLE_MM: Final = (1e-5, 1e5)


def open_nifti(path: Path, number: str | None = None) -> Volume:
    """Return a volume of a .nii or .nii.gz file, slices from feet to head, as radiologists look.

    Parameters
    ----------
    path : Path
        The file.
    number : str, optional
        Which volume, from 1, where there are several.

    Raises
    ------
    InputError
        If the file cannot be used, or nibabel is not installed.
    """
    require("nibabel", what=printable(path))
    shown = printable(path)
    try:
        with ExitStack() as stack:
            plain = path
            if path.name.lower().endswith(".gz"):
                plain = stack.enter_context(scratch_folder()) / "volume.nii"
                header, offset, shape, dtype = _inflated(path, plain)
            else:
                with path.open("rb") as stream:
                    header = _header(stream.read(540), shown)
                offset, shape, dtype = _layout(header, shown)
                if offset + _bytes(shape, dtype) > path.stat().st_size:
                    raise InputError(f"{shown}: is cut off", remedy="copy it again")
            every = np.memmap(plain, dtype, "r", offset, shape, order="F")
            raw = every[..., _chosen(shape, number, shown)] if len(shape) == 4 else every
            turned, geometry = _turned(raw, header, shown)
            slope, intercept = _scale(header, shown)
            slices = Slices(checked_shape(turned, path), slope, intercept)
            weakref.finalize(slices, stack.pop_all().close)
    except OSError as error:
        raise InputError(f"{shown}: cannot be read ({cause_of(error)})") from None
    return Volume(slices, geometry=geometry)


def count_in_nifti(path: Path) -> int:
    """Return how many volumes a .nii or .nii.gz file has, by its header.

    Raises
    ------
    InputError
        As :func:`open_nifti`.
    """
    require("nibabel", what=printable(path))
    shown = printable(path)
    try:
        is_packed = path.name.lower().endswith(".gz")
        with gzip.open(path) if is_packed else path.open("rb") as stream:
            header = _header(stream.read(540), shown)
    except OSError as error:
        raise InputError(f"{shown}: cannot be read ({cause_of(error)})") from None
    except (EOFError, zlib.error):
        raise InputError(f"{shown}: is damaged", remedy="copy it again") from None
    _, shape, _ = _layout(header, shown)
    return shape[3] if len(shape) == 4 else 1


def _header(data: bytes, shown: str) -> Any:
    """Return the header alone: extensions may be of any size, and are not wanted."""
    nibabel: Any = import_module("nibabel")
    for size, (magic, at) in _HEADER_BYTES.items():
        for order in _ORDERS:
            is_known = int.from_bytes(data[:4], order) == size
            if is_known and len(data) >= size and data[at : at + len(magic)] == magic:
                kind = nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header
                # Without the check it does not log what it finds.
                return kind.from_fileobj(BytesIO(data[:size] + bytes(4)), check=False)
    raise InputError(
        f"{shown}: is not a NIfTI file, or is one of a pair", remedy="write one .nii file"
    )


def _layout(header: Any, shown: str) -> tuple[int, tuple[int, ...], np.dtype[Any]]:
    """Return where the values begin, their shape and their type, all of it plausible."""
    try:
        shape = tuple(map(int, header.get_data_shape()))
        dtype = np.dtype(header.get_data_dtype())
        offset = float(header["vox_offset"])
    except Exception:
        raise InputError(f"{shown}: its header is damaged") from None
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise InputError(f"{shown}: is not a volume: it has shape {shape!s:.60}")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"{shown}: its values are no HU: they are no plain numbers")
    if not 0 <= offset <= _MAX_OFFSET:
        raise InputError(f"{shown}: its header is damaged")
    return int(offset), shape, dtype


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    size = dtype.itemsize
    for length in shape:
        size *= length
    return size


def _inflated(path: Path, plain: Path) -> tuple[Any, int, tuple[int, ...], np.dtype[Any]]:
    """Inflate a file as far as its header says, once that is plausible."""
    shown = printable(path)
    try:
        with gzip.open(path) as stream, plain.open("xb") as out:
            head = stream.read(540)
            header = _header(head, shown)
            offset, shape, dtype = _layout(header, shown)
            missing = offset + _bytes(shape, dtype)
            if missing > allowed_bytes(path, plain.parent):
                raise InputError(
                    f"{shown}: holds more than 100 times its own size, or more than the disk has "
                    "room for",
                    remedy="decompress it yourself if you trust it",
                )
            data = head
            while missing > 0 and data:
                out.write(data[:missing])
                missing -= len(data)
                data = stream.read(_CHUNK)
    except InputError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(f"{shown}: is damaged", remedy="copy it again") from None
    except Exception:
        raise InputError(f"{shown}: is damaged", remedy="copy it again") from None
    if missing > 0:
        raise InputError(f"{shown}: is cut off", remedy="copy it again")
    return header, offset, shape, dtype


def _chosen(shape: tuple[int, ...], number: str | None, shown: str) -> int:
    count = shape[3]
    if number is None:
        raise SeveralSeriesError(
            f"{shown}: holds {count} volumes",
            remedy=f"choose one with {{series_uid}}, from 1 to {count}",
        )
    if not _NUMBER.fullmatch(number) or not 1 <= int(number) <= count:
        raise InputError(f"{shown}: there are volumes 1 to {count}", field="series_uid")
    return int(number) - 1


def _scale(header: Any, shown: str) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    # A slope of zero stands for none.
    if slope == 0 or not np.isfinite(slope):
        return 1.0, 0.0
    if not np.isfinite(intercept) or max(abs(slope), abs(intercept)) > 1e9:
        raise InputError(f"{shown}: its scale is damaged")
    return slope, intercept


def _turned(raw: NDArray[Any], header: Any, shown: str) -> tuple[NDArray[Any], Geometry]:
    """Return slices, rows and columns as :data:`_SHOWN` says, and where they lie."""
    orientations: Any = import_module("nibabel.orientations")
    try:
        affine = np.asarray(header.get_best_affine(), np.float64)
        unit = header.get_xyzt_units()[0]
        affine[:3] *= _MM.get(unit, 1.0)
        here = orientations.io_orientation(affine)
        if not np.isfinite(affine).all() or np.isnan(here).any():
            raise ValueError
    except Exception:
        raise InputError(f"{shown}: its header does not say where the slices lie") from None
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        logger.warning("%s: the header has no orientation; taken as stored right to left", shown)
    turn = orientations.ornt_transform(here, orientations.axcodes2ornt(_SHOWN))
    turned = orientations.apply_orientation(raw, turn).transpose(2, 1, 0)
    grid = affine @ orientations.inv_ornt_aff(turn, raw.shape)
    column, row, step, origin = (_TO_LPS * grid[:3, axis] for axis in range(4))
    spacing = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    low, high = _PLAUSIBLE_MM
    if not low <= min(spacing) <= max(spacing) <= high:
        raise InputError(f"{shown}: pixels of {spacing[0]:g} by {spacing[1]:g} mm are none")
    orientation = tuple(float(one) for one in (*column / spacing[1], *row / spacing[0]))
    if not is_orientation([decimal_string(one) for one in orientation]):
        raise InputError(f"{shown}: its rows and columns are not at right angles")
    positions = tuple(
        tuple(float(one) for one in origin + index * step) for index in range(len(turned))
    )
    normal = slice_normal(orientation)
    return turned, Geometry(
        pixel_spacing_mm=spacing,
        orientation=orientation,
        positions_mm=positions,
        along_mm=tuple(float(normal @ position) for position in positions),
        thickness_mm=float(abs(normal @ step)) or None,
    )
