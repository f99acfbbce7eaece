"""Loading of one slice as HU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydicom import dcmread
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from ssimrdo.dicom.read.header import printable
from ssimrdo.errors import BadSliceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssimrdo.dicom.read.header import SliceHeader

AIR_HU: Final = -1000.0
"""Padding outside the reconstructed field becomes air."""

# One plugin each, so that pixels never depend on what else is installed; pylibjpeg for all others.
# It decodes corrupt JPEG-LS to noise without an error, and panics on corrupt RLE.
_PLUGINS: Final = {**dict.fromkeys(JPEGLSTransferSyntaxes, "pyjpegls"), RLELossless: "pydicom"}
_OTHER_PLUGIN: Final = "pylibjpeg"

# All of these codestreams end with this marker, be it called EOI or EOC; writers pad behind it.
_END_MARKER: Final = b"\xff\xd9"
_MARKED: Final = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)


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
    try:
        cells = _cells(header)
    except Exception as error:
        # pydicom and the decoders raise whatever they like on corrupt data.
        cause = (str(error).splitlines() or [type(error).__name__])[-1].strip()[:120]
        reason = f"the pixel data cannot be decoded ({printable(cause)})"
        if isinstance(error, OSError) and error.strerror:
            reason = f"cannot be read: {error.strerror}"
        raise BadSliceError(printable(header.path), reason) from None
    values = _stored_values(cells, header)
    hu = values.astype(np.float32)
    hu *= np.float32(header.rescale_slope)
    hu += np.float32(header.rescale_intercept)
    if header.padding is not None:
        low, high = header.padding
        # A padding value that does not fit the stored bits, such as -2000 beside unsigned 12-bit
        # pixels, can only be seen in the whole cells.
        least = -(2 ** (header.bits_stored - 1)) if header.signed else 0
        fits = least <= low and high < least + 2**header.bits_stored
        seen = values if fits else cells
        hu[seen == low if low == high else (seen >= low) & (seen <= high)] = AIR_HU
    return hu


def decoding_problem(transfer_syntax_uid: str) -> str | None:
    """Say why a transfer syntax cannot be decoded and what to do, None if it can be."""
    uid = UID(transfer_syntax_uid)
    name = f"transfer syntax {uid.name}" + (f" ({uid})" if uid.name != uid else "")
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        return f"{name} is not supported; convert the series to an uncompressed transfer syntax"
    plugin = _PLUGINS.get(uid, _OTHER_PLUGIN)
    if not decoder.is_encapsulated or plugin in decoder.available_plugins:
        return None
    missing = "; ".join(text for text in decoder.missing_dependencies if text.startswith(plugin))
    return f"{name} needs a decoder that is not installed ({missing or plugin}); install it"


def _cells(header: SliceHeader) -> NDArray[Any]:
    """Return the pixel cells as stored, with the signedness of the header."""
    dataset = dcmread(header.path, force=True)
    data = dataset.get("PixelData", b"")
    uid = UID(header.transfer_syntax_uid)
    # Decoders return a partial image, without an error, where such a codestream just ends.
    if not data or (uid in _MARKED and _END_MARKER not in data[-16:]):
        raise ValueError("it is cut off")
    # Files without File Meta Information do not state it.
    dataset.file_meta.TransferSyntaxUID = uid
    pixels = pixel_array(
        dataset,
        index=0,
        raw=True,
        decoding_plugin=_PLUGINS.get(uid, _OTHER_PLUGIN),
        view_only=True,
        # Padding may differ from pixels in nothing but the unused bits.
        correct_unused_bits=False,
    )
    dtype = f"{'i' if header.signed else 'u'}{header.bits_allocated // 8}"
    return pixels.reshape(header.rows, header.columns).astype(dtype, copy=False)


def _stored_values(cells: NDArray[Any], header: SliceHeader) -> NDArray[Any]:
    """Drop the unused bits around the stored ones and extend the sign."""
    below = header.bits_allocated - header.bits_stored
    if below == 0:
        return cells
    values = cells << (header.bits_allocated - 1 - header.high_bit)
    values >>= below
    return values
