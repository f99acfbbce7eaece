"""Encode one CT series with stock x264 and with ssimrdo, and print what came out as a table."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from pathlib import Path

from ssimrdo import EncodeResult, EncodeSettings, InputError, SsimrdoError, encode
from ssimrdo.metrics.tissue import Area

AREAS = {"edges": Area.EDGE, "small dense": Area.DENSE, "flat": Area.FLAT}
HEADINGS = ("encoder", "kB", "mean SSIM", "worst slice", *AREAS, "file")
RATE_TOLERANCE = 0.005
RATE_TRIES = 4


def encode_all(series: Path, folder: Path) -> list[tuple[str, EncodeResult]]:
    """Return the name and the result of every encode; their files go to ``folder``."""

    def run(label: str, name: str, settings: EncodeSettings) -> EncodeResult:
        print(f"demo: encoding with {label}", file=sys.stderr)
        return encode(series, folder / name, settings, overwrite=True)

    def run_at_rate(label: str, name: str, kbps: float) -> EncodeResult:
        asked = kbps
        for _ in range(RATE_TRIES):
            result = run(label, name, EncodeSettings.of(bitrate_kbps=asked))
            # x264 may miss the rate of a short series by a few percent: aim off by as much.
            if abs(result.kbps / kbps - 1) <= RATE_TOLERANCE:
                break
            asked *= kbps / result.kbps
        return result

    stock = run("stock x264", "stock.mp4", EncodeSettings.of(rdo="off"))
    same_crf = run("ssimrdo, same CRF", "ssimrdo-same-crf.mp4", EncodeSettings())
    same_rate = run_at_rate("ssimrdo, same bit rate", "ssimrdo-same-rate.mp4", stock.kbps)
    return [
        ("stock x264", stock),
        ("ssimrdo, same CRF", same_crf),
        ("ssimrdo, same bit rate", same_rate),
    ]


def table(encodes: list[tuple[str, EncodeResult]]) -> str:
    """Return one aligned line per encode, below the headings."""
    rows = [HEADINGS] + [
        (
            label,
            f"{result.bytes / 1000:.0f}",
            f"{result.ssim.mean:.4f}",
            f"{result.ssim.worst:.4f}",
            *(_rmse(result, area) for area in AREAS.values()),
            Path(result.output).name,
        )
        for label, result in encodes
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    # Text to the left, numbers to the right.
    sides = "<" + ">" * (len(HEADINGS) - 2) + "<"
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _rmse(result: EncodeResult, area: Area) -> str:
    errors = result.tissue.errors[area] if result.tissue else None
    return "-" if errors is None else f"{errors.rmse:.1f}"


def headline(stock: EncodeResult, same_crf: EncodeResult) -> str:
    """Return in a sentence what one CRF gives with both encoders."""
    saved = 1 - same_crf.bytes / stock.bytes
    size = f"{abs(saved):.1%} {'smaller' if saved >= 0 else 'larger'}"
    gained = same_crf.ssim.mean - stock.ssim.mean
    unit = same_crf.tissue.unit if same_crf.tissue else "HU"
    return (
        f"Same CRF: mean SSIM {stock.ssim.mean:.4f} → {same_crf.ssim.mean:.4f} ({gained:+.4f}), "
        f"{size}. Edges, small dense structures and flat tissue: error in {unit} (RMSE)."
    )


def main() -> int:
    """Run the demo on the series named by the first argument and return the exit status."""
    logging.basicConfig(format="demo: %(message)s")
    # pydicom quotes the header values it complains about, and these may name a patient.
    logging.getLogger("pydicom").propagate = False
    series = Path(sys.argv[1])
    folder = Path(tempfile.mkdtemp(prefix="ssimrdo-demo."))
    finished = False
    try:
        encodes = encode_all(series, folder)
        finished = True
    except (SsimrdoError, OSError) as error:
        print(f"demo: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 130
    finally:
        if not finished:
            shutil.rmtree(folder)
    print(headline(encodes[0][1], encodes[1][1]))
    print()
    print(table(encodes))
    print(f"\nFiles, each with its settings and results as JSON, are in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
