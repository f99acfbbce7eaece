"""scripts/bench_metrics measures every index, against others of the same value."""

from __future__ import annotations

import json

import bench_metrics
import pytest

from ssimrdo import metrics
from ssimrdo.frames import FrameFormat


@pytest.fixture(scope="module")
def report():
    return bench_metrics.measure(176, 8, 1)


def test_every_index_has_a_time(report):
    assert [row.name for row in report.rows] == list(metrics.names())
    assert all(row.ms >= 0 for row in report.rows)
    assert report.frame == "176x176, 8 bit"
    assert json.loads(json.dumps(report.as_dict()))["rows"][0]["name"] == "ssim"
    text = bench_metrics.table(report)
    assert all(f"| `{name}` |" in text for name in metrics.names())
    assert "(aim: 250)" in text


def test_a_ratio_is_to_the_fastest_of_the_others():
    row = bench_metrics.Row("ssim", 0.9, 2.0, {"piq": 20.0, "torchmetrics": 8.0})
    assert row.ratio == 4
    assert bench_metrics.Row("fsim", 0.9, 2.0, {}).ratio is None


@pytest.mark.parametrize("depth", [8, 10])
def test_what_is_compared_has_the_same_value(depth):
    x, y = bench_metrics.frames(176, depth)
    peers = bench_metrics.peers_of(x, y, (1 << depth) - 1)
    if not peers:
        pytest.skip("PyTorch, piq or torchmetrics is missing (scripts/setup test-torch)")
    pair = metrics.FramePair(x, y, FrameFormat(176, 176, depth))
    for name, others in peers.items():
        expected = metrics.get(name).value(pair)
        for package, value in others.items():
            # In singles, and with other borders of SSIM.
            assert float(value()) == pytest.approx(expected, rel=3e-3), (name, package)
