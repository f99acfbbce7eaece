from __future__ import annotations

from dataclasses import replace

import pytest
from benchmark_tables import bd_table, mean_ssim, paper_table, points_text, replace_block
from test_report import a_report

from ssimrdo.comparison.results import ComparisonReport, EncoderSummary, SeriesSpread
from ssimrdo.record.summary import SliceSummary


def two_reports() -> list[ComparisonReport]:
    """The made-up report with all metrics, at CRF and at QP."""
    report = a_report("chest", "head")
    report = replace(
        report,
        summary={name: with_all_metrics(one) for name, one in report.summary.items()},
    )
    undefined = SeriesSpread(None, -10.0, -2.5, None, -8.0, 2, 0)
    summary = report.summary["ssim"]
    delta = replace(summary.deltas["ssim"], rate_percent=undefined, kbps=undefined)
    summary = replace(summary, deltas={**summary.deltas, "ssim": delta})
    other = replace(report, mode="qp", summary={**report.summary, "ssim": summary})
    return [report, other]


def with_all_metrics(summary: EncoderSummary) -> EncoderSummary:
    ssim = summary.deltas["ssim"]
    ssim = replace(ssim, kbps=replace(ssim.kbps, mean=-123.4))
    more = replace(ssim, rate_percent=replace(ssim.rate_percent, mean=1.26))
    deltas = {**summary.deltas, "ssim": ssim, "weighted_ssim": more, "ms_ssim": more}
    return replace(summary, deltas=deltas)


def cells(table: str) -> list[list[str]]:
    text = table.replace("\u202f", " ").replace("\u2212", "-")
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()]


def test_a_row_per_mode_and_encoder_but_the_reference() -> None:
    heads, rule, *rows = cells(bd_table(two_reports()))
    assert heads[:2] == ["mode", "encoder"]
    assert set(rule) == {"---"}
    assert [row[:2] for row in rows] == [
        ["CRF", "x264 slow"],
        ["CRF", "ours"],
        ["constant QP", "x264 slow"],
        ["constant QP", "ours"],
    ]
    by_name = dict(zip(heads, rows[1], strict=True))
    assert by_name == {
        "mode": "CRF",
        "encoder": "ours",
        "SSIM": "-10.0 %",
        "median": "-10.0 %",
        "worst": "-2.5 %",
        # Two series have one, and what is made up above has the other.
        "range or 95 % interval": "-12.0 to -8.0 %",
        "Weighted SSIM": "+1.3 %",
        "PSNR": "-10.0 %",
        "MS-SSIM": "+1.3 %",
        # 0.9 times as fast.
        "encode time": "1.11 ×",
    }
    assert rows[3][2] == rows[3][5] == "–"


def test_the_paper_beside_ours() -> None:
    _, _, *rows = cells(paper_table(two_reports()))
    assert rows == [
        ["BD-rate, CRF", "-4.8 %", "-10.0 %"],
        ["BD-rate, constant QP", "-5.2 %", "–"],
        *(
            [f"mean SSIM, {mode}", "≥ 0.95", "0.989 at 18, 0.969 at 23, 0.939 at 28, 0.899 at 33"]
            for mode in ("CRF", "constant QP")
        ),
        ["bit rate at equal SSIM, CRF", "-372 kbit/s", "-123 kbit/s"],
        ["bit rate at equal SSIM, constant QP", "-372 kbit/s", "–"],
    ]


def test_mean_ssim_is_over_the_series_that_did_not_fail() -> None:
    report, _ = two_reports()
    series = []
    for one, mean in zip(report.series, (0.9, 0.8), strict=True):
        first, *rest = one.curves["ssim"]
        first = replace(first, quality={**first.quality, "ssim": SliceSummary(mean, 0.7)})
        series.append(replace(one, curves={**one.curves, "ssim": (first, *rest)}))
    point, mean = mean_ssim(replace(report, series=tuple(series)), "ssim")[0]
    assert point == 18
    assert mean == pytest.approx(0.85)
    series[1] = replace(series[1], error="failed")
    assert mean_ssim(replace(report, series=tuple(series)), "ssim")[0] == (18, 0.9)


def test_points_are_said_once_per_mode() -> None:
    report, other = two_reports()
    assert points_text([report, other, report]) == (
        "CRF 18, 23, 28, 33; constant QP 18, 23, 28, 33"
    )


def test_only_the_block_is_replaced() -> None:
    text = "a\n<!-- x:start -->\nold\n<!-- x:end -->\nb\n"
    new = replace_block(text, "new\n", name="x")
    assert new == "a\n<!-- x:start -->\nnew\n<!-- x:end -->\nb\n"
    assert replace_block(new, "new", name="x") == new


@pytest.mark.parametrize(
    "text", ["", "<!-- x:start -->", "<!-- x:end --><!-- x:start -->", "<!-- x:start -->" * 2]
)
def test_without_its_comments_there_is_no_block(text: str) -> None:
    with pytest.raises(ValueError, match="needs one <!-- x:start -->"):
        replace_block(text, "new", name="x")
