"""Video files: writing packets into containers and decoding them again."""

from ssimrdo.video.decode import decoded_luma, luma_plane
from ssimrdo.video.mux import CONTAINERS, packet_writer
from ssimrdo.video.nal import sei_units, x264_settings

__all__ = [
    "CONTAINERS",
    "decoded_luma",
    "luma_plane",
    "packet_writer",
    "sei_units",
    "x264_settings",
]
