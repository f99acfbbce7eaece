"""The table of the encoders themselves, against closed forms."""

from __future__ import annotations

from dataclasses import replace

from benchmark_aims import COLUMNS, peers_table
from test_benchmark_aims import classed
from test_pairs import plain, report

from ssimrdo.html.text import MISSING


def test_every_encoder_has_a_row_against_the_reference() -> None:
    made = report(
        chest={"x264": classed(1, "psnr_edge"), "ours": classed(0.8, "psnr_edge", seconds=2)},
        head={"x264": classed(1), "ours": classed(1.1, seconds=2)},
    )
    made = replace(made, metrics=("ssim", "weighted_ssim", "psnr"))
    head, _, row = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in plain(peers_table(made)).splitlines()
    )
    assert head == ["", "SSIM, chest", "SSIM, head", *COLUMNS.values(), "time"]
    assert row[:4] == ["the ours", "-20.0 %", "+10.0 %", "-5.0 %"]
    columns = dict(zip(head[3:], row[3:], strict=True))
    assert columns["edge"] == "-20.0 % (1 of 2)"
    assert columns["small"] == MISSING
    assert columns["time"] == "2.00 ×"


def test_a_loaded_machine_tells_no_times() -> None:
    made = report(chest={"x264": classed(1), "ours": classed(0.8)})
    made = replace(made, metrics=("ssim", "weighted_ssim", "psnr"), timing="loaded")
    assert "time" not in peers_table(made)
