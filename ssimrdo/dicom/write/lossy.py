"""Lossy codestreams of whole HU: HTJ2K and JPEG 2000, a slice at a time, with imagecodecs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import HTJ2K, JPEG2000

from ssimrdo.codecs import openjph
from ssimrdo.errors import InputError
from ssimrdo.extras import require

Stored = NDArray[np.uint16]
"""Stored values of a slice, unsigned."""


@dataclass(frozen=True)
class LossyCodec:
    """A codec of grey images of 16 bits.

    Parameters
    ----------
    name : str
        What the command line calls it; a key of
        :data:`ssimrdo.dicom.write.objects.LOSSY_METHODS`.
    title : str
        For readers.
    syntax : str
        Transfer Syntax UID, which takes reversible codestreams as well.
    coarse, fine, step : float
        Ends of the scale of its quality, and how far apart points of it are that tell. From one end
        to the other it is a power of two of steps.
    encode : callable
        Takes an image and a point of the scale, None for reversible coding; returns a codestream.
    decode : callable
        Takes a codestream; returns the image.
    """

    name: str
    title: str
    syntax: str
    coarse: float
    fine: float
    step: float
    encode: Callable[[Stored, float | None], bytes]
    decode: Callable[[bytes], Stored]


def lossy_codec(name: str) -> LossyCodec:
    """Return a codec by its name.

    Raises
    ------
    InputError
        If it is unknown, or imagecodecs is not installed.
    """
    if name not in LOSSY_CODECS:
        known = ", ".join(LOSSY_CODECS)
        raise InputError(f"{name!r:.40} is unknown", field="syntax", remedy=f"use one of {known}")
    require("imagecodecs", what="lossy CT")
    return LOSSY_CODECS[name]


def _encode_htj2k(stored: Stored, log2_step: float | None) -> bytes:
    return openjph.encode(stored, None if log2_step is None else 2.0**log2_step)


def _decode_htj2k(data: bytes) -> Stored:
    return _grey(openjph.decode(data))


def _encode_j2k(stored: Stored, psnr_db: float | None) -> bytes:
    import imagecodecs

    # Its stub has whole numbers alone.
    options: dict[str, Any] = {"level": psnr_db or 0, "reversible": psnr_db is None}
    return bytes(imagecodecs.jpeg2k_encode(stored, codecformat="j2k", numthreads=1, **options))


def _decode_j2k(data: bytes) -> Stored:
    import imagecodecs

    return _grey(imagecodecs.jpeg2k_decode(data, numthreads=1))


def _grey(decoded: Any) -> Stored:
    return np.asarray(decoded, np.uint16).reshape(decoded.shape[:2])


LOSSY_CODECS: Final = MappingProxyType(
    {
        "htj2k": LossyCodec(
            "htj2k", "HTJ2K", HTJ2K, -4.0, -20.0, 1 / 128, _encode_htj2k, _decode_htj2k
        ),
        "j2k": LossyCodec("j2k", "JPEG 2000", JPEG2000, 40.0, 104.0, 1.0, _encode_j2k, _decode_j2k),
    }
)
"""By name; the first is the default."""
