"""A video shown in another window: decoded to HU, and encoded again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssimrdo.decoding.video import (
    Video,
    decoded_frames,
    facts_of,
    frames_of,
    opened_video,
    record_of,
)
from ssimrdo.dicom import Geometry, Volume, Window
from ssimrdo.dicom.grey import WIDE, hu_of_shares
from ssimrdo.dicom.padding import with_padding
from ssimrdo.dicom.write.values import hu_of_codes
from ssimrdo.encoding.encode import encode
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import InputError
from ssimrdo.observer import Observer
from ssimrdo.record.ct import SeriesRecord
from ssimrdo.record.result import EncodeResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodedSlices:
    """The slices of a video in HU, padding masked, decoded anew whenever they are gone through.

    Parameters
    ----------
    video : Path or binary stream
        What FFmpeg opens.
    path : Path
        The file, which messages name.
    record : SeriesRecord
        Of the video.
    """

    video: Video
    path: Path
    record: SeriesRecord

    def __len__(self) -> int:
        return self.record.frames

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        frames = frames_of(self.record)
        hu = hu_of_codes(self.record.window, frames, inverted=self.record.inverted)
        table = hu.astype(np.float32)
        for index, luma in enumerate(decoded_frames(self.video, self.path, self.record)):
            yield with_padding(table[luma], self.record.padding_in(index))


def view(
    video: Path | str,
    output: Path | str,
    settings: EncodeSettings | None = None,
    *,
    record: Path | str | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
    **options: Any,
) -> EncodeResult:
    """Show a video that ssimrdo encoded in another window.

    The slices are decoded to HU, shown through the window and encoded again; qualities are those
    of the second encode, against what the window shows of the first. Memory does not grow with
    the number of slices.

    Parameters
    ----------
    video : Path or str
        Video file, such as one of the whole range of HU, or a DICOM object that holds one.
    output : Path or str
        File to write; its suffix tells the container.
    settings : EncodeSettings, optional
        How to encode; they name a window.
    record : Path or str, optional
        The sidecar, where it is not beside the video.
    overwrite, observer
        As :func:`ssimrdo.encode`.
    **options
        In place of ``settings``, such as ``window="lung"``.

    Returns
    -------
    EncodeResult
        Of the new file.

    Raises
    ------
    InputError
        If the video, its record, an option or the output cannot be used, or no window is named.
    EncoderError, VerificationError, CancelledError, OSError
        As :func:`ssimrdo.encode`.
    """
    if settings is None:
        settings, options = EncodeSettings.of(**options), {}
    if settings.window is None:
        raise InputError("is not given", field="window", remedy="name one, such as lung or 40/400")
    path = Path(video)
    with ExitStack() as stack:
        opened = stack.enter_context(opened_video(path))
        found = record_of(opened, path, None if record is None else Path(record))
        facts_of(opened, path, found)
        _warn_of_lost_hu(found.window, settings.window)
        volume = Volume(
            DecodedSlices(opened, path, found),
            geometry=_geometry(found),
            inverted=found.inverted,
        )
        return encode(volume, output, settings, overwrite=overwrite, observer=observer, **options)


def _warn_of_lost_hu(made_in: Window, shown: Window) -> None:
    """Warn where a window reaches beyond the one that a video was made in."""
    ends, wanted = (
        hu_of_shares(one, np.array([0.0, 1.0]), step=1 / 255) for one in (made_in, shown)
    )
    # Nothing lies outside of all HU, though the ends of clinical windows do.
    if made_in.function == WIDE or ends is None or wanted is None:
        return
    if wanted[0] < ends[0] - 1 or wanted[1] > ends[1] + 1:
        logger.warning(
            "the video was made in the window %s: HU below %.0f and above %.0f are lost, and shown "
            "as these",
            made_in,
            *ends,
        )


def _geometry(record: SeriesRecord) -> Geometry:
    """Return where the slices of a record lie, as numbers."""
    first = record.planes[0]
    spacing = first.pixel_spacing
    return Geometry(
        pixel_spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        orientation=tuple(map(float, first.orientation)),
        positions_mm=tuple(plane.position_mm for plane in record.planes),
        along_mm=record.along_mm,
        thickness_mm=None if first.thickness is None else float(first.thickness),
    )
