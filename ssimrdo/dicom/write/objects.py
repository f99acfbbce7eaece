"""What all DICOM objects that are written here have in common: identity, equipment, derivation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, generate_uid

import ssimrdo
from ssimrdo.dicom.digits import decimal_string
from ssimrdo.dicom.grey import VOI_LUT_FUNCTIONS, Window
from ssimrdo.dicom.luma import FALLBACK_WINDOW
from ssimrdo.dicom.read.header import SliceHeader
from ssimrdo.dicom.write.identity import Identity

LOSSY_METHODS: Final = {
    "h264": "ISO_14496_10",
    "hevc": "ISO_23008_2",
    "jpeg2000": "ISO_15444_1",
    "j2k": "ISO_15444_1",
    "htj2k": "ISO_15444_15",
}
"""Lossy Image Compression Method (PS3.3 C.7.6.1.1.5.1) by FFmpeg's name of the codec. There is none
for AV1."""

_EMPTY: Final = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
    "PositionReferenceIndicator",
)
"""Of type 2: they have to be there, and may be empty."""

SERIES_NUMBER: Final = 1001
"""Of what is written here; beyond those of scanners, with which it may share a study."""

_LOSSY_COMPRESSION: Final = ("113040", "DCM", "Lossy Compression")
_FOR_DERIVATION: Final = ("121320", "DCM", "Uncompressed predecessor")


def new_uid() -> str:
    """Return a UID that nobody has: a random UUID below 2.25 (PS3.5 B.2)."""
    return str(generate_uid(prefix=None))


@dataclass(frozen=True)
class Derivation:
    """How pixels came from the original's.

    Parameters
    ----------
    codec : str
        A key of :data:`LOSSY_METHODS`, or another codec.
    ratio : float
        Bytes of the original's pixels, 16 bits each, over those that are left.
    description : str
        A sentence.
    lossy : bool
        Whether anything was lost.
    """

    codec: str
    ratio: float
    description: str
    lossy: bool = True


@dataclass(frozen=True)
class SeriesIds:
    """What the objects of a new series share.

    Parameters
    ----------
    identity : Identity
        Patient and study; nothing by default.
    study_uid, frame_of_reference_uid : str
        For where the identity has none.
    series_uid : str
        Of the new series.
    """

    identity: Identity = field(default_factory=Identity)
    study_uid: str = field(default_factory=new_uid)
    frame_of_reference_uid: str = field(default_factory=new_uid)
    series_uid: str = field(default_factory=new_uid)


def new_object(sop_class: str, syntax: str, series: SeriesIds, number: int) -> Dataset:
    """Return an object with file meta information, identity and equipment, without an image.

    Parameters
    ----------
    sop_class, syntax : str
        SOP Class UID and Transfer Syntax UID.
    series : SeriesIds
        What the object shares with others.
    number : int
        Instance Number.
    """
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = new_uid()
    for keyword in _EMPTY:
        setattr(dataset, keyword, None)
    dataset.StudyInstanceUID = series.study_uid
    dataset.FrameOfReferenceUID = series.frame_of_reference_uid
    for element in series.identity.elements.values():
        dataset[element.tag] = element
    dataset.SeriesInstanceUID = series.series_uid
    dataset.SeriesNumber = SERIES_NUMBER
    # Of type 2C; body parts are not known.
    dataset.Laterality = None
    dataset.InstanceNumber = number
    dataset.Manufacturer = "ssimrdo"
    dataset.ManufacturerModelName = "ssimrdo"
    dataset.SoftwareVersions = ssimrdo.__version__
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    return dataset


def add_derivation(dataset: Dataset, derivation: Derivation) -> None:
    """Say how the pixels are derived, and whether compression was lossy (PS3.3 C.7.6.1.1.5)."""
    dataset.DerivationDescription = derivation.description
    if not derivation.lossy:
        dataset.LossyImageCompression = "00"
        return
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = decimal_string(round(derivation.ratio, 3))
    method = LOSSY_METHODS.get(derivation.codec)
    if method is not None:
        dataset.LossyImageCompressionMethod = method
    dataset.DerivationCodeSequence = [_code(*_LOSSY_COMPRESSION)]


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image that pixels come from.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid : str
        What it is.
    frames : tuple of int
        Numbers of its frames, from 1; empty for one that has no several frames.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frames: tuple[int, ...] = ()


def sources_of(slices: Iterable[SliceHeader]) -> tuple[SourceImage, ...]:
    """Return the images that slices are or are frames of, each once."""
    frames: dict[tuple[str, str], list[int]] = {}
    for one in slices:
        found = frames.setdefault((one.sop_class_uid, one.sop_instance_uid), [])
        if one.extent is not None:
            found.append(one.extent.frame)
    return tuple(SourceImage(*uids, tuple(numbers)) for uids, numbers in frames.items())


def add_sources(dataset: Dataset, sources: Iterable[SourceImage]) -> None:
    """Refer to the images that the pixels come from (PS3.3 C.12.4, and 10.3 for frames).

    Parameters
    ----------
    dataset : Dataset
        The object.
    sources : iterable of SourceImage
        The images.
    """
    dataset.SourceImageSequence = [_source(one) for one in sources]


def add_window(dataset: Dataset, window: Window) -> None:
    """Show the image in a window at first (PS3.3 C.11.2).

    No viewer knows a function of ours; soft tissue takes its place.
    """
    if window.function not in VOI_LUT_FUNCTIONS:
        window = FALLBACK_WINDOW
    dataset.WindowCenter = decimal_string(window.center)
    dataset.WindowWidth = decimal_string(window.width)
    if window.function != "LINEAR":
        dataset.VOILUTFunction = window.function


def _source(image: SourceImage) -> Dataset:
    source = Dataset()
    source.ReferencedSOPClassUID = image.sop_class_uid
    source.ReferencedSOPInstanceUID = image.sop_instance_uid
    if image.frames:
        source.ReferencedFrameNumber = list(image.frames)
    source.PurposeOfReferenceCodeSequence = [_code(*_FOR_DERIVATION)]
    return source


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = scheme
    code.CodeMeaning = meaning
    return code


def save(dataset: Dataset, path: Any) -> None:
    """Write an object as a DICOM file, with what file meta information it lacks."""
    dataset.save_as(path, enforce_file_format=True)
