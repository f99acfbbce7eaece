"""Decoding video files to luma frames with FFmpeg."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ssimrdo.errors import EncoderError
from ssimrdo.video.errors import ffmpeg_errors_of


def decoded_luma(
    path: Path, *, container: str | None = None, threads: int = 0, bit_depth: int | None = None
) -> Iterator[NDArray[Any]]:
    """Yield the luma of every frame of a video file in presentation order.

    Parameters
    ----------
    path : Path
        Video file.
    container : str, optional
        FFmpeg's name of the container, where the file's suffix does not tell.
    threads : int
        Decoder threads; 0 leaves the number to FFmpeg.
    bit_depth : int, optional
        See :func:`luma_plane`.

    Yields
    ------
    ndarray of shape (height, width), uint8 or uint16
        Luma after the stream's own cropping.

    Raises
    ------
    OSError
        If the file cannot be read or decoded, or holds no video.
    """
    with (
        ffmpeg_errors_of(path),
        # Names and comments in the file are of no use here.
        av.open(str(path), format=container, metadata_errors="replace") as source,
    ):
        if not source.streams.video:
            raise OSError(errno.EINVAL, "it has no video", str(path))
        stream = source.streams.video[0]
        if stream.codec_context is None:
            raise OSError(errno.EINVAL, "it has no video that can be decoded", str(path))
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        for frame in source.decode(stream):
            yield luma_plane(frame, bit_depth)


class PacketDecoder:
    """Decodes packets as they come, for codecs that give no reconstruction.

    Parameters
    ----------
    syntax : str
        FFmpeg's name of the raw stream that headers and packets make.
    headers : bytes
        Parameter sets ahead of the packets; may be empty.
    bit_depth : int, optional
        See :func:`luma_plane`.
    """

    def __init__(self, syntax: str, headers: bytes = b"", bit_depth: int | None = None) -> None:
        self._bit_depth = bit_depth
        self._syntax = syntax
        self._headers = headers
        self._decoder: av.VideoCodecContext | None = None

    def decode(self, data: bytes, pts: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Take a packet; yield the frames that come out, each with its presentation time.

        Raises
        ------
        EncoderError
            If it cannot be decoded.
        """
        if self._decoder is None:
            try:
                self._decoder = self._open(self._headers + data)
            except (av.error.FFmpegError, IndexError) as error:
                raise _undecodable(error) from error
            data = self._headers + data
        # Decoders look beyond the end: a packet made by size has the zeros there that FFmpeg wants.
        packet = av.Packet(len(data))
        packet.update(data)
        packet.pts = pts
        yield from self._frames(packet)

    def flush(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield the frames that are still inside."""
        if self._decoder is not None:
            yield from self._frames(None)

    def _open(self, first: bytes) -> av.VideoCodecContext:
        with av.open(io.BytesIO(first), format=self._syntax) as source:
            context = source.streams.video[0].codec_context
            decoder = av.CodecContext.create(context.codec.name, "r")
            decoder.extradata = context.extradata
        assert isinstance(decoder, av.VideoCodecContext)
        # Frames come out at once, in the order of presentation all the same.
        decoder.thread_count = 1
        return decoder

    def _frames(self, packet: av.Packet[Any] | None) -> Iterator[tuple[int, NDArray[Any]]]:
        assert self._decoder is not None
        try:
            decoded = self._decoder.decode(packet)
        except av.error.FFmpegError as error:
            raise _undecodable(error) from error
        for frame in decoded:
            assert frame.pts is not None, "packets have one"
            yield frame.pts, luma_plane(frame, self._bit_depth)


def _undecodable(error: Exception) -> EncoderError:
    reason = getattr(error, "strerror", None) or "it is not a video"
    return EncoderError(f"the stream cannot be decoded: FFmpeg: {reason}")


def luma_plane(frame: av.VideoFrame, bit_depth: int | None = None) -> NDArray[Any]:
    """Return a copy of the first plane of a planar frame with 8 or more bits per sample.

    Parameters
    ----------
    frame : av.VideoFrame
        Decoded frame.
    bit_depth : int, optional
        Bits that were coded, where FFmpeg may have put them into the upper ones of more.
    """
    plane, bits = frame.planes[0], frame.format.components[0].bits
    dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
    samples: NDArray[Any] = np.frombuffer(memoryview(plane), dtype)
    rows = samples.reshape(plane.height, plane.line_size // dtype.itemsize)[:, : plane.width]
    surplus = 0 if bit_depth is None else max(bits - bit_depth, 0)
    return np.asarray(rows >> surplus if surplus else rows.copy())
