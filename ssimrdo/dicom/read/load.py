"""Loading of one slice as HU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ssimrdo.dicom.padding import AIR_HU
from ssimrdo.dicom.read.elements import DamagedError
from ssimrdo.dicom.read.pixels import read_cells
from ssimrdo.dicom.registry import JPEG_LS_SYNTAXES, NATIVE_SYNTAXES, RLE
from ssimrdo.errors import BadSliceError, cause_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssimrdo.dicom.read.header import SliceHeader

# One plugin each, so that pixels never depend on what else is installed; pylibjpeg for all others.
# It decodes corrupt JPEG-LS to noise without an error, and panics on corrupt RLE.
_PLUGINS: Final = {**dict.fromkeys(JPEG_LS_SYNTAXES, "pyjpegls"), RLE: "pydicom"}
_OTHER_PLUGIN: Final = "pylibjpeg"


def load_hu(header: SliceHeader) -> NDArray[np.float32]:
    """Load one slice as HU.

    Unused bits are masked, signed values sign-extended, padding becomes `AIR_HU`.

    Parameters
    ----------
    header : SliceHeader
        The slice as found by `find_series`.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        HU values.

    Raises
    ------
    BadSliceError
        If the file cannot be read or its pixel data cannot be decoded.
    """
    return load_slice(header)[0]


def load_slice(header: SliceHeader) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Load one slice as HU, and where it is padding; errors as :func:`load_hu`.

    Returns
    -------
    ndarray of float32, ndarray of bool or None; both of shape (rows, columns)
        HU, `AIR_HU` in the padding; and what is padding, None where the header tells of none.
    """
    return hu_of_cells(load_cells(header), header)


def load_cells(header: SliceHeader) -> NDArray[Any]:
    """Load the pixel cells of one slice, as :func:`read_cells`; errors as :func:`load_hu`."""
    try:
        return read_cells(header)
    except DamagedError as error:
        raise BadSliceError(header.shown, f"the pixel data cannot be decoded ({error})") from None
    except OSError as error:
        reason = f"cannot be read: {cause_of(error)}"
        raise BadSliceError(header.shown, reason) from None


def hu_of_cells(
    cells: NDArray[Any], header: SliceHeader
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return cells of a slice, of any shape, as HU, and where they are padding.

    Returns
    -------
    ndarray of float32, ndarray of bool or None; both of the cells' shape
        As :func:`load_slice`.
    """
    hu = _stored_values(cells, header).astype(np.float32)
    hu *= np.float32(header.rescale_slope)
    hu += np.float32(header.rescale_intercept)
    padded = padding_of_cells(cells, header)
    if padded is not None:
        hu[padded] = AIR_HU
    return hu, padded


def padding_of_cells(cells: NDArray[Any], header: SliceHeader) -> NDArray[np.bool_] | None:
    """Return where cells of a slice, of any shape, are padding, None where there is none."""
    if header.padding is None:
        return None
    low, high = header.padding
    # A padding value that does not fit the stored bits, such as -2000 beside unsigned 12-bit
    # pixels, can only be seen in the whole cells.
    least = -(2 ** (header.bits_stored - 1)) if header.signed else 0
    fits = least <= low and high < least + 2**header.bits_stored
    seen = _stored_values(cells, header) if fits else cells
    return seen == low if low == high else (seen >= low) & (seen <= high)


def decoding_problem(transfer_syntax_uid: str) -> str | None:
    """Say why a transfer syntax cannot be decoded and what to do, None if it can be."""
    if transfer_syntax_uid in NATIVE_SYNTAXES:
        return None

    from pydicom.config import IGNORE
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID, AllTransferSyntaxes

    # Without the mode it warns of those that do not conform, and quotes them.
    uid = UID(transfer_syntax_uid, IGNORE)
    name = f"transfer syntax {uid.name}" + (f" ({uid})" if uid.name != uid else "")
    try:
        decoder = get_decoder(uid) if uid in AllTransferSyntaxes else None
    except NotImplementedError:
        decoder = None
    if decoder is None:
        return f"{name} is not supported; convert the series to an uncompressed transfer syntax"
    plugin = _PLUGINS.get(uid, _OTHER_PLUGIN)
    if not decoder.is_encapsulated or plugin in decoder.available_plugins:
        return None
    missing = "; ".join(text for text in decoder.missing_dependencies if text.startswith(plugin))
    return f"{name} needs a decoder that is not installed ({missing or plugin}); install it"


def _stored_values(cells: NDArray[Any], header: SliceHeader) -> NDArray[Any]:
    """Drop the unused bits around the stored ones and extend the sign."""
    below = header.bits_allocated - header.bits_stored
    if below == 0:
        return cells
    values = cells << (header.bits_allocated - 1 - header.high_bit)
    values >>= below
    return values
