"""``ssimrdo inspect``: show what the objective makes of one slice."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ssimrdo.cli.options import (
    encode_option,
    json_option,
    overwrite_option,
    series_uid_option,
    skip_bad_option,
    value_of,
    verbose_option,
)
from ssimrdo.cli.progress import tell_window
from ssimrdo.cli.terminal import show


@click.command(epilog="Example: ssimrdo inspect ct-series/ -o maps.png --slice 40 --window lung")
@click.argument("series", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="PNG|HTML",
    help="File to write: .png, or .html with the values of every macroblock.",
)
@click.option(
    "--slice", "number", type=int, metavar="N", help="Which slice, from 1. [default: the middle]"
)
@click.option(
    "--encode",
    type=click.Path(),
    metavar="VIDEO",
    help="An encode of the series: shows its errors in this slice, by tissue.",
)
@encode_option("window")
@encode_option("bit_depth")
@click.option("--rdo", metavar="NAME", help="Objective whose maps are drawn. [default: ssim]")
@encode_option("rdo_strength")
@series_uid_option
@skip_bad_option
@overwrite_option
@json_option
@verbose_option
def inspect(
    series: str,
    output: str,
    number: int | None,
    encode: str | None,
    window: str | None,
    bit_depth: str | None,
    rdo: str | None,
    rdo_strength: str | None,
    series_uid: str | None,
    skip_bad: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Draw σ² and ΔQP of one slice of SERIES: a folder, DICOMDIR, archive, or NIfTI or NumPy file.

    σ² is the variance of a macroblock in squared luma units, and ΔQP the offset in QP steps; a page
    has θ, the slope of the objective's distortion, such as 1/SSIM, over the mean squared error, and
    λ_i/λ, the ratio of Lagrange multipliers, as well. Below them are the classes of tissue
    for which errors are given separately. With an encode its errors and its quantizers are shown.
    """
    if not series:
        raise click.UsageError("SERIES is empty")

    from ssimrdo.inspection import check_output, inspect_slice, write_inspection
    from ssimrdo.metrics.tissue import Area

    path = Path(output)
    check_output(path, overwrite=overwrite)
    inspection = inspect_slice(
        series,
        number=number,
        window=value_of("window", window),
        bit_depth=None if bit_depth is None else value_of("bit_depth", bit_depth),
        rdo=value_of("rdo", rdo),
        rdo_strength=value_of("rdo_strength", rdo_strength),
        series_uid=series_uid,
        skip_bad=skip_bad,
        encode=encode,
    )
    write_inspection(inspection, path, overwrite=overwrite)
    offsets, tissue = inspection.maps.qp_offset, inspection.tissue
    assert tissue is not None, "it was asked for"
    tell_window(
        inspection.window,
        inspection.window_source,
        differing=len(inspection.header_windows) > 1,
    )
    fields = {
        "output": output,
        "slice": inspection.number,
        "slices": inspection.slices,
        "window": {"center": inspection.window.center, "width": inspection.window.width},
        "window_source": inspection.window_source,
        "rdo": inspection.objective,
        "qp_offset": {"min": float(offsets.min()), "max": float(offsets.max())},
        "classes": {area.value: int(tissue.mask(area).sum()) for area in Area},
        "tissue": inspection.errors and inspection.errors.as_dict(),
    }
    show(
        json.dumps(fields)
        if as_json
        else f"{output}: slice {inspection.number} of {inspection.slices}, "
        f"ΔQP {offsets.min():+.1f} to {offsets.max():+.1f}"
    )
