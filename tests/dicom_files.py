"""Small synthetic CT DICOM files for tests, written with pydicom.

Every file carries the `CANARY` in its patient elements, so that a test can tell whether a message
leaks them.
"""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CANARY = "CANARY"
SERIES_UID = "1.2.826.0.1.3680043.8.498.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def make_dataset(pixels: NDArray[Any], *, big_endian: bool = False, **overrides: Any) -> Dataset:
    """Return a CT slice; an override of None removes the element.

    The pixel layout follows the dtype of `pixels`: uint8, int8, uint16 or int16.
    """
    bits = 8 * pixels.dtype.itemsize
    dataset = Dataset()
    elements: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(),
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Modality": "CT",
        "PatientName": f"{CANARY}^NAME",
        "PatientID": f"{CANARY}-ID",
        "PatientBirthDate": "19700101",
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.2",
        "SeriesInstanceUID": SERIES_UID,
        "SeriesDescription": f"{CANARY} DESCRIPTION",
        "InstanceNumber": 1,
        "ImagePositionPatient": [0.0, 0.0, 0.0],
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [0.5, 0.5],
        "SliceThickness": 2.0,
        "ConvolutionKernel": "STANDARD",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "WindowCenter": 40,
        "WindowWidth": 80,
    }
    elements.update(overrides)
    if "HighBit" not in elements and elements["BitsStored"] is not None:
        elements["HighBit"] = elements["BitsStored"] - 1
    for keyword, value in elements.items():
        if value is not None:
            setattr(dataset, keyword, value)
    if "PixelData" not in overrides:
        order = ">" if big_endian else "<"
        data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        dataset.add_new("PixelData", "OW" if bits == 16 else "OB", data + b"\0" * (len(data) % 2))
    return dataset


def write_slice(
    path: Path,
    pixels: NDArray[Any],
    *,
    transfer_syntax: str = ExplicitVRLittleEndian,
    compress: str | None = None,
    raw: dict[str, bytes] | None = None,
    preamble: bool = True,
    **overrides: Any,
) -> Path:
    """Write one CT slice and return its path.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made if need be.
    pixels : ndarray, shape (rows, cols)
        Stored values.
    transfer_syntax : str
        Uncompressed Transfer Syntax UID.
    compress : str or None
        Transfer Syntax UID to compress to with pydicom's encoders.
    raw : dict or None
        Undecoded values by keyword, for malformed ones that pydicom would refuse.
    preamble : bool
        False leaves out preamble and File Meta Information.
    overrides
        Element values by keyword; None removes the element.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # pydicom warns about the malformed values that some tests are about.
        warnings.simplefilter("ignore")
        _write(path, pixels, transfer_syntax, compress, raw or {}, preamble, overrides)
    return path


def _write(
    path: Path,
    pixels: NDArray[Any],
    transfer_syntax: str,
    compress: str | None,
    raw: dict[str, bytes],
    preamble: bool,
    overrides: dict[str, Any],
) -> None:
    big_endian = transfer_syntax == ExplicitVRBigEndian
    implicit = transfer_syntax == ImplicitVRLittleEndian
    dataset = make_dataset(pixels, big_endian=big_endian, **overrides)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CTImageStorage)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    if compress is not None:
        dataset.compress(compress, generate_instance_uid=False)
    for keyword, value in raw.items():
        number = tag_for_keyword(keyword)
        assert number is not None
        vr = dictionary_VR(number)[:2]
        dataset[Tag(number)] = RawDataElement(
            Tag(number), vr, len(value), value, 0, implicit, not big_endian
        )
    if raw:
        # pydicom writes undecoded values as they are only in the encoding they were read in.
        dataset.set_original_encoding(implicit, not big_endian, dataset._character_set)
    if preamble:
        dataset.save_as(path, enforce_file_format=True)
    else:
        del dataset.file_meta
        dataset.save_as(path, implicit_vr=implicit, little_endian=not big_endian)


def write_series(
    folder: Path,
    volume_hu: NDArray[Any],
    *,
    orientation: tuple[float, ...] = AXIAL,
    step: tuple[float, float, float] = (0.0, 0.0, 2.0),
    slope: float = 1.0,
    intercept: float = -1024.0,
    seed: int = 0,
    **overrides: Any,
) -> list[Path]:
    """Write a CT series with shuffled file names and Instance Numbers.

    Parameters
    ----------
    folder : Path
        Folder to write to.
    volume_hu : ndarray, shape (slices, rows, cols)
        HU values.
    orientation : tuple of 6 floats
        Image Orientation (Patient).
    step : tuple of 3 floats
        Image Position (Patient) of slice i is i times this, in mm.
    slope, intercept : float
        Rescale Slope and Rescale Intercept; the stored values are unsigned 16-bit.
    seed : int
        Of the shuffle.
    overrides
        As of `write_slice`.

    Returns
    -------
    list of Path
        The files in the order of `volume_hu`.
    """
    numbers = list(range(1, len(volume_hu) + 1))
    random.Random(seed).shuffle(numbers)
    return [
        write_slice(
            folder / f"{number:04d}.dcm",
            np.rint((hu - intercept) / slope).astype(np.uint16),
            **{
                "ImagePositionPatient": [round(index * mm, 6) for mm in step],
                "ImageOrientationPatient": list(orientation),
                "InstanceNumber": number,
                "RescaleSlope": slope,
                "RescaleIntercept": intercept,
                **overrides,
            },
        )
        for index, (number, hu) in enumerate(zip(numbers, volume_hu, strict=True))
    ]
