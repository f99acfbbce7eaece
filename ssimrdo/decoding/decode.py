"""From a video file back to a CT series, with the errors against the original where it is given."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from ssimrdo import metrics
from ssimrdo.decoding.video import (
    Video,
    VideoFacts,
    decoded_frames,
    facts_of,
    frames_of,
    opened_video,
    record_of,
)
from ssimrdo.dicom import SliceHeader, Window, open_series
from ssimrdo.dicom.luma import load_shown
from ssimrdo.dicom.write.ct import CTSlice, check_syntax, ct_object
from ssimrdo.dicom.write.folder import check_slice_folder, slice_folder, slice_name
from ssimrdo.dicom.write.identity import identity_of, matching_slices
from ssimrdo.dicom.write.objects import Derivation, SeriesIds, save, sources_of
from ssimrdo.dicom.write.values import StoredScale, hu_of_codes, stored_scale
from ssimrdo.encoding.views import TissueCount
from ssimrdo.errors import InputError
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import FramePair
from ssimrdo.metrics.tissue import SSIM_AREAS, SliceTissue, TissueErrors
from ssimrdo.observer import Event, Observer
from ssimrdo.record.ct import SeriesRecord
from ssimrdo.record.tissue import TissueSummary
from ssimrdo.text import counted, printable

_BYTES_PER_PIXEL: Final = 2
# By which a slice's PSNR may differ from the record's, as windows may be rounded otherwise.
_SAME_PSNR_DB: Final = 0.05

_CODEC_TITLES: Final = {
    "h264": "H.264",
    "hevc": "HEVC",
    "av1": "AV1",
    "jpeg2000": "JPEG 2000",
}


@dataclass(frozen=True)
class DecodeResult:
    """What came out of decoding a video.

    Parameters
    ----------
    output : str
        The folder, as the user gave it.
    slices, rows, columns : int
        Number of slices, and their size.
    syntax : str
        Name of the transfer syntax of the files.
    bytes : int
        Size of the files together.
    window : Window
        Outside of which HU are lost.
    slope, intercept : str
        From stored values to HU.
    rounding_hu : float
        By how much HU may be off because slope and intercept are decimal strings.
    codec : str
        FFmpeg's name of the video's codec.
    ratio : float
        How many times the video is smaller than the slices at 16 bit.
    series_uid : str
        Series Instance UID of the new series.
    template : bool
        Whether patient and study come from an original.
    tissue : TissueSummary, optional
        Errors against the original; None without one.
    seconds : float
        Wall time.
    """

    output: str
    slices: int
    rows: int
    columns: int
    syntax: str
    bytes: int
    window: Window
    slope: str
    intercept: str
    rounding_hu: float
    codec: str
    ratio: float
    series_uid: str
    template: bool
    tissue: TissueSummary | None
    seconds: float

    def __repr__(self) -> str:
        # Not the output, whose path may tell whose series it is.
        slices = counted(self.slices, "slice")
        return f"DecodeResult({slices} of {self.columns}x{self.rows}, {self.syntax})"

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON types, as docs/json.md describes them."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            **values,
            "window": self.window.as_dict(),
            "slope": float(self.slope),
            "intercept": float(self.intercept),
            "tissue": self.tissue and self.tissue.as_dict(),
        }


def decode(
    video: Path | str,
    output: Path | str,
    *,
    record: Path | str | None = None,
    template: Path | str | None = None,
    series_uid: str | None = None,
    syntax: str = "explicit",
    overwrite: bool = False,
    observer: Observer | None = None,
) -> DecodeResult:
    """Make a CT series again from a video that ssimrdo encoded.

    HU outside of the window that the video was made in stay lost. The files get new UIDs; without
    a template nothing in them tells whose they are.

    Parameters
    ----------
    video : Path or str
        Video file, or a DICOM object that holds one.
    output : Path or str
        Folder to write, which appears whole.
    record : Path or str, optional
        The sidecar, where it is not beside the video.
    template : Path or str, optional
        Folder of the series that the video was made from: patient and study come from there, and
        errors are measured against it.
    series_uid : str, optional
        Series Instance UID, where that folder holds several CT series.
    syntax : {"explicit", "rle", "jpegls", "htj2k"}
        Lossless transfer syntax of the files.
    overwrite : bool
        Replace the slices that an earlier call has left in the folder.
    observer : Observer, optional
        Is told how many slices are done, and may cancel.

    Raises
    ------
    InputError
        If the video, its record, the template or the output cannot be used.
    CancelledError
        If the observer cancels.
    OSError
        If the output cannot be written.
    """
    started = time.perf_counter()
    path, folder = Path(video), Path(output)
    check_syntax(syntax)
    inputs = [path, *([] if template is None else [Path(template)])]
    check_slice_folder(folder, inputs, overwrite=overwrite)
    with opened_video(path) as opened:
        found = record_of(opened, path, None if record is None else Path(record))
        facts = facts_of(opened, path, found)
        frames = frames_of(found)
        hu = hu_of_codes(found.window, frames, inverted=found.inverted)
        scale = stored_scale(hu, inverted=found.inverted)
        series, originals = SeriesIds(), None
        if template is not None:
            originals = _originals(template, series_uid, found)
            series = SeriesIds(identity_of(originals[0]))
        uncompressed = frames.rows * frames.columns * _BYTES_PER_PIXEL * found.frames
        ratio = uncompressed / max(facts.payload_bytes, 1)
        job = _Job(found, facts, scale, series, originals, syntax, ratio, f"{template}")
        errors = _Errors(found, frames)
        with slice_folder(folder, overwrite=overwrite) as staged:
            size = _write(staged, job, opened, path, errors, observer or Observer())
    return DecodeResult(
        output=str(output),
        slices=found.frames,
        rows=found.rows,
        columns=found.columns,
        syntax=syntax,
        bytes=size,
        window=found.window,
        slope=scale.slope,
        intercept=scale.intercept,
        rounding_hu=scale.rounding_hu,
        codec=facts.codec,
        ratio=ratio,
        series_uid=series.series_uid,
        template=template is not None,
        tissue=errors.summary(),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Job:
    """What all slices of one call have in common."""

    record: SeriesRecord
    facts: VideoFacts
    scale: StoredScale
    series: SeriesIds
    originals: Sequence[SliceHeader] | None
    syntax: str
    ratio: float
    template: str

    @property
    def derivation(self) -> Derivation:
        codec, window = self.facts.codec, self.record.window
        title = _CODEC_TITLES.get(codec, "video")
        description = (
            f"Decoded from {title} of {self.record.bit_depth} bit per sample, compressed "
            f"{self.ratio:.1f}:1 with loss; HU outside of the window {window} are lost"
        )
        return Derivation(codec, self.ratio, description)


def _write(
    staged: Path, job: _Job, opened: Video, path: Path, errors: _Errors, observer: Observer
) -> int:
    """Write all slices; return the size of the files."""
    derivation, size = job.derivation, 0
    frames = decoded_frames(opened, path, job.record)
    for number, (plane, luma) in enumerate(zip(job.record.planes, frames, strict=True), start=1):
        observer.check()
        original = None if job.originals is None else job.originals[number - 1]
        if original is not None:
            errors.add(number, luma, original, job.template)
        stored, padded = job.scale.stored[luma], job.record.padding_in(number - 1)
        if padded is not None:
            stored[padded] = job.scale.padding
        one = CTSlice(
            stored=stored,
            bits_stored=job.scale.bits_stored,
            slope=job.scale.slope,
            intercept=job.scale.intercept,
            plane=plane,
            inverted=job.record.inverted,
            window=job.record.window,
            patient_position=job.record.patient_position,
            sources=() if original is None else sources_of([original]),
            padding=job.scale.padding if job.record.padded else None,
        )
        dataset = ct_object(one, job.series, number, derivation, syntax=job.syntax)
        target = staged / slice_name(number)
        save(dataset, target)
        size += target.stat().st_size
        observer.tell(Event(number, job.record.frames))
    return size


class _Errors:
    """Errors against the original, slice by slice; none where there is no original."""

    def __init__(self, record: SeriesRecord, frames: FrameFormat) -> None:
        self._record, self._frames = record, frames
        self._count = TissueCount.of(record.window, frames, inverted=record.inverted)
        self._counted: TissueErrors | None = None
        self._slices: list[SliceTissue] = []

    def add(self, number: int, luma: NDArray[Any], original: SliceHeader, template: str) -> None:
        """Measure a slice.

        Raises
        ------
        InputError
            If the original is another image, whatever its place.
        """
        record, frames = self._record, self._frames
        source, padded = load_shown(original, record.window, record.bit_depth, record.padding)
        pair = FramePair(source, frames.shown(luma), frames, padded)
        psnr = metrics.measure(pair, [metrics.PSNR])[metrics.PSNR.name]
        if abs(psnr - record.psnr_db[number - 1]) > _SAME_PSNR_DB:
            raise InputError(
                f"{printable(template)}: slice {number} lies where that of the video does, but is "
                "another image",
                field="template",
                remedy="give the series that the video was made from",
            )
        errors = self._count(pair)
        self._counted = errors if self._counted is None else self._counted + errors
        self._slices.append(SliceTissue.of(errors))

    def summary(self) -> TissueSummary | None:
        """Return the errors of all slices together, None where none were measured."""
        if self._counted is None:
            return None
        by_area = zip(*(one.ssim for one in self._slices), strict=True)
        return TissueSummary.of(
            self._counted, dict(zip(SSIM_AREAS, by_area, strict=True)), self._count.scale
        )


def _originals(
    template: Path | str, series_uid: str | None, record: SeriesRecord
) -> Sequence[SliceHeader]:
    original, _ = open_series(template, series_uid=series_uid)
    return matching_slices(original, record.planes, (record.rows, record.columns), template)
