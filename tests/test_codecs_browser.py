"""What Chromium shows of videos of every codec is what was encoded."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from browser_frames import frames_shown
from test_named_codecs import SUFFIXES, where_installed
from test_report_browser import browser, pytestmark
from video_files import ct_volume, plane

from ssimrdo import Volume, encode
from ssimrdo.codecs.names import CODECS

__all__ = ["browser", "pytestmark"]

SLICES, ROWS, COLUMNS = 6, 128, 160
PLAYED = {(codec, suffix) for codec in ("h264", "av1") for suffix in (".mp4", ".mkv")}
"""By any Chromium; HEVC by those with a decoder in hardware, raw streams by none."""


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize(
    ("codec", "suffix"),
    [where_installed(codec, suffix) for codec in CODECS for suffix in SUFFIXES[codec]],
)
def test_what_is_shown_is_what_was_encoded(codec, suffix, bit_depth, browser, tmp_path):
    output = tmp_path / f"out{suffix}"
    volume = Volume(ct_volume(SLICES, ROWS, COLUMNS), pixel_spacing_mm=(1, 1))
    result = encode(volume, output, codec=codec, window="40/400", crf=15, bit_depth=bit_depth)
    browser.get("about:blank")
    order = [3, 0, 5, 1, 4, 2]
    shown = frames_shown(browser, output, Fraction(result.fps), order)
    if shown is None:
        assert (codec, suffix) not in PLAYED
        return
    with av.open(str(output)) as video:
        luma = [plane(frame)[:ROWS, :COLUMNS] for frame in video.decode(video=0)]
    for number, grey in zip(order, shown, strict=True):
        expected = luma[number] * (255 / (2**bit_depth - 1))
        assert np.abs(grey - expected).max() < 1
