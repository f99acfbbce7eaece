"""Encode one CT series with stock x264 and with ssimrdo, and print what came out as tables."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ssimrdo import EncodeResult, EncodeSettings, InputError, SsimrdoError, encode
from ssimrdo.cli.progress import progress
from ssimrdo.metrics.tissue import Area

AREAS: Final = {"edges": Area.EDGE, "small dense": Area.DENSE, "flat": Area.FLAT}
CRF: Final = 23
FLOOR: Final = 0.95


@dataclass(frozen=True)
class Encodes:
    """What the demo encodes.

    Parameters
    ----------
    stock : EncodeResult
        x264 as it comes.
    same : EncodeResult
        The smallest file of ours whose mean SSIM is no lower.
    stock_floor, floor : EncodeResult
        The smallest files whose worst slice keeps :data:`FLOOR`; x264 has one CRF for all slices.
    """

    stock: EncodeResult
    same: EncodeResult
    stock_floor: EncodeResult
    floor: EncodeResult


def encode_all(series: Path, folder: Path) -> Encodes:
    """Return what comes of every encode; the files go to ``folder``."""

    def run(label: str, name: str, **options: Any) -> EncodeResult:
        print(f"demo: {label}", file=sys.stderr)
        with progress("encoding") as observer:
            return encode(
                series,
                folder / name,
                EncodeSettings.of(**options),
                overwrite=True,
                observer=observer,
            )

    stock = run(f"x264 at CRF {CRF}", "x264.mp4", rdo="off", crf=CRF)
    mean = stock.ssim.mean
    same = run(
        "ssimrdo, the smallest file of the same mean SSIM", "same.mp4", min_ssim=mean, over="mean"
    )
    floor = f"the smallest file whose worst slice keeps SSIM {FLOOR:g}"
    return Encodes(
        stock,
        same,
        run(f"x264, {floor}", "x264-floor.mp4", rdo="off", min_ssim=FLOOR),
        run(f"ssimrdo, {floor}", "floor.mp4", min_ssim=FLOOR),
    )


def row(label: str, result: EncodeResult, beside: int | None = None) -> tuple[str, ...]:
    """Return a row of a table: what an encode gave, and how its size compares with another's."""
    return (
        label,
        f"{result.bytes / 1000:.0f}",
        "" if beside is None else f"{100 * (result.bytes / beside - 1):+.1f} %",
        f"{result.ssim.mean:.4f}",
        f"{result.ssim.worst:.4f}",
        *(_rmse(result, area) for area in AREAS.values()),
        Path(result.output).name,
    )


def table(rows: list[tuple[str, ...]], unit: str) -> str:
    """Return one aligned line per encode, below the headings."""
    edges, *others = AREAS
    names = (f"{unit}: {edges}", *others)
    heads = ("", "kB", "", "mean SSIM", "worst slice", *names, "file")
    lines = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    # Text to the left, numbers to the right.
    sides = "<" + ">" * (len(heads) - 2) + "<"
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _rmse(result: EncodeResult, area: Area) -> str:
    errors = result.tissue.errors[area] if result.tissue else None
    return "-" if errors is None else f"{errors.rmse:.1f}"


def summary(found: Encodes) -> str:
    """Return both tables, and a sentence on what they mean."""
    stock, same, stock_floor, floor = found.stock, found.same, found.stock_floor, found.floor
    unit = same.tissue.unit if same.tissue else "HU"
    window = "" if same.window is None else f", window {same.window.center:g}/{same.window.width:g}"
    return "\n".join(
        [
            f"{same.frames} slices of {same.width}x{same.height}{window}; errors by tissue are "
            f"RMSE in {unit}.",
            "",
            f"The quality that x264 gives at CRF {CRF}:",
            table([row("x264", stock), row("ssimrdo", same, stock.bytes)], unit),
            "",
            f"The smallest file whose worst slice keeps SSIM {FLOOR:g}:",
            table(
                [
                    row("x264, one CRF for all slices", stock_floor),
                    row(f"ssimrdo --min-ssim {FLOOR:g}", floor, stock_floor.bytes),
                ],
                unit,
            ),
            "",
            meaning(found),
        ]
    )


def meaning(found: Encodes) -> str:
    """Return in a sentence what the tables mean."""
    saved = 1 - found.same.bytes / found.stock.bytes
    floor = 1 - found.floor.bytes / found.stock_floor.bytes
    return (
        f"In short: this series takes {_less(saved)} than with x264 at the same mean SSIM, and "
        f"{_less(floor)} where no slice may fall below SSIM {FLOOR:g}."
    )


def _less(saved: float) -> str:
    return f"{abs(100 * saved):.0f} % {'less' if saved >= 0 else 'more'} space"


def write_report(series: Path, folder: Path) -> Path:
    """Have the comparison write its report, and return the page."""
    print("demo: the report: four qualities with each encoder", file=sys.stderr)
    report = folder / "report"
    command = ["compare", str(series), "-o", str(report), "--cache-dir", str(folder / "cache")]
    subprocess.run(
        [sys.executable, "-m", "ssimrdo", *command], check=True, stdout=subprocess.DEVNULL
    )
    return report / "report.html"


def main() -> int:
    """Run the demo on the series named by the first argument and return the exit status."""
    logging.basicConfig(format="demo: %(message)s")
    # pydicom quotes the header values it complains about, and these may name a patient.
    logging.getLogger("pydicom").propagate = False
    series = Path(sys.argv[1])
    folder = Path(tempfile.mkdtemp(prefix="ssimrdo-demo."))
    finished = False
    try:
        print(summary(encode_all(series, folder)), flush=True)
        page = write_report(series, folder)
        finished = True
    except (SsimrdoError, OSError) as error:
        print(f"demo: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    except KeyboardInterrupt:
        return 130
    finally:
        if not finished:
            shutil.rmtree(folder)
    shutil.rmtree(folder / "cache")
    print(f"\nThe report, with curves and slices side by side: {page}")
    print(f"The videos, each with its settings and results as JSON: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
