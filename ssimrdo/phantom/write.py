"""The phantom as a DICOM series on disk."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    generate_uid,
)
from pydicom.valuerep import DSfloat

from ssimrdo.errors import InputError, cause_of
from ssimrdo.files import whole_folder
from ssimrdo.observer import Event, Observer
from ssimrdo.phantom.slices import phantom_slice_hu, reconstruction_circle

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssimrdo.phantom.settings import PhantomSettings

PATIENT_ID = "PHANTOM"
"""Patient ID of every phantom series; also how an old phantom is told from other files."""

INTERCEPT_HU = -1024
"""HU of a stored value of 0."""

PADDING = -2000
"""Stored value of pixels outside the circular field of view."""

_DATE, _TIME = "20240101", "120000"
_FILE_NAME = re.compile(r"slice_\d{4}\.dcm")


@dataclass(frozen=True)
class PhantomResult:
    """A phantom series on disk.

    Attributes
    ----------
    folder : Path
        Where the files are.
    slices : int
        Number of files.
    series_uid : str
        Series Instance UID.
    seconds : float
        Time taken in s.
    size_bytes : int
        Sum of the file sizes.
    """

    folder: Path
    slices: int
    series_uid: str
    seconds: float
    size_bytes: int


def _uid(settings: PhantomSettings, *what: str) -> UID:
    """Return a UID that depends on the settings only."""
    return generate_uid(entropy_srcs=["ssimrdo phantom 1", repr(settings), *what])


def stored_values(hu: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return the pixel values a scanner stores for an image.

    Parameters
    ----------
    hu : ndarray of float32, shape (size, size)
        HU.

    Returns
    -------
    ndarray of int16, shape (size, size)
        ``HU + 1024``, rounded and held within 12 bits; -2000 outside the circular field of view.
    """
    stored = np.clip(np.rint(hu - INTERCEPT_HU), 0, 4095).astype("<i2")
    stored[~reconstruction_circle(hu.shape[0])] = PADDING
    return stored


def phantom_dataset(
    index: int, settings: PhantomSettings, hu: NDArray[np.float32], *, jpeg_ls: bool = False
) -> FileDataset:
    """Return one slice as a CT Image Storage instance.

    Parameters
    ----------
    index : int
        Slice number from 0.
    settings : PhantomSettings
        Settings of the series; all UIDs derive from them.
    hu : ndarray of float32, shape (size, size)
        Pixels in HU.
    jpeg_ls : bool, optional
        Compress with JPEG-LS Lossless.

    Returns
    -------
    pydicom.dataset.FileDataset
        Data set with file meta information, ready to be saved.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(settings, "instance", str(index))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    _add_patient_and_study(data, settings)
    _add_series(data, settings)
    _add_image(data, index, settings)
    _add_pixels(data, stored_values(hu))
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    if jpeg_ls:
        data.compress(JPEGLSLossless, generate_instance_uid=False)
    return data


def _add_patient_and_study(data: Dataset, settings: PhantomSettings) -> None:
    """Fill the Patient and General Study modules with obviously synthetic values."""
    data.SpecificCharacterSet = "ISO_IR 100"
    data.PatientName = "Phantom^Synthetic"
    data.PatientID = PATIENT_ID
    data.PatientBirthDate = ""
    data.PatientSex = ""
    data.StudyInstanceUID = _uid(settings, "study")
    data.StudyDate = _DATE
    data.StudyTime = _TIME
    data.StudyID = "1"
    data.AccessionNumber = ""
    data.ReferringPhysicianName = ""
    data.StudyDescription = "Synthetic CT thorax"


def _add_series(data: Dataset, settings: PhantomSettings) -> None:
    """Fill the General Series, Frame of Reference and General Equipment modules."""
    data.Modality = "CT"
    data.SeriesInstanceUID = _uid(settings, "series")
    data.SeriesNumber = 1
    data.SeriesDate = _DATE
    data.SeriesTime = _TIME
    data.SeriesDescription = f"Phantom, seed {settings.seed}"
    data.BodyPartExamined = "CHEST"
    data.PatientPosition = "HFS"
    data.FrameOfReferenceUID = _uid(settings, "frame of reference")
    data.PositionReferenceIndicator = ""
    data.Manufacturer = "ssimrdo"
    data.ManufacturerModelName = "phantom"
    data.SoftwareVersions = "1"


def _add_image(data: Dataset, index: int, settings: PhantomSettings) -> None:
    """Fill the General Image, Image Plane and CT Image modules."""
    height = _ds(index * settings.slice_spacing_mm)
    corner = -settings.pixel_mm * (settings.size - 1) / 2
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.InstanceNumber = index + 1
    data.AcquisitionNumber = 1
    data.AcquisitionDate = data.ContentDate = _DATE
    data.AcquisitionTime = data.ContentTime = _TIME
    data.ImagePositionPatient = [_ds(corner), _ds(corner), height]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing = [_ds(settings.pixel_mm)] * 2
    data.SliceThickness = _ds(settings.slice_spacing_mm)
    data.SpacingBetweenSlices = _ds(settings.slice_spacing_mm)
    data.SliceLocation = height
    data.KVP = 120
    data.DataCollectionDiameter = 500
    data.ReconstructionDiameter = _ds(settings.field_of_view_mm)
    data.GantryDetectorTilt = 0
    data.ConvolutionKernel = "STANDARD"


def _add_pixels(data: Dataset, stored: NDArray[np.int16]) -> None:
    """Fill the Image Pixel, Modality LUT and VOI LUT modules."""
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = 1
    data.PixelPaddingValue = PADDING
    data.RescaleIntercept = INTERCEPT_HU
    data.RescaleSlope = 1
    data.RescaleType = "HU"
    data.WindowCenter = [40, -600]
    data.WindowWidth = [400, 1500]
    data.WindowCenterWidthExplanation = ["MEDIASTINUM", "LUNG"]
    data.PixelData = stored.tobytes()


def _ds(value: float) -> DSfloat:
    """Return a decimal string of at most 16 characters."""
    return DSfloat(value, auto_format=True)


def _is_phantom(path: Path) -> bool:
    """Return whether a file is a slice that this module has written."""
    if not _FILE_NAME.fullmatch(path.name) or not path.is_file():
        return False
    try:
        data = pydicom.dcmread(path, specific_tags=["PatientID", "Manufacturer"])
    except (InvalidDicomError, OSError):
        return False
    return bool(data.get("PatientID") == PATIENT_ID and data.get("Manufacturer") == "ssimrdo")


def _check_target(folder: Path, overwrite: bool) -> None:
    """Raise InputError unless the folder is free or holds a phantom that may be replaced."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: a file is in the way", remedy="choose another output folder")
    held = sorted(folder.iterdir())
    if held and not overwrite:
        raise InputError(
            f"{folder}: the folder is not empty", remedy="choose another one, or use {overwrite}"
        )
    foreign = next((path for path in held if not _is_phantom(path)), None)
    if foreign is not None:
        raise InputError(
            f"{foreign}: not a phantom slice, so the folder is not overwritten: "
            "choose another output folder"
        )


def write_phantom(
    folder: str | Path,
    settings: PhantomSettings,
    *,
    jpeg_ls: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> PhantomResult:
    """Write a phantom series; the folder appears when all slices are written, or not at all.

    The same settings give the same bytes.

    Parameters
    ----------
    folder : str or Path
        Output folder; made, with its parents, where missing.
    settings : PhantomSettings
        What to write.
    jpeg_ls : bool, optional
        Compress the pixels with JPEG-LS Lossless instead of leaving them plain.
    overwrite : bool, optional
        Replace a phantom series that is already in the folder.
    observer : Observer, optional
        Is told how many slices are done, and may cancel.

    Returns
    -------
    PhantomResult
        What was written.

    Raises
    ------
    InputError
        If the folder holds something that may not be replaced, or cannot be written.
    CancelledError
        If the observer cancels.
    """
    observer = observer or Observer()
    begin = time.perf_counter()
    target = Path(folder).resolve()
    _check_target(target, overwrite)
    total = 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(target, overwrite=overwrite, replace=True) as work:
            for index in range(settings.slices):
                hu = phantom_slice_hu(index, settings)
                path = work / f"slice_{index + 1:04d}.dcm"
                phantom_dataset(index, settings, hu, jpeg_ls=jpeg_ls).save_as(
                    path, enforce_file_format=True
                )
                total += path.stat().st_size
                observer.check()
                observer.tell(Event(index + 1, settings.slices))
    except OSError as error:
        reason = cause_of(error)
        raise InputError(f"{folder}: cannot write the phantom here: {reason}") from error
    return PhantomResult(
        Path(folder),
        settings.slices,
        str(_uid(settings, "series")),
        time.perf_counter() - begin,
        total,
    )
