from __future__ import annotations

import copy

import pytest
from benchmark_tables import bd_table, mean_ssim, paper_table, replace_block
from test_report import a_report


def two_reports():
    """The made-up report with all metrics, at CRF and at QP."""
    report = a_report("chest", "head")
    report["encoders"] = [report["encoders"][index] for index in (1, 0, 2)]
    for summary in report["summary"].values():
        summary["ssim"]["kbps"] = {"mean": -123.4}
        summary["weighted_ssim"] = summary["ms_ssim"] = dict(summary["ssim"], mean=1.26)
    other = copy.deepcopy(report)
    other["mode"] = "qp"
    other["summary"]["ssim"]["ssim"].update(mean=None, low=None, kbps={"mean": None})
    return [report, other]


def cells(table):
    text = table.replace("\u202f", " ").replace("\u2212", "-")
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()]


def test_a_row_per_mode_and_encoder_but_the_reference():
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
        "95 % interval": "-12.0 to -8.0 %",
        "Weighted SSIM": "+1.3 %",
        "PSNR": "-10.0 %",
        "MS-SSIM": "+1.3 %",
        # 0.9 times as fast.
        "encode time": "1.11 ×",
    }
    assert rows[3][2] == rows[3][5] == "–"


def test_the_paper_beside_ours():
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


def test_mean_ssim_is_over_the_series_that_did_not_fail():
    report, _ = two_reports()
    first, second = (one["curves"]["ssim"][0]["quality"]["ssim"] for one in report["series"])
    first["mean"], second["mean"] = 0.9, 0.8
    assert mean_ssim(report, "ssim")[0] == (18, pytest.approx(0.85))
    report["series"][1]["error"] = "failed"
    assert mean_ssim(report, "ssim")[0] == (18, 0.9)


def test_only_the_block_is_replaced():
    text = "a\n<!-- x:start -->\nold\n<!-- x:end -->\nb\n"
    new = replace_block(text, "new\n", name="x")
    assert new == "a\n<!-- x:start -->\nnew\n<!-- x:end -->\nb\n"
    assert replace_block(new, "new", name="x") == new


@pytest.mark.parametrize(
    "text", ["", "<!-- x:start -->", "<!-- x:end --><!-- x:start -->", "<!-- x:start -->" * 2]
)
def test_without_its_comments_there_is_no_block(text):
    with pytest.raises(ValueError, match="needs one <!-- x:start -->"):
        replace_block(text, "new", name="x")
