"""A measurement as files: tables, a page, and folders of maps."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ssimrdo.encoding.encode import check_not_input
from ssimrdo.errors import InputError
from ssimrdo.extras import require
from ssimrdo.files import check_folder_free, check_free, whole_folder, write_whole
from ssimrdo.measurement.loop import MeasuredSlice, chosen, run
from ssimrdo.measurement.results import Measurement
from ssimrdo.measurement.scale import CommonScale
from ssimrdo.measurement.sides import Side, SideLike
from ssimrdo.text import table_cell

if TYPE_CHECKING:
    from ssimrdo.measurement.page import WorstSlice

SUFFIXES: Final = (".csv", ".html")


def measure_to_files(
    reference: SideLike,
    distorted: SideLike,
    indices: Sequence[str] | str | None = None,
    *,
    outputs: Sequence[Path | str] = (),
    map_folder: Path | str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Measurement:
    """Measure, and write tables, pages and maps, each whole or not at all.

    Parameters
    ----------
    reference, distorted, indices
        As for :func:`ssimrdo.measurement.measure`.
    outputs : sequence of Path or str
        Files to write: ``.csv`` has a line for each slice, ``.html`` is a page that loads nothing
        from elsewhere, with pictures of the worst slice.
    map_folder : Path or str, optional
        Folder for the map of every index that has one in every slice, as ``INDEX_NUMBER.png``.
    overwrite : bool
        Replace files that exist.
    options
        The others of :func:`ssimrdo.measurement.measure`.

    Raises
    ------
    InputError
        As :func:`ssimrdo.measurement.measure`, and if an output cannot be written or would replace
        something.
    OSError
        If writing fails, such as on a full disk.
    """
    paths = [Path(one) for one in outputs]
    folder = None if map_folder is None else Path(map_folder)
    check_outputs(paths, folder, overwrite=overwrite)
    if folder is not None and not any(index.map for index in chosen(indices)):
        raise InputError(
            "none of the indices has a map", field="map", remedy="choose other {indices}"
        )

    def check(ours: Side, theirs: Side) -> None:
        _check_apart(paths, folder, [*ours.inputs, *theirs.inputs])
        check_not_input(paths, [])

    worst = None
    takers: list[Callable[[MeasuredSlice, CommonScale], None]] = []
    if any(path.suffix.lower() == ".html" for path in paths):
        from ssimrdo.measurement.page import WorstSlice

        worst = WorstSlice()
        takers.append(worst.take)

    def take(measured: MeasuredSlice, scale: CommonScale) -> None:
        for one in takers:
            one(measured, scale)

    with ExitStack() as stack:
        if folder is not None:
            staged = stack.enter_context(whole_folder(folder, overwrite=overwrite))
            takers.append(_map_writer(staged))
        found = run(
            reference,
            distorted,
            indices,
            maps=folder is not None,
            on_slice=take,
            on_open=check,
            **options,
        )
        for path in paths:
            write_whole(path, _data(found, path, worst), overwrite=overwrite)
    return found


def check_outputs(paths: Sequence[Path], folder: Path | None, *, overwrite: bool) -> None:
    """Check the outputs before anything is measured; errors as :func:`measure_to_files`."""
    for path in paths:
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"{path}: the suffix tells the kind", remedy=f"use one of {', '.join(SUFFIXES)}"
            )
        check_free(path, overwrite=overwrite)
        if path.suffix.lower() == ".html":
            require("jinja2", "matplotlib", what=f"{path}")
    if len({path.absolute() for path in paths}) < len(paths):
        raise InputError("two outputs have one name", field="output")
    if folder is not None:
        check_folder_free(folder, overwrite=overwrite)
        require("matplotlib", what=f"{folder}")


def measurement_csv(measurement: Measurement) -> str:
    """Return a table with a line for each slice, failed ones too."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    heads = list(measurement.slices[0].as_dict())
    table.writerow([*heads, "failed_side", "reason"])
    lines = {row.number: [*row.as_dict().values(), None, None] for row in measurement.slices}
    blank = [None] * (len(heads) - 1)
    for one in measurement.failures:
        lines[one.number] = [one.number, *blank, one.side, table_cell(one.reason)]
    table.writerows(lines[number] for number in sorted(lines))
    return text.getvalue()


def write_measurement(
    measurement: Measurement, output: Path | str, *, overwrite: bool = False
) -> None:
    """Write a measurement as CSV or, without pictures, as a page; see :func:`measure_to_files`."""
    path = Path(output)
    check_outputs([path], None, overwrite=overwrite)
    write_whole(path, _data(measurement, path, None), overwrite=overwrite)


def _data(measurement: Measurement, path: Path, worst: WorstSlice | None) -> bytes:
    if path.suffix.lower() == ".csv":
        return measurement_csv(measurement).encode()
    from ssimrdo.measurement.page import page

    return page(measurement, worst).encode()


def _map_writer(folder: Path) -> Callable[[MeasuredSlice, CommonScale], None]:
    from ssimrdo.measurement.maps import map_png

    def write(measured: MeasuredSlice, scale: CommonScale) -> None:
        for name in measured.maps:
            path = folder / f"{name}_{measured.row.number:04d}.png"
            path.write_bytes(map_png(name, measured, scale))

    return write


def _check_apart(paths: Sequence[Path], folder: Path | None, inputs: Sequence[Path]) -> None:
    parents = {one.parent.resolve() for one in inputs}
    if folder is not None and folder.resolve() in parents:
        raise InputError(f"{folder}: holds what is measured", remedy="use another folder")
    for path in paths:
        if path.exists() and any(one.exists() and path.samefile(one) for one in inputs):
            raise InputError(f"{path}: is one of the inputs", remedy="use another name")
