"""The page of the laboratory: all experiments, loading nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ssimrdo
from ssimrdo.html.page import render_template
from ssimrdo.html.text import MISSING
from ssimrdo.lab.drawing import inline
from ssimrdo.lab.experiment import Cell, LabSettings, Panel, Table
from ssimrdo.lab.run import Result, file_of


def page(results: Sequence[Result], settings: LabSettings) -> str:
    """Return an HTML page with what experiments found."""
    return render_template(
        "ssimrdo.lab",
        "lab",
        experiments=[_section(result) for result in results],
        quick=settings.quick,
        seed=settings.seed,
        version=ssimrdo.__version__,
        indices=_indices(),
    )


def _indices() -> list[str]:
    from ssimrdo import metrics

    return [metrics.get(name).title for name in metrics.names()]


def _section(result: Result) -> dict[str, Any]:
    experiment, outcome = result.experiment, result.outcome
    name = experiment.name
    return {
        "name": name,
        "title": experiment.title,
        "source": experiment.source,
        "skipped": result.skipped,
        "seconds": f"{result.seconds:.0f}",
        "method": () if outcome is None else outcome.method,
        "reading": () if outcome is None else outcome.reading,
        "findings": () if outcome is None else outcome.findings,
        "panels": [] if outcome is None else [_panel(name, one) for one in outcome.panels],
        "tables": [] if outcome is None else [_table(name, one) for one in outcome.tables],
    }


def _panel(name: str, panel: Panel) -> dict[str, Any]:
    return {
        "caption": panel.caption,
        "wide": panel.wide,
        "svg": inline(panel.svg, f"{name}-{panel.name}"),
    }


def _table(name: str, table: Table) -> dict[str, Any]:
    return {
        "caption": table.caption,
        "file": file_of(name, table),
        "heads": table.heads,
        "rows": [[cell_text(cell, table.digits) for cell in row] for row in table.rows],
        "shown": table.shown,
    }


def cell_text(cell: Cell, digits: int) -> str:
    """Return a cell as text: numbers with significant digits and a true minus."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return MISSING
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return str(cell).replace("-", "\u2212")
    return rounded(float(cell), digits)


def rounded(value: float, digits: int) -> str:
    """Return a number with significant digits, never as a power of ten below a million."""
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 6 or size < -4:
        return f"{value:.{digits - 1}e}".replace("-", "\u2212")
    return f"{value:.{max(digits - 1 - size, 0)}f}".replace("-", "\u2212")
