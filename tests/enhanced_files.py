"""Enhanced CT files for tests, written with pydicom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from dicom_files import AXIAL, CANARY, SERIES_UID
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def item(**elements: Any) -> Dataset:
    """Return an item of a sequence."""
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced_dataset(
    stored: NDArray[Any],
    positions: NDArray[Any],
    *,
    slope: Any = 1,
    intercept: Any = -1024,
    window: tuple[Any, Any] | None = (40, 400),
    orientation: tuple[float, ...] = AXIAL,
    frames: dict[str, list[Any]] | None = None,
    undefined: bool = False,
    **elements: Any,
) -> Dataset:
    """Return an Enhanced CT object.

    Parameters
    ----------
    stored : ndarray of uint16, shape (frames, rows, columns)
        Stored values.
    positions : ndarray, shape (frames, 3)
        Image Position (Patient) of every frame.
    slope, intercept, window
        Of all frames, or lists of those of each.
    frames : dict, optional
        More elements of each frame, by ``Sequence.Keyword``.
    undefined : bool
        Whether delimiters end sequences and items.
    elements
        Of the object, in place of those there would be; None removes one.
    """
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75], SliceThickness=2)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(orientation))],
        CTReconstructionSequence=[item(ConvolutionKernel="B70f", ReconstructionAlgorithm=CANARY)],
        CTAcquisitionDetailsSequence=[item(GantryDetectorTilt=0.0)],
    )
    per_frame = []
    for index in range(len(stored)):
        own = item(
            FrameContentSequence=[
                item(FrameAcquisitionNumber=1, FrameComments=CANARY, StackID=CANARY)
            ],
            PlanePositionSequence=[item(ImagePositionPatient=list(map(float, positions[index])))],
            PixelValueTransformationSequence=[
                item(
                    RescaleIntercept=intercept[index] if isinstance(intercept, list) else intercept,
                    RescaleSlope=slope[index] if isinstance(slope, list) else slope,
                    RescaleType="HU",
                )
            ],
        )
        if window is not None:
            center, width = window[index] if isinstance(window, list) else window
            own.FrameVOILUTSequence = [item(WindowCenter=center, WindowWidth=width)]
        for keyword, values in (frames or {}).items():
            sequence, _, name = keyword.partition(".")
            if sequence not in own:
                setattr(own, sequence, [item()])
            setattr(getattr(own, sequence)[0], name, values[index])
        per_frame.append(own)
    dataset = item(
        SOPClassUID=EnhancedCTImageStorage,
        SOPInstanceUID=generate_uid(),
        ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        Modality="CT",
        PatientName=f"{CANARY}^NAME",
        PatientID=f"{CANARY}-ID",
        StudyInstanceUID="1.2.826.0.1.3680043.8.498.2",
        SeriesInstanceUID=SERIES_UID,
        SeriesDescription=f"{CANARY} DESCRIPTION",
        PatientPosition="HFS",
        InstanceNumber=7,
        NumberOfFrames=len(stored),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=stored.shape[1],
        Columns=stored.shape[2],
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=0,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=per_frame,
    )
    dataset.add_new("PixelData", "OW", stored.astype("<u2").tobytes())
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    if undefined:
        _end_by_delimiters(dataset)
    return dataset


def _end_by_delimiters(dataset: Dataset) -> None:
    for element in dataset:
        if isinstance(element.value, Sequence):
            element.is_undefined_length = True
            for one in element.value:
                one.is_undefined_length_sequence_item = True
                _end_by_delimiters(one)


def save(
    path: Path, dataset: Dataset, syntax: str = ExplicitVRLittleEndian, compress: str | None = None
) -> Path:
    """Write a dataset as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    if compress is not None:
        dataset.compress(compress, generate_instance_uid=False)
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dataset.save_as(path, enforce_file_format=True, implicit_vr=implicit, little_endian=little)
    return path
