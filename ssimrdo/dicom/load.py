"""Loading of one slice as HU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydicom import config
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRBigEndian, JPEGLSTransferSyntaxes, RLELossless

from ssimrdo.dicom.elements import inflate
from ssimrdo.dicom.header import NATIVE_TRANSFER_SYNTAXES, printable
from ssimrdo.dicom.rle import decode_rle
from ssimrdo.errors import BadSliceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssimrdo.dicom.header import SliceHeader

AIR_HU: Final = -1000.0
"""Padding outside the reconstructed field becomes air."""

_CUT_OFF: Final = "the pixel data is cut off; copy the file again"


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
    cells = _cells(header)
    values = _stored_values(cells, header)
    hu = values.astype(np.float32)
    hu *= np.float32(header.rescale_slope)
    hu += np.float32(header.rescale_intercept)
    padding = _padding_mask(cells, values, header)
    if padding is not None:
        hu[padding] = AIR_HU
    return hu


def decoding_problem(transfer_syntax_uid: str) -> str | None:
    """Say why pixels of a transfer syntax cannot be decoded here.

    Parameters
    ----------
    transfer_syntax_uid : str
        Transfer Syntax UID.

    Returns
    -------
    str or None
        The transfer syntax and what to do about it, None if it can be decoded.
    """
    # Validation would warn about a malformed UID.
    uid = UID(transfer_syntax_uid, validation_mode=config.IGNORE)
    name = f"transfer syntax {uid.name}" + (f" ({uid})" if uid.name != uid else "")
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        return f"{name} is not supported; convert the series to an uncompressed transfer syntax"
    plugin = _plugin(uid)
    if uid == RLELossless or not decoder.is_encapsulated or plugin in decoder.available_plugins:
        return None
    missing = "; ".join(text for text in decoder.missing_dependencies if text.startswith(plugin))
    return f"{name} needs a decoder that is not installed ({missing or plugin}); install it"


def _plugin(transfer_syntax_uid: str) -> str:
    """Return the one pydicom plugin used, so that pixels never depend on what else is installed.

    pyjpegls detects corrupt JPEG-LS data, which pylibjpeg turns into noise without an error.
    """
    return "pyjpegls" if transfer_syntax_uid in JPEGLSTransferSyntaxes else "pylibjpeg"


def _cells(header: SliceHeader) -> NDArray[Any]:
    """Return the pixel cells as stored, uint8 or uint16 of shape (rows, columns)."""
    data = _pixel_bytes(header)
    if header.transfer_syntax_uid in NATIVE_TRANSFER_SYNTAXES:
        cells = _native_cells(data, header)
    else:
        cells = _decoded_cells(data, header)
    return cells.reshape(header.rows, header.columns)


def _pixel_bytes(header: SliceHeader) -> bytes:
    """Read the value of Pixel Data."""
    where = header.pixel_data
    try:
        with header.path.open("rb") as stream:
            if where.deflated_at is None:
                stream.seek(where.offset)
                data = stream.read(where.length)
            else:
                stream.seek(where.deflated_at)
                data = inflate(stream.read())[where.offset : where.offset + where.length]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadSliceError(printable(header.path), f"cannot be read: {reason}") from None
    if len(data) < where.length:
        raise BadSliceError(printable(header.path), _CUT_OFF)
    return data


def _native_cells(data: bytes, header: SliceHeader) -> NDArray[Any]:
    count = header.rows * header.columns
    big_endian = header.transfer_syntax_uid == ExplicitVRBigEndian
    if header.bits_allocated == 16:
        return np.frombuffer(data, ">u2" if big_endian else "<u2", count).astype(
            np.uint16, copy=False
        )
    if big_endian and header.pixel_data.vr == "OW":
        # PS3.5 8.1.2: 8-bit cells are then packed in pairs into big-endian words.
        words = np.frombuffer(data, np.uint16, len(data) // 2)
        return words.byteswap().view(np.uint8)[:count]
    return np.frombuffer(data, np.uint8, count)


def _decoded_cells(data: bytes, header: SliceHeader) -> NDArray[Any]:
    try:
        if header.transfer_syntax_uid == RLELossless:
            return _rle_cells(data, header)
        return _codec_cells(data, header)
    except Exception as error:
        # The decoders are third-party code that raises whatever it likes on corrupt data.
        cause = (str(error).splitlines() or [type(error).__name__])[-1].strip()[:120]
        raise BadSliceError(
            printable(header.path), f"the pixel data cannot be decoded ({printable(cause)})"
        ) from None


def _rle_cells(data: bytes, header: SliceHeader) -> NDArray[Any]:
    cell_bytes = header.bits_allocated // 8
    frame = get_frame(data, 0, number_of_frames=1)
    cells = decode_rle(frame, header.rows * header.columns, cell_bytes).view(f"<u{cell_bytes}")
    return cells.astype(cells.dtype.newbyteorder("="), copy=False)


def _codec_cells(data: bytes, header: SliceHeader) -> NDArray[Any]:
    """Decode JPEG, JPEG-LS or JPEG 2000.

    pydicom corrects the signedness of JPEG-LS and JPEG 2000; the unused bits of JPEG are left as
    they are, for padding may differ from pixels in nothing else.
    """
    decoder: Any = get_decoder(header.transfer_syntax_uid)
    # Without validation, with a frame index and these plugins, no path through pydicom warns.
    pixels, _ = decoder.as_array(
        data,
        index=0,
        validate=False,
        raw=True,
        decoding_plugin=_plugin(header.transfer_syntax_uid),
        correct_unused_bits=False,
        rows=header.rows,
        columns=header.columns,
        number_of_frames=1,
        samples_per_pixel=1,
        photometric_interpretation=header.photometric_interpretation,
        bits_allocated=header.bits_allocated,
        bits_stored=header.bits_stored,
        pixel_representation=int(header.signed),
        pixel_keyword="PixelData",
    )
    return np.asarray(pixels).view(np.uint8 if header.bits_allocated == 8 else np.uint16)


def _stored_values(cells: NDArray[Any], header: SliceHeader) -> NDArray[Any]:
    """Drop the unused bits around the stored ones and extend the sign."""
    above = header.bits_allocated - 1 - header.high_bit
    below = header.bits_allocated - header.bits_stored
    if header.signed:
        cells = cells.view(np.int8 if header.bits_allocated == 8 else np.int16)
    return (cells << above) >> below if below else cells


def _padding_mask(
    cells: NDArray[Any], values: NDArray[Any], header: SliceHeader
) -> NDArray[np.bool_] | None:
    """Return where a slice is padding, None if it declares none.

    A padding value that fits the stored bits is compared with the values; one that does not, such
    as -2000 beside unsigned 12-bit pixels, can only be seen in the whole cells.
    """
    if header.padding_value is None:
        return None
    limit = header.padding_range_limit
    ends = (header.padding_value, header.padding_value if limit is None else limit)
    low, high = min(ends), max(ends)
    least = -(2 ** (header.bits_stored - 1)) if header.signed else 0
    if least <= low and high < least + 2**header.bits_stored:
        return _between(values, low, high)
    if header.signed:
        cells = cells.view(np.int8 if header.bits_allocated == 8 else np.int16)
    return _between(cells, low, high)


def _between(values: NDArray[Any], low: int, high: int) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = values == low if low == high else (values >= low) & (values <= high)
    return inside
