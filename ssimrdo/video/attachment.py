"""A file inside a video: attachments of Matroska, a metadata key of MP4."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Final

import av

from ssimrdo.files import temporary_for
from ssimrdo.video.errors import ffmpeg_errors_of

METADATA_KEY: Final = "ssimrdo"
"""In MP4, which has no attachments."""

CONTAINERS: Final = ("matroska", "mp4")
"""FFmpeg's names of the containers that can hold a file."""


def attach(path: Path, container: str, name: str, mime_type: str, data: bytes) -> None:
    """Put a file into a video, whose packets stay as they are.

    Parameters
    ----------
    path : Path
        The video, which is written anew.
    container : str
        One of :data:`CONTAINERS`.
    name, mime_type : str
        Of the file; MP4 keeps neither.
    data : bytes
        Its content; UTF-8 without NUL for MP4.

    Raises
    ------
    OSError
        If the video cannot be read or written.
    """
    written = temporary_for(path)
    options = {"movflags": "+faststart+use_metadata_tags"} if container == "mp4" else {}
    try:
        with (
            ffmpeg_errors_of(path),
            av.open(str(path), format=container) as source,
            av.open(str(written), "w", format=container, options=options) as target,
        ):
            video = source.streams.video[0]
            stream = target.add_stream_from_template(video, opaque=True)
            stream.time_base = video.time_base
            if container == "mp4":
                target.metadata[METADATA_KEY] = data.decode()
            else:
                target.add_attachment(name, mime_type, data)
            for packet in source.demux(video):
                # The last one is empty: it flushes decoders.
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def attached(video: Path | BinaryIO, name: str, most: int) -> bytes | None:
    """Return a file inside a video, None where there is none or it has more bytes than may be.

    Parameters
    ----------
    video : Path or binary stream
        The video.
    name : str
        Of the file.
    most : int
        Bytes that may be returned.

    Raises
    ------
    OSError
        If it is no video.
    """
    source: Any = str(video) if isinstance(video, Path) else video
    shown = video if isinstance(video, Path) else Path()
    # Nothing is decoded to see what streams are like, whatever size they claim.
    options = {"codec_whitelist": "none"}
    with ffmpeg_errors_of(shown), av.open(source, options=options) as opened:
        text = opened.metadata.get(METADATA_KEY)
        if text is not None:
            found = [text.encode()]
        else:
            files = (one for one in opened.streams.attachments if one.name == name)
            found = [bytes(one.data) for one in files if one.data is not None]
    return next((data for data in found if len(data) <= most), None)
