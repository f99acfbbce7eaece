"""CT images (PS3.3 A.3) of single slices."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEGLSLossless,
    RLELossless,
)

from ssimrdo.codecs import openjph
from ssimrdo.dicom.digits import Digits, PlaneDigits, valid_ds
from ssimrdo.dicom.grey import Window
from ssimrdo.dicom.write.objects import (
    Derivation,
    SeriesIds,
    SourceImage,
    add_derivation,
    add_sources,
    add_window,
    new_object,
)
from ssimrdo.errors import InputError
from ssimrdo.extras import require

SYNTAXES: Final = MappingProxyType(
    {
        "explicit": ExplicitVRLittleEndian,
        "rle": RLELossless,
        "jpegls": JPEGLSLossless,
        "htj2k": HTJ2KLossless,
    }
)
"""Lossless transfer syntaxes by name."""

BITS_ALLOCATED: Final = 16


@dataclass(frozen=True)
class CTSlice:
    """One slice to be written.

    Parameters
    ----------
    stored : ndarray of shape (rows, columns), uint16
        Stored values, unsigned.
    bits_stored : int
        Bits Stored, 12 to 16.
    slope, intercept : str
        Rescale Slope and Rescale Intercept.
    plane : PlaneDigits
        Where it lies.
    inverted : bool
        Whether the lowest values are shown white: MONOCHROME1.
    window : Window, optional
        To show it in at first.
    patient_position : str
        Patient Position; may be empty.
    sources : tuple of SourceImage
        The image that it comes from, if it may be told.
    padding : int, optional
        The stored value that stands for padding.
    """

    stored: NDArray[np.uint16]
    bits_stored: int
    slope: str
    intercept: str
    plane: PlaneDigits
    inverted: bool = False
    window: Window | None = None
    patient_position: str = ""
    sources: tuple[SourceImage, ...] = ()
    padding: int | None = None


def check_syntax(name: str) -> None:
    """Check that a lossless syntax is known and what encodes it is installed.

    Raises
    ------
    InputError
        If it is not.
    """
    if name not in SYNTAXES:
        raise InputError(
            f"{name!r:.40} is unknown", field="syntax", remedy=f"use one of {', '.join(SYNTAXES)}"
        )
    if name == "htj2k":
        require("imagecodecs", what="HTJ2K")


def ct_object(
    one: CTSlice, series: SeriesIds, number: int, derivation: Derivation, *, syntax: str
) -> Dataset:
    """Return a slice as a CT image, compressed without loss.

    Parameters
    ----------
    one : CTSlice
        The slice.
    series : SeriesIds
        What it shares with others.
    number : int
        Instance Number, from 1.
    derivation : Derivation
        How its pixels came to be.
    syntax : str
        A key of :data:`SYNTAXES`.
    """
    dataset = ct_image(one, series, number, derivation, syntax=SYNTAXES[syntax])
    stored = np.ascontiguousarray(one.stored)
    if syntax == "htj2k":
        set_codestream(dataset, openjph.encode(stored))
        # The codestream has all bits of a sample.
        dataset.BitsStored, dataset.HighBit = BITS_ALLOCATED, BITS_ALLOCATED - 1
        return dataset
    dataset.PixelData = stored.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax != "explicit":
        plugin = {"rle": "pylibjpeg", "jpegls": "pyjpegls"}[syntax]
        uncompressed = ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = uncompressed
        dataset.compress(SYNTAXES[syntax], encoding_plugin=plugin, generate_instance_uid=False)
    return dataset


def set_codestream(dataset: Dataset, codestream: Any) -> None:
    """Make a codestream the pixel data of a single frame."""
    dataset.PixelData = encapsulate([bytes(codestream)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def ct_image(
    one: CTSlice, series: SeriesIds, number: int, derivation: Derivation, *, syntax: str
) -> Dataset:
    """Return a CT image without pixel data; parameters as :func:`ct_object`, but a UID."""
    dataset = new_object(CTImageStorage, syntax, series, number)
    dataset.Modality = "CT"
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.SeriesDescription = "Lossy compression"
    # Of type 2, and not known here.
    dataset.KVP = None
    dataset.AcquisitionNumber = None
    dataset.PatientPosition = one.patient_position or None
    _add_plane(dataset, one.plane)
    add_derivation(dataset, derivation)
    if one.sources:
        add_sources(dataset, one.sources)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if one.inverted else "MONOCHROME2"
    dataset.Rows, dataset.Columns = one.stored.shape
    dataset.BitsAllocated = BITS_ALLOCATED
    dataset.BitsStored = one.bits_stored
    dataset.HighBit = one.bits_stored - 1
    dataset.PixelRepresentation = 0
    if one.padding is not None:
        dataset.PixelPaddingValue = one.padding
    dataset.RescaleSlope = one.slope
    dataset.RescaleIntercept = one.intercept
    dataset.RescaleType = "HU"
    if one.window is not None:
        add_window(dataset, one.window)
    return dataset


def _add_plane(dataset: Dataset, plane: PlaneDigits) -> None:
    dataset.ImagePositionPatient = _valid(plane.position)
    dataset.ImageOrientationPatient = _valid(plane.orientation)
    # Of type 1, but nobody knows it where the original has none.
    if plane.pixel_spacing is not None:
        dataset.PixelSpacing = _valid(plane.pixel_spacing)
    dataset.SliceThickness = None if plane.thickness is None else valid_ds(plane.thickness)
    if plane.tilt is not None:
        dataset.GantryDetectorTilt = valid_ds(plane.tilt)


def _valid(digits: Digits) -> list[str]:
    return list(map(valid_ds, digits))
