"""The table and the picture of all codecs, against closed forms."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
from benchmark_aims import COLUMNS
from codecs_table import every_effort, picture, rates_table, shown_text, titles_of, write_beside
from matplotlib.figure import Figure
from test_benchmark_aims import cells, classed
from test_pairs import plain, report

from ssimrdo.codecs.named import NAMED
from ssimrdo.comparison import CompareSettings
from ssimrdo.comparison.encoders import make_contenders
from ssimrdo.comparison.results import ComparisonReport
from ssimrdo.html.text import MISSING

TITLES = {"x264": "H.264", "ours": "H.264", "theirs": "AV1", "x265": "HEVC"}


def a_report() -> ComparisonReport:
    made = report(
        chest={
            "x264": classed(1, "psnr_edge"),
            "theirs": classed(0.5, "psnr_edge", seconds=8),
            "x265": classed(0.9, "psnr_edge", seconds=4),
            "ours": classed(0.8, "psnr_edge", seconds=2),
        }
    )
    named = {one.name: one for one in made.encoders}
    encoders = (*made.encoders[:-1], replace(named["ours"], role="test", label="ours effort=max"))
    return replace(made, encoders=encoders, metrics=("ssim", "weighted_ssim", "psnr"))


def test_every_encoder_has_a_row_codec_by_codec() -> None:
    decoding = {"x264": 1.0, "ours": 1.25, "x265": 2.0, "theirs": 3.0}
    head, _, *rows = cells(plain(rates_table(a_report(), TITLES, decoding)))
    assert head == ["codec", "encoder", *COLUMNS.values(), "encode", "decode"]
    assert [row[1] for row in rows] == ["the x264", "ours effort=max", "the x265", "the theirs"]
    columns = [dict(zip(head, row, strict=True)) for row in rows]
    assert [one["SSIM"] for one in columns] == ["0", "-20.0 %", "-10.0 %", "-50.0 %"]
    assert columns[3]["edge"] == "-50.0 %"
    assert columns[3]["small"] == MISSING
    assert [one["encode"] for one in columns] == ["1.00 ×", "2.00 ×", "4.00 ×", "8.00 ×"]
    assert [one["decode"] for one in columns] == ["1.0 ms", "1.2 ms", "2.0 ms", "3.0 ms"]


def test_the_picture_names_efforts_and_encoders() -> None:
    drawn = picture(a_report(), TITLES)
    texts = [element.text for element in ElementTree.fromstring(drawn).iter() if element.text]
    assert {"max", "the x264", "the x265", "the theirs", "ssimrdo, H.264"} <= set(texts)
    assert "HEVC without ssimrdo" in texts
    assert "ssimrdo, HEVC" not in texts
    assert picture(a_report(), TITLES) == drawn


def test_names_of_points_that_are_close_do_not_cover_each_other() -> None:
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    points = [(1.0, 0.0), (5.0, 5.0), (5.05, 5.0), (5.0, 5.1), (10.0, 10.0)]
    axes.plot(*zip(*points, strict=True), "o-")
    figure.draw_without_rendering()
    write_beside(axes, [(f"encoder {at}", "black", at) for at in points])
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == [f"encoder {at}" for at in points]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_every_codec_is_compared_at_every_effort() -> None:
    tests = every_effort()
    settings = CompareSettings(anchors=("x264-ssim",), tests=tests)
    assert len(make_contenders(settings)) == len(tests) + 1
    found = titles_of(settings)
    for name, codec in NAMED.items():
        own = [test for test in tests if f"codec={name}" in test.split(",")]
        assert {found[test] for test in own} == ({codec.title} if own else set())
        if codec.lacking() is None:
            assert len(own) == (4 if "effort" in codec.options else 1)


def test_what_a_browser_shows_is_told_in_words() -> None:
    luma = [np.full((4, 4), 1023, np.uint16), np.full((4, 4), 400, np.uint16)]
    shown = [np.full((4, 4), 255, np.uint8), np.full((4, 4), 100, np.uint8)]
    assert shown_text(None, luma, 10) == "no"
    assert shown_text(shown, luma, 10) == "yes"
    assert shown_text([shown[0], shown[1] + 20], luma, 10) == "off by 20 grey levels"
