"""``ssimrdo list``: what a folder holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from ssimrdo.cli.options import json_option
from ssimrdo.cli.terminal import aligned, show
from ssimrdo.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssimrdo.record.listing import Listing, Row


@click.command("list", epilog="Example: ssimrdo list ct-folder/; then encode --series 2")
@click.argument("series", metavar="FOLDER", type=click.Path())
@click.option(
    "--identity", is_flag=True, help="Show patient, study and series as the headers name them."
)
@json_option
def list_(series: str, identity: bool, as_json: bool) -> None:
    """List the CT series in FOLDER, and what is left out and why.

    The numbers are what --series of other commands takes. Only headers are read, and nothing
    about the patient is shown unless you ask for it.
    """
    if not series:
        raise click.UsageError("FOLDER is empty")

    from ssimrdo.record.listing import list_series

    listing = list_series(series, identity=identity)
    show(json.dumps(listing.as_dict()) if as_json else listing_text(listing))
    if not listing.rows:
        raise InputError("there is no CT series here", remedy="give the folder of one")


def listing_text(listing: Listing) -> str:
    """Return the list for people: a table, and what is left out."""
    lines = aligned([_HEADS, *map(_cells, listing.rows)]) if listing.rows else []
    for row in listing.rows:
        lines += [f"{row.number}: {note}" for note in _notes(row)]
    lines += _left_out("left out", listing.left_out)
    lines += _left_out("damaged", listing.damaged)
    return "\n".join(lines)


_HEADS: Final = (
    *("no", "slices", "size", "pixel mm", "step mm", "missing", "plane", "kernel", "window"),
    *("transfer syntax", "phase"),
)


def _cells(row: Row) -> tuple[str, ...]:
    spacing, step = row.pixel_spacing_mm, row.spacing
    pixel = "?" if spacing is None else f"{spacing[0]:.4g} x {spacing[1]:.4g}"
    uneven = "" if step.uneven == 0 else f" ({step.smallest_mm:.4g} to {step.largest_mm:.4g})"
    slant = f", tilt {row.slant_degrees:.4g}°" if row.slant_degrees else ""
    window = "none" if row.window is None else str(row.window).removesuffix(" HU")
    more = f" and {len(row.windows) - 1} more" if len(row.windows) > 1 else ""
    return (
        str(row.number),
        str(row.slices),
        f"{row.columns} x {row.rows}",
        pixel,
        "?" if step.step_mm is None else f"{step.step_mm:.4g}{uneven}",
        str(step.missing or ""),
        f"{row.plane}{slant}",
        row.kernel or "?",
        f"{window}{more}",
        ", ".join(row.syntaxes),
        row.phase,
    )


def _notes(row: Row) -> list[str]:
    """Return what a table has no room for."""
    notes = list(row.spacing.texts().values())
    if row.problem:
        notes.append(f"cannot be encoded: {row.problem}")
    if row.damaged:
        files = "file is" if row.damaged == 1 else "files are"
        notes.append(f"{row.damaged} of its {files} damaged")
    if row.spacing.repeated:
        lie = "slice lies" if row.spacing.repeated == 1 else "slices lie"
        notes.append(f"{row.spacing.repeated} {lie} where another lies")
    return [*notes, *(f"{keyword} {text}" for keyword, text in row.identity.items())]


def _left_out(title: str, reasons: Mapping[str, int]) -> list[str]:
    return [f"{title}: {count} x {reason}" for reason, count in reasons.items()]
