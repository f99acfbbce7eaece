"""The table of aims by tissue and the clips it is made from, against closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_aims import COLUMNS, SHORT, Aim, aims_table, largest_text, short_table
from benchmark_clips import merged, second_window
from test_pairs import curve, plain, report

from ssimrdo.comparison.results import Curve
from ssimrdo.dicom import NAMED_WINDOWS, Window
from ssimrdo.html.text import MISSING
from ssimrdo.record.result import WindowUsed


def classed(rate_factor: float, *keys: str, seconds: float = 1.0) -> Curve:
    """A curve that has some classes besides the indices."""
    return tuple(
        replace(point, classes=dict.fromkeys(keys, point.quality["ssim"].mean))
        for point in curve(rate_factor, seconds)
    )


def test_means_are_over_the_clips_that_have_a_class() -> None:
    edge, dense = "psnr_edge", "psnr_dense"
    made = report(
        chest={"x264": classed(1, edge, dense), "ours": classed(0.8, edge, dense, seconds=2)},
        head={"x264": classed(1, edge), "ours": classed(1.1, edge, seconds=2)},
    )
    made = replace(made, metrics=("ssim", "weighted_ssim", "psnr"))
    rates = tuple(float(-number) for number in range(1, len(COLUMNS) + 1))
    text = plain(aims_table(made, [Aim("ours", ("x264",), rates, 1.6)]))
    head, _, row, aim = ([cell.strip() for cell in line.split("|")] for line in text.splitlines())
    assert head[3:10] == ["SSIM", "weighted", "PSNR", "edge", "small", "flat", "worst slice"]
    assert row[1:3] == ["the ours", "the x264"]
    assert row[3:8] == ["-5.0 %"] * 4 + ["-20.0 % (1 of 2)"]
    assert row[8:10] == [MISSING] * 2
    assert row[10].startswith("+10.0 % (")
    assert row[10].endswith(", head)")
    assert row[11] == "2.00 ×"
    assert aim[3:10] == [f"≤ -{number}.0 %" for number in range(1, 8)]
    assert aim[10:12] == ["≤ 0.0 %", "≤ 1.6 ×"]


def test_the_short_table_has_the_same_figures_without_what_is_aimed_at() -> None:
    keys = ("psnr_edge", "psnr_dense", "psnr_flat")
    made = report(
        chest={"x264": classed(1, *keys), "ours": classed(0.8, *keys), "theirs": classed(0.7)}
    )
    rates = (-1.0,) * len(COLUMNS)
    aims = [Aim("ours", ("x264",), rates, 1.6), Aim("theirs", ("x264",))]
    head, _, *rows = cells(short_table(made, aims))
    whole_head, _, *whole_rows = cells(aims_table(made, aims))
    assert [row[0] for row in rows] == ["the ours"]
    assert len(head) == 4 + len(SHORT)
    whole = dict(zip(whole_head, whole_rows[0], strict=True))
    assert dict(zip(head, rows[0], strict=True)).items() <= whole.items()


def test_the_figures_of_the_readme_are_those_of_the_page_on_the_method() -> None:
    root = Path(__file__).parents[1]
    readme, results = (
        cells(block(root / page, name))
        for page, name in (("README.md", "numbers"), ("docs/method.md", "aims"))
    )
    known = [dict(zip(results[0], row, strict=True)) for row in results[2:]]
    shown = [dict(zip(readme[0], row, strict=True)) for row in readme[2:]]
    assert len(shown) >= 4
    for row in shown:
        assert any(row.items() <= one.items() for one in known), row


def block(page: Path, name: str) -> str:
    """Return the table in a block of a page."""
    text = page.read_text().partition(f"<!-- {name}:start -->")[2].partition(f"<!-- {name}:end")[0]
    return "\n".join(line for line in text.splitlines() if line.startswith("|"))


def cells(text: str) -> list[list[str]]:
    """Return the cells of a table in Markdown, its headings first."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_the_largest_figure_is_named_by_class_and_clip() -> None:
    rates = {"ssim": {"a": -3.0, "b": None}, "psnr_flat": {"a": -9.0, "b": -1.0}}
    assert plain(largest_text(rates)) == "-1.0 % (PSNR in flat soft tissue, b)"


@pytest.mark.parametrize(
    ("own", "lung", "second"),
    [
        (Window(40, 400), 0.3, "lung"),
        (Window(35, 100), 0.02, "bone"),
        (Window(900, 2500), 0.02, "soft-tissue"),
        (Window(-600, 1500), 0.3, "soft-tissue"),
    ],
)
def test_the_second_window_shows_what_the_first_does_not(
    own: Window, lung: float, second: str
) -> None:
    assert second_window(own, lung) == NAMED_WINDOWS[second]


def test_merged_reports_keep_windows_apart_and_each_once() -> None:
    def in_window(center: float, width: float):
        made = report(head={"x264": curve()}, chest={"x264": curve()})
        window = WindowUsed(center, width)
        series = tuple(replace(one, window=window) for one in made.series if one.error is None)
        return replace(made, series=series)

    made = merged([in_window(40, 400), in_window(-600, 1500), in_window(40, 400)])
    assert [one.name for one in made.series] == [
        "chest 40/400",
        "chest -600/1500",
        "head 40/400",
        "head -600/1500",
    ]
