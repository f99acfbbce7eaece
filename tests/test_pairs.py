"""Pairs of encoders of a report, against closed forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from benchmark_pairs import compare_pair, leave_one_out
from benchmark_tables import Target, leave_one_out_table, pair_table, target_table
from test_report import a_report, an_encoder

from ssimrdo.comparison.results import ComparisonReport, Curve, RatePoint, SeriesResult
from ssimrdo.record.summary import SliceSummary


def plain(table: str) -> str:
    """The table with hyphens for minus signs and ordinary spaces."""
    return table.replace("\u202f", " ").replace("\u2212", "-")


SSIMS = (0.99, 0.97, 0.94, 0.9)
KBPS = (4000.0, 2000.0, 1000.0, 500.0)


def curve(rate_factor: float = 1.0, seconds: float = 1.0, worst: float = 0.0) -> Curve:
    return tuple(
        RatePoint(
            point=point,
            kbps=kbps * rate_factor,
            bytes=0,
            seconds=seconds,
            quality={
                **dict.fromkeys(
                    ("ssim", "weighted_ssim", "psnr"), SliceSummary(ssim, ssim - 0.02 + worst)
                ),
                "loss": SliceSummary(1 - ssim, 1 - ssim + 0.02 - worst, higher_is_better=False),
            },
            per_slice={},
        )
        for point, kbps, ssim in zip((18, 23, 28, 33), KBPS, SSIMS, strict=True)
    )


def report(**series: Mapping[str, Curve]) -> ComparisonReport:
    """A report with the curves of each series by encoder name."""
    names = list(next(iter(series.values())))
    return replace(
        a_report(),
        encoders=tuple(an_encoder(name, "anchor", f"the {name}") for name in names),
        series=(
            *(SeriesResult(name, curves=curves) for name, curves in series.items()),
            SeriesResult("broken", error="no slices"),
        ),
        summary={},
    )


def test_a_constant_factor_in_rate_is_the_bd_rate() -> None:
    made = report(
        chest={"x264": curve(), "ours": curve(0.8, seconds=2)},
        head={"x264": curve(), "ours": curve(0.9, seconds=8)},
    )
    pair = compare_pair(made, "ours", "x264")
    assert pair.rates == {"chest": pytest.approx(-20), "head": pytest.approx(-10)}
    assert pair.mean_rate == pytest.approx(-15)
    assert pair.time == pytest.approx(4)
    back = compare_pair(made, "x264", "ours")
    assert back.rates["chest"] == pytest.approx(25)
    assert back.time == pytest.approx(1 / 4)


def test_worst_slices_are_compared_at_equal_rate() -> None:
    made = report(chest={"x264": curve(), "ours": curve(worst=0.01)})
    assert compare_pair(made, "ours", "x264").worst_slice == {"chest": pytest.approx(0.01)}


def test_where_lower_is_better_less_rate_for_the_same_loss_is_a_saving() -> None:
    made = report(chest={"x264": curve(), "ours": curve(0.8, worst=0.01)})
    pair = compare_pair(made, "ours", "x264", metric="loss")
    assert pair.rates == {"chest": pytest.approx(-20)}
    assert pair.worst_slice["chest"] > 0.01


def test_what_is_left_out_does_not_take_part_in_the_choice() -> None:
    """Series a saves most with "low", b and c with "high"; each gets what the others like."""
    anchor = curve()
    made = report(
        a={"x264": anchor, "low": curve(0.7), "high": curve(0.99)},
        b={"x264": anchor, "low": curve(0.99), "high": curve(0.8)},
        c={"x264": anchor, "low": curve(0.98), "high": curve(0.75)},
    )
    chosen = leave_one_out(made, ("low", "high"), "x264")
    # Of a and c, low saves 30 and 2 %, high 1 and 25 %.
    # Of a and b, low saves 30 and 1 %, high 1 and 20 %.
    assert {name: test for name, (test, _) in chosen.items()} == {
        "a": "high",
        "b": "low",
        "c": "low",
    }
    rates = [rate for _, rate in chosen.values()]
    assert rates == pytest.approx([-1, -1, -2])
    assert "| a | the high | -1.0" in plain(leave_one_out_table(made, ("low", "high"), "x264"))


def test_clips_of_a_series_are_left_out_together() -> None:
    """Both windows of a save most with "low"; b, which saves with "high", decides for them."""
    anchor = curve()
    made = report(
        **{
            "a 40/400": {"x264": anchor, "low": curve(0.7), "high": curve(0.99)},
            "a 60/150": {"x264": anchor, "low": curve(0.8), "high": curve(0.97)},
            "b 40/400": {"x264": anchor, "low": curve(0.99), "high": curve(0.9)},
        }
    )
    chosen = leave_one_out(made, ("low", "high"), "x264", left_out=lambda name: name[0])
    assert chosen == {"a": ("high", pytest.approx(-2)), "b": ("low", pytest.approx(-1))}


def test_of_several_presets_the_one_of_equal_time_counts() -> None:
    made = report(
        chest={
            "x264": curve(),
            "x264:slow": curve(0.95, seconds=1.9),
            "x264:slower": curve(0.9, seconds=4),
            "ours": curve(0.8, seconds=2),
        }
    )
    targets = (
        Target("crf", "ours", ("x264", "x264:slow", "x264:slower"), -8),
        Target("crf", "ours", ("x264",), -14, 1.6),
    )
    *_, first, second = (
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in plain(target_table([made], targets)).splitlines()
    )
    assert first[:5] == ["1", "the ours, CRF", "the x264:slow", "≤ -8.0 %", "-15.8 %"]
    assert first[-2:] == ["=", "1.05 ×"]
    assert second[2:5] == ["the x264", "≤ -14.0 %", "-20.0 %"]
    assert second[-2:] == ["≤ 1.6 ×", "2.00 ×"]
    assert "| the ours | -20.0 % | -20.0 % | 2.00" in plain(pair_table(made, ("ours",), "x264"))
