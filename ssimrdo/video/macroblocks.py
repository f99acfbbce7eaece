"""What an H.264 stream tells of its macroblocks: their quantizers, and which were skipped."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import av
import numpy as np
from av import logging as ffmpeg_log
from numpy.typing import NDArray

from ssimrdo.frames import MACROBLOCK
from ssimrdo.video.errors import ffmpeg_errors_of
from ssimrdo.video.stills import are_stills

_HEAD: Final = np.dtype(
    {
        "names": ["count", "offset", "size", "kind", "qp"],
        "formats": ["<u4", "<u8", "<u8", "<i4", "<i4"],
        "offsets": [0, 8, 16, 24, 28],
    }
)
"""FFmpeg's AVVideoEncParams as far as it is read (libavutil/video_enc_params.h)."""

_BLOCK: Final = ("x", "y", "width", "height", "delta_qp")
"""FFmpeg's AVVideoBlockParams: five ints."""

_H264: Final = 1
"""AV_VIDEO_ENC_PARAMS_H264."""

_ROW: Final = re.compile(r"^ *(\d+) ([^0-9\n]*)$", re.MULTILINE)
"""The head of the columns has numbers alone."""


@dataclass(frozen=True)
class Macroblocks:
    """What is told of one picture.

    Parameters
    ----------
    qp : ndarray of shape (macroblock rows, macroblock columns), int16
        Quantizer of every macroblock; a skipped one has that of the one before.
    skipped : ndarray of the same shape, bool, optional
        Which take no bits of their own; None where the decoder does not tell.
    """

    qp: NDArray[np.int16]
    skipped: NDArray[np.bool_] | None

    @property
    def coded_qp(self) -> NDArray[np.int16]:
        """Quantizers of the macroblocks that are not skipped, in one row."""
        return self.qp.ravel() if self.skipped is None else self.qp[~self.skipped]


def macroblocks(path: Path, wanted: Collection[int]) -> dict[int, Macroblocks]:
    """Return what a video file tells of the macroblocks of some pictures.

    Parameters
    ----------
    path : Path
        Video file, or an archive of pictures.
    wanted : collection of int
        Pictures in presentation order, from 0.

    Returns
    -------
    dict of int to Macroblocks
        Empty for codecs other than H.264, and where FFmpeg does not tell.

    Raises
    ------
    OSError
        If the file cannot be decoded.
    """
    found: dict[int, Macroblocks] = {}
    if are_stills(path):
        return found
    level = ffmpeg_log.get_level()
    # FFmpeg tells which macroblocks are skipped in its log alone.
    ffmpeg_log.set_level(ffmpeg_log.DEBUG)
    try:
        with (
            ffmpeg_errors_of(path),
            ffmpeg_log.Capture(local=True) as log,
            av.open(str(path), metadata_errors="replace") as source,
        ):
            stream = source.streams.video[0]
            if stream.codec_context is None or stream.codec_context.codec.canonical_name != "h264":
                return found
            stream.codec_context.options = {"export_side_data": "venc_params", "debug": "mb_type"}
            # Other threads' messages are not seen here.
            stream.codec_context.thread_count = 1
            logged: deque[str] = deque()
            for index, frame in enumerate(source.decode(stream)):
                # Several pictures may come out at once, all logged before the first.
                logged.extend(_pictures(log))
                log.clear()
                picture = logged.popleft() if logged else ""
                if index in wanted and (qp := _quantizers(frame)) is not None:
                    found[index] = Macroblocks(qp, _skipped(picture, qp.shape))
                if len(found) == len(wanted):
                    break
    finally:
        ffmpeg_log.set_level(level)
    return found


def _quantizers(frame: av.VideoFrame) -> NDArray[np.int16] | None:
    side = frame.side_data.get("VIDEO_ENC_PARAMS")
    if side is None:
        return None
    data = bytes(cast(Any, side))
    head = np.frombuffer(data, _HEAD, 1)[0]
    if head["kind"] != _H264 or not head["count"]:
        return None
    block = np.dtype(
        {"names": _BLOCK, "formats": ["<i4"] * len(_BLOCK), "itemsize": int(head["size"])}
    )
    blocks = np.frombuffer(data, block, int(head["count"]), int(head["offset"]))
    rows, columns = blocks["y"] // MACROBLOCK, blocks["x"] // MACROBLOCK
    qp = np.zeros((int(rows.max()) + 1, int(columns.max()) + 1), np.int16)
    qp[rows, columns] = head["qp"] + blocks["delta_qp"]
    return qp


def _pictures(log: Sequence[tuple[int, str, str]]) -> list[str]:
    """Return what the decoder's log has of each picture."""
    text = "".join(message for _, name, message in log if name == "h264")
    return text.split("New frame, type:")[1:]


def _skipped(picture: str, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return which macroblocks a log of a picture names as skipped.

    Each row of it begins with the height in samples, and three characters stand for a macroblock.
    """
    skipped = np.zeros(shape, bool)
    rows = {int(at) // MACROBLOCK: kinds for at, kinds in _ROW.findall(picture)}
    if set(rows) != set(range(shape[0])):
        return None
    for row, kinds in rows.items():
        skipped[row] = [kind in "Sd" for kind in kinds.ljust(3 * shape[1])[::3][: shape[1]]]
    return skipped
