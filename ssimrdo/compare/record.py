"""The results of a comparison as JSON types and as files."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import ssimrdo
from ssimrdo.bd.deltas import BDResult, RateQuality, bjontegaard, rate_difference, ssim_db
from ssimrdo.bd.statistics import summarize
from ssimrdo.compare.cache import Measurement
from ssimrdo.compare.clip import ClipFacts
from ssimrdo.compare.encoders import Contender, versions
from ssimrdo.errors import InputError

logger = logging.getLogger("ssimrdo")

JSON_NAME = "report.json"
CSV_NAME = "rd_points.csv"

Json = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of one series.

    Parameters
    ----------
    name : str
        What the comparison calls it.
    clip : ClipFacts, optional
        What was encoded; None if it failed.
    measured : dict
        Measurements by encoder and point.
    error : str, optional
        Why it failed.
    """

    name: str
    clip: ClipFacts | None = None
    measured: Mapping[tuple[str, float], Measurement] = field(default_factory=dict)
    error: str | None = None


def build_report(
    outcomes: Sequence[Outcome],
    contenders: Sequence[Contender],
    *,
    mode: str,
    preset: str,
    fps: Fraction,
    bit_depth: int,
    metrics: Sequence[str],
    machine: Json,
    encodes: Json,
) -> Json:
    """Return the results as JSON types; what is undefined is None.

    ``speed`` says how many times as fast as the reference an encoder is: the median over the
    points, so that one disturbed encode does not count. Over several series it is the geometric
    mean.
    ``timing`` is ``loaded`` if other encodes or measurements ran during one, ``mixed`` if some
    times are from the cache and of another run, otherwise ``alone``: only these compare well.

    Parameters
    ----------
    outcomes : sequence of Outcome
        All series, at least one of them without an error.
    contenders : sequence of Contender
        All encoders, the reference first.
    mode, preset, fps, bit_depth
        As the comparison was asked for.
    metrics : sequence of str
        Which to report.
    machine, encodes : dict
        Copied into the report.
    """
    series = [_series(outcome, contenders, metrics) for outcome in outcomes]
    measured = [m for outcome in outcomes for m in outcome.measured.values()]
    return {
        "version": ssimrdo.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "ssimrdo compare",
        "mode": mode,
        "preset": preset,
        "fps": str(fps),
        "bit_depth": bit_depth,
        "versions": versions(),
        "machine": machine,
        "timing": _timing(measured),
        "encodes": encodes,
        "metrics": list(metrics),
        "encoders": [
            {
                "name": contender.name,
                "role": contender.role,
                "label": contender.label,
                "settings": contender.settings,
                "build": contender.build,
                "strength": contender.strength,
                "points": [_plain(point) for point in contender.points],
            }
            for contender in contenders
        ],
        "series": series,
        "summary": _summary(series, contenders[1:], _deltas(metrics)),
    }


def _timing(measured: Sequence[Measurement]) -> str:
    if not all(measurement.alone for measurement in measured):
        return "loaded"
    return "alone" if len({measurement.run for measurement in measured}) == 1 else "mixed"


def _series(outcome: Outcome, contenders: Sequence[Contender], metrics: Sequence[str]) -> Json:
    record: Json = {
        "name": outcome.name,
        "slices": None,
        "width": None,
        "height": None,
        "window": None,
        "left_out": None,
        "error": outcome.error,
        "curves": {},
        "bd": {},
        "speed": {},
    }
    clip = outcome.clip
    if clip is None:
        return record
    curves = {
        contender.name: [
            _point(point, outcome.measured[contender.name, point], clip, metrics)
            for point in contender.points
        ]
        for contender in contenders
    }
    reference, *others = (contender.name for contender in contenders)
    return {
        **record,
        "slices": clip.slices,
        "width": clip.columns,
        "height": clip.rows,
        "window": {"center": clip.window.center, "width": clip.window.width},
        "left_out": clip.left_out,
        "curves": curves,
        "bd": {
            name: {
                delta: _bd(curves[reference], curves[name], delta, f"{outcome.name}: {name}")
                for delta in _deltas(metrics)
            }
            for name in others
        },
        "speed": {name: _speed(curves[reference], curve) for name, curve in curves.items()},
    }


def _point(point: float, measurement: Measurement, clip: ClipFacts, metrics: Sequence[str]) -> Json:
    per_slice = {metric: list(measurement.per_slice[metric]) for metric in metrics}
    return {
        "point": _plain(point),
        "kbps": measurement.kbps(clip.fps, clip.slices),
        "bytes": measurement.bytes,
        "seconds": measurement.seconds,
        "quality": {
            metric: {"mean": math.fsum(values) / clip.slices, "min": min(values)}
            for metric, values in per_slice.items()
        },
        "per_slice": per_slice,
    }


def _speed(reference: Sequence[Json], curve: Sequence[Json]) -> float:
    ratios: list[float] = [
        first["seconds"] / second["seconds"] for first, second in zip(reference, curve, strict=True)
    ]
    return statistics.median(ratios)


def _deltas(metrics: Sequence[str]) -> list[str]:
    """Return what curves are compared by: the metrics, and SSIM in dB too."""
    return [*metrics, *(["ssim_db"] if "ssim" in metrics else [])]


def _bd(reference: Sequence[Json], test: Sequence[Json], delta: str, what: str) -> Json:
    with _logged_as(f"{what}, {delta}"):
        anchor, other = _curve(reference, delta), _curve(test, delta)
        result: BDResult = bjontegaard(anchor, other)
    return {
        "rate_percent": _finite(result.rate_percent),
        "rate_kbps": _finite(rate_difference(anchor, other)),
        "quality": _finite(result.quality),
        "overlap": _finite(result.overlap_quality),
        "reason": result.reason,
        "warnings": list(result.warnings),
    }


def _curve(points: Sequence[Json], delta: str) -> RateQuality:
    metric = "ssim" if delta == "ssim_db" else delta
    qualities = [point["quality"][metric]["mean"] for point in points]
    if delta == "ssim_db":
        qualities = [float(ssim_db(quality)) for quality in qualities]
    return RateQuality([point["kbps"] for point in points], qualities)


@contextmanager
def _logged_as(what: str) -> Iterator[None]:
    """Put what is compared before messages, and leave them to those who asked for more.

    The report holds them all, and there are too many for a terminal.
    """

    def name_it(record: logging.LogRecord) -> bool:
        record.msg = f"{what}: {record.msg}"
        record.levelno, record.levelname = logging.INFO, "INFO"
        return logger.isEnabledFor(logging.INFO)

    logger.addFilter(name_it)
    try:
        yield
    finally:
        logger.removeFilter(name_it)


def _summary(series: Sequence[Json], others: Sequence[Contender], deltas: Sequence[str]) -> Json:
    compared = [record for record in series if record["error"] is None]
    summary: Json = {}
    for contender in others:
        bd = [record["bd"][contender.name] for record in compared]
        summary[contender.name] = {
            **{
                delta: {
                    **_summarized([one[delta]["rate_percent"] for one in bd], False),
                    "kbps": _summarized([one[delta]["rate_kbps"] for one in bd], False),
                    "quality": _summarized([one[delta]["quality"] for one in bd], True),
                }
                for delta in deltas
            },
            "speed": statistics.geometric_mean(
                record["speed"][contender.name] for record in compared
            ),
        }
    return summary


def _summarized(values: Sequence[float | None], larger_is_better: bool) -> Json:
    summary = summarize(
        [math.nan if value is None else value for value in values],
        larger_is_better=larger_is_better,
    )
    numbers = ("mean", "median", "worst", "low", "high")
    return {
        **{name: _finite(getattr(summary, name)) for name in numbers},
        "count": summary.count,
        "excluded": summary.excluded,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(point: float) -> float | int:
    return int(point) if point == int(point) else point


def rd_points_csv(report: Json) -> str:
    """Return all points of all curves as a table with one line per encode."""
    metrics = report["metrics"]
    roles = {encoder["name"]: encoder["role"] for encoder in report["encoders"]}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    qualities = [f"{metric}_{which}" for metric in metrics for which in ("mean", "min")]
    table.writerow(["series", "encoder", "role", "point", "kbps", "bytes", "seconds", *qualities])
    for series in report["series"]:
        for name, curve in series["curves"].items():
            for point in curve:
                table.writerow(
                    [
                        series["name"],
                        name,
                        roles[name],
                        *(point[key] for key in ("point", "kbps", "bytes", "seconds")),
                        *(point["quality"][m][w] for m in metrics for w in ("mean", "min")),
                    ]
                )
    return text.getvalue()


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Check that a report may be written to a folder, before any work is done for it.

    Raises
    ------
    InputError
        If its parent is missing or unwritable, or the folder holds something already.
    """
    if not folder.parent.is_dir():
        raise InputError(f"{folder.parent}: no such folder: create it first")
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder}: is no folder: name another")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{folder}: is not empty: use --overwrite or another name")
    target = folder if folder.is_dir() else folder.parent
    if not os.access(target, os.W_OK | os.X_OK):
        raise InputError(f"{target}: cannot write to this folder")


@contextmanager
def report_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a new folder for the report's files; they get to ``folder`` if the block succeeds.

    A new folder appears whole. In one that exists, each file is replaced whole and others stay.

    Raises
    ------
    InputError
        As :func:`check_folder`.
    OSError
        If writing fails.
    """
    check_folder(folder, overwrite=overwrite)
    parent = folder.parent
    with tempfile.TemporaryDirectory(prefix=".ssimrdo-", suffix=".partial", dir=parent) as name:
        # The folder inside has ordinary permissions; the temporary one is private.
        staged = Path(name) / "report"
        staged.mkdir()
        yield staged
        check_folder(folder, overwrite=overwrite)
        if not folder.exists():
            staged.rename(folder)
            return
        for path in sorted(staged.iterdir()):
            path.replace(folder / path.name)


def write_report(report: Json, folder: Path) -> None:
    """Write ``report.json`` and ``rd_points.csv`` into an existing folder."""
    (folder / JSON_NAME).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    (folder / CSV_NAME).write_text(rd_points_csv(report))
