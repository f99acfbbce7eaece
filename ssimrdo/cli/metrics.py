"""``ssimrdo metrics``: measure slices against those that they were made from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ssimrdo.cli.options import (
    ChoiceOption,
    encode_option,
    index_names,
    json_option,
    overwrite_option,
    series_uid_option,
    value_of,
    verbose_option,
)
from ssimrdo.cli.progress import progress, tell_window
from ssimrdo.cli.terminal import show, tell
from ssimrdo.text import counted

if TYPE_CHECKING:
    from ssimrdo.measurement import Measurement
    from ssimrdo.record.summary import SliceSummary

EXIT_SOME_FAILED = 3

_EPILOG = """\b
Examples:
  ssimrdo metrics ct-series/ chest.mp4
  ssimrdo metrics ct-series/ chest.mp4 --all -o chest.html --map maps/
  ssimrdo metrics original/ denoised/ --window lung --roi body --metric ssim --metric gmsd
"""


@click.command(epilog=_EPILOG)
@click.argument("reference", type=click.Path())
@click.argument("distorted", type=click.Path())
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(),
    metavar="CSV|HTML",
    help="File to write: .csv with a line for each slice, or .html; repeatable.",
)
@click.option(
    "--map",
    "map_folder",
    type=click.Path(),
    metavar="FOLDER",
    help="Folder for the maps of the indices as PNG with colour bars.",
)
@click.option(
    "--metric",
    "indices",
    cls=ChoiceOption,
    names=index_names,
    unshown=("--index",),
    multiple=True,
    metavar="NAME",
    help="Quality index to measure, one of {names}; repeatable. [default: a few]",
)
@click.option("--all", "all_indices", is_flag=True, help="Measure all indices.")
@encode_option("window")
@click.option(
    "--data-range",
    type=float,
    metavar="L",
    help="Largest luma of videos and pictures, such as 4095 for 12 bits in 16. For two series, in "
    "place of a window: HU from -1024 to L - 1024.",
)
@click.option(
    "--roi",
    metavar="body|MASK.png|X,Y,W,H",
    help="Measure inside the body, where a picture is not black, or in a rectangle.",
)
@click.option(
    "--match",
    cls=ChoiceOption,
    default="auto",
    show_default=True,
    metavar="auto|position|order",
    help="What slices are matched by: their position where both sides tell it, else their order.",
)
@click.option(
    "--video-range",
    cls=ChoiceOption,
    default="auto",
    show_default=True,
    metavar="auto|full|limited",
    help="Whether luma of videos runs from 0 to 255 or from 16 to 235; as the video says.",
)
@series_uid_option
@click.option(
    "--skip-bad", is_flag=True, help="Name slices that cannot be used, and go on without them."
)
@overwrite_option
@json_option
@verbose_option
def metrics(
    reference: str,
    distorted: str,
    outputs: tuple[str, ...],
    map_folder: str | None,
    indices: tuple[str, ...],
    all_indices: bool,
    window: str | None,
    data_range: float | None,
    roi: str | None,
    match: str,
    video_range: str,
    series_uid: str | None,
    skip_bad: bool,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Measure DISTORTED against REFERENCE, slice by slice.

    Each is a DICOM series (in a folder, DICOMDIR, zip or tar), a NIfTI or NumPy volume, a video
    that FFmpeg reads, or a folder of grey pictures. HU are shown through the window: that of
    --window, else that of a video's record, else the header's. Errors
    are given tissue by tissue, in HU where both sides allow it. Warnings point out where SSIM looks
    safe and something else does not. Exit status 3: some slices could not be measured.
    """
    if "" in (reference, distorted, map_folder, *outputs):
        raise click.UsageError("a path is empty")
    if all_indices and indices:
        raise click.UsageError("--all and --metric exclude each other: give one")

    from ssimrdo.measurement.output import measure_to_files

    with progress("measuring") as observer:
        found = measure_to_files(
            reference,
            distorted,
            "all" if all_indices else indices or None,
            outputs=outputs,
            map_folder=map_folder,
            overwrite=overwrite,
            window=None if window is None else value_of("window", window),
            data_range=data_range,
            roi=roi,
            match=match,
            video_range=video_range,
            series_uid=series_uid,
            skip_bad=skip_bad,
            observer=observer,
        )
    tell_window(found.window, found.window_source)
    for note in found.notes:
        tell(note)
    for caution in found.warnings:
        tell(caution.text)
    if as_json:
        written = {"output": list(outputs), "maps": map_folder}
        show(json.dumps({**written, **found.to_dict()}, allow_nan=False))
    else:
        show(_text(found))
    return EXIT_SOME_FAILED if found.failures else 0


def _text(found: Measurement) -> str:
    from ssimrdo.measurement.results import columns_of, decimals_of, title_of, unit_of

    columns = list(columns_of(found))
    digits = [decimals_of(name) for name in columns]
    sizes = [max(len(name), 9) for name in columns]
    heads = (f"{name:>{size}}" for name, size in zip(columns, sizes, strict=True))
    lines = [
        f"{found.distorted} against {found.reference}: "
        f"{counted(len(found.slices), 'slice')} of {found.columns}x{found.rows}, "
        f"matched by {found.matched_by}",
        "  ".join(["slice", *heads]),
    ]
    rows = {}
    for row in found.slices:
        values = {**row.values, "rmse": row.rmse, "largest_error": row.max_error}
        cells = (
            f"{_number(values[name], places):>{size}}"
            for name, places, size in zip(columns, digits, sizes, strict=True)
        )
        rows[row.number] = "  ".join([f"{row.number:5}", *cells])
    for one in found.failures:
        rows[one.number] = f"{one.number:5}  {one.side}: {one.reason}"
    lines += [rows[number] for number in sorted(rows)]
    inside = f" inside {found.region}" if found.region else ""
    titles = {
        name: f"{title_of(name)}{f' ({unit})' if (unit := unit_of(name, found.unit)) else ''}"
        f"{' *' if name in found.boxed else ''}"
        for name in columns
    }
    width = max(map(len, titles.values()))
    lines.append(f"{f'over the slices{inside}':{width}}      mean     worst  in slice    5th pct")
    for name, places in zip(columns, digits, strict=True):
        lines.append(_summary_line(titles[name], width, found.summary[name], places))
    if found.boxed:
        lines.append("* of the smallest rectangle around the region")
    return "\n".join([*lines, *_tissue_lines(found)])


def _summary_line(title: str, width: int, one: SliceSummary | None, places: int) -> str:
    if one is None:
        return f"{title:{width}} {'-':>9}"
    return (
        f"{title:{width}} {_number(one.mean, places):>9} {_number(one.worst, places):>9} "
        f"{one.worst_number:9} {_number(one.p5, places):>10}"
    )


def _tissue_lines(found: Measurement) -> list[str]:
    from ssimrdo.record.tissue import AREA_NAMES

    if found.tissue is None:
        return []
    width = max(map(len, AREA_NAMES.values()))
    lines = [
        f"{f'errors ({found.unit})':{width}}      RMSE      bias      99 %   largest  PSNR (dB)"
    ]
    for area, errors in found.tissue.errors.items():
        if errors is None:
            continue
        numbers = (errors.rmse, errors.bias, errors.p99, errors.maximum)
        cells = " ".join(f"{number:9.1f}" for number in numbers)
        lines.append(f"{AREA_NAMES[area]:{width}} {cells} {found.tissue.psnr(area):10.2f}")
    kept = found.tissue.noise_kept
    if kept is not None:
        lines.append(f"noise kept in flat soft tissue: {100 * kept:.0f} %")
    return lines


def _number(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:.{places}f}"
