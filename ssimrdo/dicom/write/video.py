"""H.264 or HEVC in a DICOM object: Multi-frame True Color Secondary Capture (PS3.3 A.8.5)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydicom.encaps import encapsulate_buffer
from pydicom.tag import Tag
from pydicom.uid import UID, MultiFrameTrueColorSecondaryCaptureImageStorage

from ssimrdo.dicom.digits import Digits, decimal_string, valid_ds
from ssimrdo.dicom.write.objects import (
    Derivation,
    SeriesIds,
    SourceImage,
    add_derivation,
    add_sources,
    new_object,
    save,
)
from ssimrdo.errors import InputError

_H264: Final = MappingProxyType(
    {"4.1": UID("1.2.840.10008.1.2.4.102"), "4.2": UID("1.2.840.10008.1.2.4.104")}
)
"""MPEG-4 AVC/H.264 High Profile by level, .104 for 2D video."""

_HEVC: Final = UID("1.2.840.10008.1.2.4.107")
"""HEVC/H.265 Main Profile at levels up to 5.1. The class takes no more than 8 bits per sample, so
that of Main 10 (.108) cannot be used."""

MAX_FRAGMENT_BYTES: Final = 0xFFFFFFFE

_FRAME_TIME: Final = Tag(0x0018, 0x1063)


@dataclass(frozen=True)
class VideoObject:
    """What a DICOM object says of its video.

    Parameters
    ----------
    rows, columns, frames : int
        Of the stream, as a player shows it.
    fps : Fraction
        Frames per second.
    syntax : UID
        As :func:`transfer_syntax` returns it.
    pixel_spacing : tuple of 2 str, optional
        Pixel Spacing.
    sources : tuple of SourceImage
        The images that the frames come from, if they may be told.
    """

    rows: int
    columns: int
    frames: int
    fps: Fraction
    syntax: UID
    pixel_spacing: Digits | None = None
    sources: tuple[SourceImage, ...] = ()


def transfer_syntax(codec: str, level: str) -> UID:
    """Return the transfer syntax of a stream.

    Parameters
    ----------
    codec : str
        FFmpeg's name of it: ``h264`` or ``hevc``.
    level : str
        Of the stream: ``4.1`` or ``4.2`` of H.264.
    """
    return _HEVC if codec == "hevc" else _H264[level]


def write_video_object(
    path: Path, payload: Path, video: VideoObject, series: SeriesIds, derivation: Derivation
) -> None:
    """Write a DICOM object that holds an MP4 file in one fragment.

    Parameters
    ----------
    path : Path
        File to write.
    payload : Path
        The MP4 file: 8 bit 4:2:0, limited range, square samples.
    video, series, derivation
        What the object says.

    Raises
    ------
    InputError
        If the payload is larger than a fragment may be.
    OSError
        If the file cannot be written.
    """
    if payload.stat().st_size > MAX_FRAGMENT_BYTES:
        raise InputError("the video has more than the 4 GB of a fragment", remedy="raise {crf}")
    dataset = new_object(MultiFrameTrueColorSecondaryCaptureImageStorage, video.syntax, series, 1)
    # Frame of Reference belongs to functional groups, of which there are none.
    del dataset.FrameOfReferenceUID
    del dataset.PositionReferenceIndicator
    dataset.Modality = "CT"
    dataset.SeriesDescription = "Video"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    # Of a workstation, by software.
    dataset.ConversionType = "WSD"
    dataset.PatientOrientation = None
    add_derivation(dataset, derivation)
    if video.sources:
        add_sources(dataset, video.sources)
    if video.pixel_spacing is not None:
        dataset.PixelSpacing = list(map(valid_ds, video.pixel_spacing))
    # Cine and Multi-frame (PS3.3 C.7.6.5 and C.7.6.6).
    dataset.NumberOfFrames = video.frames
    dataset.FrameIncrementPointer = _FRAME_TIME
    dataset.FrameTime = decimal_string(float(1000 / video.fps))
    rate = max(1, round(video.fps))
    dataset.CineRate = rate
    dataset.RecommendedDisplayFrameRate = rate
    # SC Multi-frame Image (C.8.6.3): slices bear no text; screen captures are no CT images.
    dataset.BurnedInAnnotation = "NO"
    # PS3.5 8.2.7.
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "YBR_PARTIAL_420"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = video.rows, video.columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    with payload.open("rb") as stream:
        dataset.PixelData = encapsulate_buffer([stream], has_bot=False)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        save(dataset, path)
