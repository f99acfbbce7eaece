"""Loading the kernels ahead of their first use, with a word to the user if they are compiled."""

from __future__ import annotations

import logging

import numpy as np

from ssimrdo import rdo, ssim
from ssimrdo.ssim import kernels

logger = logging.getLogger("ssimrdo")


def load_kernels(bit_depth: int) -> None:
    """Load the kernels for a bit depth from Numba's cache, or compile them and say so.

    Parameters
    ----------
    bit_depth : int
        8 or 10: the luma's dtype.
    """
    luma = np.zeros((16, 16), np.uint8 if bit_depth == 8 else np.uint16)
    # The smaller kernel first: it tells whether the larger ones are in the cache.
    misses = sum(kernels.block_moments.stats.cache_misses.values())
    rdo.quantizer_offsets(luma, bit_depth=bit_depth, frame_type="P")
    if sum(kernels.block_moments.stats.cache_misses.values()) > misses:
        logger.warning("compiling the SSIM kernels; this takes some seconds and happens once")
    ssim.slice_quality(luma, luma, bit_depth=bit_depth)
