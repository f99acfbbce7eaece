"""What an encode reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ssimrdo.dicom import SkippedFile


@dataclass(frozen=True)
class Summary:
    """Mean and minimum over the slices of a series.

    Parameters
    ----------
    mean, min : float
        Mean over slices and the worst slice.
    """

    mean: float
    min: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Return the summary of one or more values."""
        numbers = list(values)
        return cls(sum(numbers) / len(numbers), min(numbers))


@dataclass(frozen=True)
class WindowUsed:
    """The window that grey levels were made with, in HU."""

    center: float
    width: float


@dataclass(frozen=True)
class Seconds:
    """Wall time per step of the pipeline.

    Slices are read and analysed beside encoding, and x264's own threads work during all steps.
    """

    load: float
    analyse: float
    encode: float
    verify: float
    total: float


@dataclass(frozen=True)
class X264Info:
    """x264's build and the settings it records in the stream."""

    build: str
    settings: str


@dataclass(frozen=True)
class SearchInfo:
    """What the search for the smallest file with an SSIM found.

    Parameters
    ----------
    min_ssim, ssim : float
        SSIM asked for and reached, over slices as ``target`` says.
    target : str
        ``worst``, ``mean`` or ``p5``.
    crf : float
        CRF of the file.
    raised_slices : int
        Slices that have a finer quantizer than the CRF gives.
    encodes : int
        How many encodes it took, the file's own among them.
    payload_bytes : int
        Size of the video without its container.
    plain_crf : float
        The highest CRF found that reaches ``min_ssim`` without raising any slice.
    plain_payload_bytes : int
        Size of the video at that CRF.
    saved_percent : float
        How much smaller the file's video is than that.
    """

    min_ssim: float
    ssim: float
    target: str
    crf: float
    raised_slices: int
    encodes: int
    payload_bytes: int
    plain_crf: float
    plain_payload_bytes: int
    saved_percent: float


@dataclass(frozen=True)
class EncodeResult:
    """What came out of an encode.

    Parameters
    ----------
    output : str
        Path of the video file, as the user gave it.
    frames : int
        Number of slices in it.
    width, height : int
        Size as a player shows it, in samples.
    bit_depth : int
        8 or 10.
    window : WindowUsed
        Window centre and width in HU.
    bytes : int
        Size of the file.
    kbps : float
        Bit rate of the video payload at the frame rate, in 1000 bits per second.
    ssim, weighted_ssim, psnr : Summary
        Quality of the decoded slices; PSNR in decibels.
    worst_slice : int
        The slice with the lowest SSIM, from 0.
    seconds : Seconds
        Wall time.
    x264 : X264Info
        Encoder build and settings.
    skipped : tuple of SkippedFile
        Files that were left out, with the reason.
    search : SearchInfo, optional
        What was found where an SSIM was asked for in place of a rate.
    """

    output: str
    frames: int
    width: int
    height: int
    bit_depth: int
    window: WindowUsed
    bytes: int
    kbps: float
    ssim: Summary
    weighted_ssim: Summary
    psnr: Summary
    worst_slice: int
    seconds: Seconds
    x264: X264Info
    skipped: tuple[SkippedFile, ...]
    search: SearchInfo | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON types; ``search`` is there only after one."""
        record = dataclasses.asdict(self)
        if self.search is None:
            del record["search"]
        return {**record, "skipped": [_as_dict(file) for file in self.skipped]}


def _as_dict(file: SkippedFile) -> dict[str, str]:
    return {"path": file.path, "reason": file.reason}
