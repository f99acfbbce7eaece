"""FFmpeg's MPEG-4: a codec that follows no objective and gives no reconstruction."""

from dataclasses import dataclass

import av
import numpy as np

from ssimrdo.codecs.base import Packet, QualityScale, UnsteeredCodec, point_of
from ssimrdo.errors import InputError


@dataclass(frozen=True)
class ToyCodec(UnsteeredCodec):
    """MPEG-4 at a constant quantizer, which stands for the rate factor as well."""

    keyframes: int = 12
    b_frames: int = 2

    name = "toy"
    label = "MPEG-4"
    syntax = "m4v"
    containers = ("mp4", "matroska", "m4v")
    depths = (8,)
    sides = (16, 4096)
    version = f"FFmpeg {av.ffmpeg_version_info}"

    def scale(self, mode, bit_depth):
        del bit_depth
        if mode == "bitrate":
            raise InputError("the toy codec takes none", field="bitrate_kbps")
        return QualityScale(2, 31, 1, default=6, log_rate_slope=-0.12, whole=True)

    def open(self, stream):
        return ToySession(self, stream)

    def describe(self, stream):
        return f"mpeg4 q={point_of(stream.rate):g} g={self.keyframes} bf={self.b_frames}"


class ToySession:
    headers = b""

    def __init__(self, codec, stream):
        shown, quantizer = stream.format, f"{point_of(stream.rate):g}"
        self.settings = codec.describe(stream)
        self._codec = av.CodecContext.create("mpeg4", "w")
        self._codec.width, self._codec.height = shown.columns, shown.rows
        self._codec.pix_fmt, self._codec.color_range = "yuv420p", 2
        self._codec.framerate, self._codec.time_base = shown.fps, 1 / shown.fps
        self._codec.sample_aspect_ratio = shown.aspect
        self._codec.options = {"qmin": quantizer, "qmax": quantizer} | {
            "g": f"{codec.keyframes}",
            "bf": f"{codec.b_frames}",
        }

    def encode(self, luma, steering, index):
        del steering
        chroma = np.full((luma.shape[0] // 2, luma.shape[1]), 128, np.uint8)
        frame = av.VideoFrame.from_ndarray(np.vstack([luma, chroma]), "yuv420p")
        frame.pts, frame.time_base, frame.color_range = index, self._codec.time_base, 2
        yield from self._packets(frame)

    def flush(self):
        yield from self._packets(None)

    def _packets(self, frame):
        for packet in self._codec.encode(frame):
            yield Packet(bytes(packet), packet.pts, packet.dts, packet.is_keyframe)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        del self._codec
