"""Verification: the finished file must decode to the very samples that were measured."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from ssimrdo.errors import VerificationError
from ssimrdo.video.decode import decoded_luma


def verify(
    path: Path, checksums: Sequence[int], *, container: str, bit_depth: int, threads: int = 0
) -> None:
    """Decode a file with FFmpeg and compare every frame.

    Parameters
    ----------
    path : Path
        Video file.
    checksums : sequence of int
        CRC-32 of every frame in presentation order.
    container : str
        FFmpeg's name of the container.
    bit_depth : int
        Bits per sample.
    threads : int
        Decoder threads; 0 leaves the number to FFmpeg.

    Raises
    ------
    VerificationError
        If a frame differs, or there are more or fewer.
    """
    frames = 0
    for luma in decoded_luma(path, container=container, threads=threads, bit_depth=bit_depth):
        if frames == len(checksums) or zlib.crc32(luma.data) != checksums[frames]:
            raise VerificationError(
                f"slice {frames + 1} decodes to other samples than were encoded"
            )
        frames += 1
    if frames != len(checksums):
        raise VerificationError(f"{frames} of {len(checksums)} slices decode")
