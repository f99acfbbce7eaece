"""What the points of an encoder are called."""

from __future__ import annotations

import re
from typing import Final

from ssimrdo.comparison.results import EncoderFacts, plain

_ABBREVIATIONS: Final = ("crf", "qp", "psnr")

_SET: Final = re.compile(r"([\w-]+)=POINT\b")


def named_point(encoder: EncoderFacts, point: float) -> str:
    """Return a point with what it sets, such as ``CRF 23``; the bare number where that is unknown.

    Parameters
    ----------
    encoder : EncoderFacts
        In whose settings POINT stands for it.
    point : float
        On the encoder's own scale.
    """
    found = _SET.search(encoder.settings)
    if found is None:
        return f"{plain(point)}"
    name = found[1]
    return f"{name.upper() if name in _ABBREVIATIONS else name} {plain(point)}"
