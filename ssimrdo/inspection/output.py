"""An inspection as a file, PNG or HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ssimrdo.encoding.encode import check_not_input
from ssimrdo.errors import InputError
from ssimrdo.extras import require
from ssimrdo.files import check_free, write_whole
from ssimrdo.inspection.inspect import Inspection

SUFFIXES: Final = (".png", ".html")


def write_inspection(
    inspection: Inspection, output: Path | str, *, overwrite: bool = False
) -> None:
    """Write the maps as PNG or HTML, whole or not at all.

    Raises
    ------
    InputError
        If the suffix is neither ``.png`` nor ``.html``, the file exists and may not be replaced or
        is DICOM, or what pages and figures are made with is not installed.
    OSError
        If writing fails, such as on a full disk.
    """
    path = Path(output)
    check_output(path, overwrite=overwrite)
    check_not_input([path], inspection.inputs)
    write_whole(path, _data(inspection, path), overwrite=overwrite)


def check_output(output: Path, *, overwrite: bool) -> None:
    """Check the output before anything is computed; errors as :func:`write_inspection`."""
    if output.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{output}: the suffix tells the kind", remedy=f"use one of {', '.join(SUFFIXES)}"
        )
    check_free(output, overwrite=overwrite)
    check_not_input([output], [])
    require("matplotlib", *(() if _is_png(output) else ("jinja2",)), what=f"{output}")


def _data(inspection: Inspection, path: Path) -> bytes:
    if _is_png(path):
        from ssimrdo.inspection.figure import figure_png

        return figure_png(inspection)
    from ssimrdo.inspection.page import page

    return page(inspection).encode()


def _is_png(output: Path) -> bool:
    return output.suffix.lower() == ".png"
