"""Small pictures of slices of a batch's outputs."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from ssimrdo.batch.ct import SUFFIX as CT_SUFFIX
from ssimrdo.batch.journal import BatchRecord
from ssimrdo.batch.store import Store
from ssimrdo.decoding.video import opened_video
from ssimrdo.dicom import Window, apply_window, load_hu
from ssimrdo.dicom.read.header import SkippedFile, read_header
from ssimrdo.dicom.write.folder import slice_name
from ssimrdo.errors import SsimrdoError
from ssimrdo.html.images import png_uri
from ssimrdo.video.decode import luma_plane
from ssimrdo.video.mux import SUFFIXES

SIDE: Final = 192
"""Of a thumbnail, in pixels."""


def thumbnail(out: Store, record: BatchRecord, index: int) -> str | None:
    """Return a slice of an output as a small PNG data URI, None if it cannot be read.

    Parameters
    ----------
    out : Store
        Where the outputs are.
    record : BatchRecord
        Of the output.
    index : int
        Which slice, from 0.
    """
    from PIL import Image

    try:
        if Path(record.output).suffix == CT_SUFFIX:
            luma = _of_slice(out, record, index)
        else:
            luma = _of_video(out, record, index)
    except (OSError, ValueError, SsimrdoError, av.error.FFmpegError):
        return None
    if luma is None:
        return None
    image = Image.fromarray(luma)
    image.thumbnail((SIDE, SIDE))
    return png_uri(np.asarray(image))


def _of_video(out: Store, record: BatchRecord, index: int) -> NDArray[np.uint8] | None:
    if record.bit_depth is None:
        return None
    with out.local(record.output) as path, opened_video(path) as video:
        source: Any = str(video) if isinstance(video, Path) else video
        form = SUFFIXES.get(path.suffix)
        with av.open(source, "r", format=form, metadata_errors="replace") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            frame = next(islice(container.decode(stream), index, None), None)
            if frame is None:
                return None
            return (luma_plane(frame, record.bit_depth) >> (record.bit_depth - 8)).astype(np.uint8)


def _of_slice(out: Store, record: BatchRecord, index: int) -> NDArray[np.uint8] | None:
    if record.window_center is None or record.window_width is None:
        return None
    name = slice_name(index + 1)
    with out.local(f"{record.output}/{name}") as path:
        header = read_header(path, name)
        if isinstance(header, SkippedFile):
            return None
        window = Window(record.window_center, record.window_width)
        return apply_window(load_hu(header), window, inverted=header.inverted).astype(np.uint8)
