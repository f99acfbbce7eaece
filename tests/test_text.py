"""Texts: what is counted, sizes and times."""

from __future__ import annotations

import pytest

from ssimrdo.text import counted, did_you_mean, duration_text, size_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (counted(0, "slice"), "0 slices"),
        (counted(1, "slice"), "1 slice"),
        (counted(2, "slice"), "2 slices"),
        (counted(1, "series", "series"), "1 series"),
        (counted(2, "series", "series"), "2 series"),
        (size_text(999), "999 bytes"),
        (size_text(1000), "1 kB"),
        (size_text(202_400), "202 kB"),
        (size_text(999_600), "1 MB"),
        (size_text(2.5e18), "2.5e+03 PB"),
        (duration_text(59.94), "59.9 s"),
        (duration_text(90), "2 min"),
        (duration_text(5400), "1.5 h"),
        (duration_text(49 * 3600), "2.0 days"),
        (did_you_mean("lnug", ["bone", "lung"]), "did you mean lung? Else "),
        (did_you_mean("zzzz", ["bone", "lung"]), ""),
    ],
)
def test_texts(text, expected):
    assert text == expected
