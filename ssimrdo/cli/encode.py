"""``ssimrdo encode``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssimrdo.cli.options import (
    GroupedCommand,
    encode_options,
    encode_settings,
    json_option,
    max_hu_error_option,
    overwrite_option,
    series_uid_option,
    skip_bad_option,
    syntax_option,
    verbose_option,
)
from ssimrdo.cli.progress import progress, tell_window
from ssimrdo.cli.terminal import show
from ssimrdo.errors import InputError
from ssimrdo.text import counted, size_text

if TYPE_CHECKING:
    from ssimrdo.encoding.ct_series import CTResult
    from ssimrdo.metrics import QualityIndex
    from ssimrdo.record.result import EncodeResult, SearchInfo, WindowQuality
    from ssimrdo.record.summary import SliceSummary
    from ssimrdo.record.tissue import TissueSummary


_EPILOG = """\b
Examples:
  ssimrdo encode ct-series/ -o chest.mp4 --min-ssim 0.95
  ssimrdo encode ct-series/ -o lungs.mp4 --crf 20 --window lung
  ssimrdo encode ct-series/ -o small.mp4 --codec hevc --effort max
"""


@click.command(cls=GroupedCommand, epilog=_EPILOG)
@click.argument("series", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="OUT",
    help="File to write: .mp4, .mkv, .dcm or a raw stream (.h264, .hevc, .ivf, .obu); OUT.json "
    "gets settings and results. With --as ct a folder.",
)
@click.option(
    "--as",
    "kind",
    type=click.Choice(("video", "ct")),
    default="video",
    show_default=True,
    help="What to write: a video, or lossy CT images, which keep all HU and need ssimrdo[archive].",
)
@max_hu_error_option
@syntax_option
@encode_options
@click.option(
    "--template",
    type=click.Path(),
    metavar="SERIES",
    help="For DICOM output: the original series, from which patient and study are taken. "
    "[default: no patient]",
)
@series_uid_option
@skip_bad_option
@overwrite_option
@json_option
@verbose_option
def encode(
    series: str,
    output: str,
    kind: str,
    max_hu_error: str | None,
    syntax: str | None,
    template: str | None,
    series_uid: str | None,
    skip_bad: bool,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Encode the CT series in the folder SERIES to video.

    The folder is searched recursively; slices are ordered by their position in the patient.
    """
    if not series:
        raise click.UsageError("SERIES is empty")
    if kind == "ct":
        _encode_ct(
            (series, output),
            options,
            as_json,
            max_hu_error=max_hu_error,
            syntax=syntax,
            template=template,
            series_uid=series_uid,
            skip_bad=skip_bad,
            overwrite=overwrite,
        )
        return
    for name, value in (("max_hu_error", max_hu_error), ("syntax", syntax)):
        if value is not None:
            raise InputError("is for CT images", field=name, remedy="give --as ct, or leave it out")
    settings = encode_settings(options)

    from ssimrdo.encoding.encode import encode as encode_series
    from ssimrdo.record.sidecar import check_sidecar_free

    check_sidecar_free(Path(output))
    with progress("encoding") as observer:
        result = encode_series(
            series,
            output,
            settings,
            series_uid=series_uid,
            skip_bad=skip_bad,
            overwrite=overwrite,
            template=template,
            observer=observer,
        )
    tell_window(result.window, result.window_source, differing=len(result.header_windows) > 1)
    show(json.dumps(result.as_dict()) if as_json else result_text(result))


def _encode_ct(
    paths: tuple[str, str],
    options: dict[str, Any],
    as_json: bool,
    *,
    max_hu_error: str | None,
    syntax: str | None,
    **others: Any,
) -> None:
    from ssimrdo.encoding.ct_series import SYNTAX, ct_goal, encode_ct
    from ssimrdo.encoding.options import read_window

    window, strict = options.pop("window"), bool(options.pop("strict"))
    goal = ct_goal(options, max_hu_error)
    with progress("compressing") as observer:
        result = encode_ct(
            *paths,
            goal,
            window=read_window(window or "auto"),
            syntax=syntax or SYNTAX,
            strict=strict,
            observer=observer,
            **others,
        )
    show(json.dumps(result.as_dict()) if as_json else _ct_text(result))


def _ct_text(result: CTResult) -> str:
    from ssimrdo import metrics

    lines = [
        f"{result.output}: {counted(result.slices, 'slice')}, {result.columns}x{result.rows}, "
        f"{result.syntax}, quality in the window {result.window}",
        *(_quality(metrics.get(name), summary) for name, summary in result.quality.items()),
        f"  HU        RMSE {result.hu_rmse:.2f}, largest error {result.max_hu_error:.1f}",
        _errors(result.tissue),
        f"  time      {result.seconds:.1f} s, {result.slices / result.seconds:.1f} slices/s",
    ]
    if result.lossless_slices:
        lossless = counted(result.lossless_slices, "slice")
        lines.append(f"  lossless  {lossless}: nothing else was good enough")
    ratio = f"{result.ratio:.1f} times smaller than 16 bit"
    lines.append(f"  size      {result.bytes / 1000:.1f} kB, {ratio}")
    return "\n".join(lines)


def result_text(result: EncodeResult) -> str:
    """Return what people are told of an encode."""
    from ssimrdo import metrics

    window = result.window
    shown = "" if window is None else f", window {window.center:g}/{window.width:g} HU"
    lines = [
        f"{result.output}: {counted(result.frames, 'slice')}, {result.width}x{result.height}, "
        f"{result.bit_depth} bit{shown}",
        *(_quality(metrics.get(name), summary) for name, summary in result.quality.items()),
        f"  worst     slice {result.worst_slice + 1}",
        *([_errors(result.tissue)] if result.tissue else []),
        *(line for one in result.windows for line in _window_lines(one)),
        f"  time      {result.seconds.total:.1f} s, "
        f"{result.frames / result.seconds.total:.1f} slices/s",
    ]
    if result.search:
        lines.append(f"  search    {_found(result.search)}")
    if result.skipped:
        lines.append(f"  left out  {counted(len(result.skipped), 'file')}; --json lists them")
    return "\n".join([*lines, _size(result)])


def _size(result: EncodeResult) -> str:
    """Return the line that says it all: size, saving and quality."""
    missed, source = result.bitrate_error_percent, result.source_bytes
    off = "" if missed is None else f", {missed:+.1f} % beside the rate asked for"
    saving = ""
    if source is not None and source > result.bytes:
        saving = (
            f", {source / result.bytes:.3g} times smaller than the series ({size_text(source)})"
        )
    ssim = result.ssim
    return (
        f"  size      {result.bytes / 1000:.1f} kB, {result.kbps:.1f} kbit/s{off}{saving}; "
        f"SSIM {ssim.mean:.4f}, worst slice {ssim.worst:.4f}"
    )


def _quality(index: QualityIndex, summary: SliceSummary) -> str:
    digits, unit = index.decimals + (not index.unit), f" {index.unit}" if index.unit else ""
    title = index.title.split()[0].lower() if " " in index.title else index.title
    return (
        f"  {title:9} mean {summary.mean:.{digits}f}{unit}, "
        f"worst slice {summary.worst:.{digits}f}{unit}"
    )


def _window_lines(one: WindowQuality) -> tuple[str, ...]:
    from ssimrdo import metrics

    name = one.window.preset or str(one.window)
    return (
        f"  in the window {name}:",
        f"  {_quality(metrics.SSIM, one.quality[metrics.SSIM.name])}",
        f"  {_errors(one.tissue)}",
    )


def _errors(tissue: TissueSummary) -> str:
    from ssimrdo.record.tissue import AREA_NAMES

    shown = ", ".join(
        f"{AREA_NAMES[area]} {errors.rmse:.1f}" for area, errors in tissue.errors.items() if errors
    )
    return f"  RMSE      {shown} {tissue.unit}"


def _found(search: SearchInfo) -> str:
    encodes = counted(search.encodes, "encode")
    if not search.raised_slices:
        return f"CRF {search.crf:g} for all slices, {encodes}"
    return (
        f"CRF {search.crf:g}, {counted(search.raised_slices, 'slice')} finer: "
        f"{search.saved_percent:.1f} % less than CRF {search.plain_crf:g} for all, {encodes}"
    )
