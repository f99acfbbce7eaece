"""The table of what other series would choose, against closed forms."""

from __future__ import annotations

from bench_efforts import OTHERS, OWN, choices_table
from test_benchmark_aims import cells
from test_pairs import curve, plain, report

from ssimrdo.comparison import CompareSettings
from ssimrdo.comparison.encoders import make_contenders


def test_each_effort_stands_beside_what_the_others_choose_in_its_time() -> None:
    """The slow one is best everywhere, but not in the time of the quick one."""
    made = report(
        **{
            "a 40/400": {
                "x264": curve(),
                "quick": curve(0.9, seconds=2),
                "other": curve(0.8, seconds=2),
                "slow": curve(0.5, seconds=8),
            },
            "b 40/400": {
                "x264": curve(),
                "quick": curve(0.7, seconds=2),
                "other": curve(0.95, seconds=2),
                "slow": curve(0.6, seconds=8),
            },
        }
    )
    table = choices_table(made, ("quick", "slow"), ("quick", "slow", "other"))
    _, _, quick, slow = cells(plain(table))
    # a is best with "other", which b gets; b with "quick", which a gets.
    assert quick[:4] == ["the quick", "2.00 ×", "-20.0 %", "-7.5 %"]
    assert quick[4] == "the quick (1 of 2), the other (1 of 2)"
    assert slow == ["the slow", "8.00 ×", "-45.0 %", "-45.0 %", "the slow (2 of 2)"]


def test_candidates_are_variants_that_a_comparison_takes() -> None:
    settings = CompareSettings(anchors=("x264-ssim",), tests=(*OWN, *OTHERS))
    made = [one for one in make_contenders(settings) if one.role == "test"]
    assert len(made) == len(OWN) + len(OTHERS)
