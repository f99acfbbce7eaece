"""Compiling the kernels ahead of their first use, with a word to the user if it takes long."""

from __future__ import annotations

import logging
import threading

import numpy as np

logger = logging.getLogger("ssimrdo")

_PATIENCE_SECONDS = 2.0


def load_kernels(bit_depth: int) -> None:
    """Load the kernels for a bit depth from Numba's cache, or compile them and say so.

    Parameters
    ----------
    bit_depth : int
        8 or 10: the luma's dtype.
    """
    from ssimrdo import rdo, ssim

    message = threading.Timer(
        _PATIENCE_SECONDS,
        logger.warning,
        ["compiling the SSIM kernels; this takes some seconds and happens once"],
    )
    message.daemon = True
    message.start()
    try:
        luma = np.zeros((16, 16), np.uint8 if bit_depth == 8 else np.uint16)
        ssim.slice_quality(luma, luma, bit_depth=bit_depth)
        rdo.quantizer_offsets(luma, bit_depth=bit_depth)
    finally:
        message.cancel()
