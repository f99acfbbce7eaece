"""``ssimrdo encode``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ssimrdo.cli.options import (
    encode_options,
    encode_settings,
    json_option,
    overwrite_option,
    series_uid_option,
    skip_bad_option,
    verbose_option,
)
from ssimrdo.cli.progress import slice_progress

if TYPE_CHECKING:
    from ssimrdo.encoding import EncodeResult, SearchInfo


@click.command(
    epilog="Example: ssimrdo encode ct-series/ -o chest.mp4 --crf 20 --window lung --json"
)
@click.argument("series", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="OUT",
    help="File to write: .mp4, .mkv or .h264; OUT.json gets settings and results.",
)
@encode_options
@series_uid_option
@skip_bad_option
@overwrite_option
@json_option
@verbose_option
def encode(
    series: str,
    output: str,
    series_uid: str | None,
    skip_bad: bool,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Encode the CT series in the folder SERIES to H.264.

    The folder is searched recursively; slices are ordered by their position in the patient.
    """
    settings = encode_settings(**options)
    if not series:
        raise click.UsageError("SERIES is empty")

    from ssimrdo.encoding import encode as encode_series

    with slice_progress("encoding") as advance:
        result = encode_series(
            series,
            output,
            settings,
            series_uid=series_uid,
            skip_bad=skip_bad,
            overwrite=overwrite,
            progress=advance,
        )
    click.echo(json.dumps(result.as_dict()) if as_json else _text(result))


def _text(result: EncodeResult) -> str:
    lines = [
        f"{result.output}: {result.frames} slices, {result.width}x{result.height}, "
        f"{result.bit_depth} bit, window {result.window.center:g}/{result.window.width:g} HU",
        f"  size      {result.bytes / 1000:.1f} kB, {result.kbps:.1f} kbit/s",
        f"  SSIM      mean {result.ssim.mean:.5f}, worst slice {result.ssim.min:.5f}",
        f"  weighted  mean {result.weighted_ssim.mean:.5f}, "
        f"worst slice {result.weighted_ssim.min:.5f}",
        f"  PSNR      mean {result.psnr.mean:.2f} dB, worst slice {result.psnr.min:.2f} dB",
        f"  time      {result.seconds.total:.1f} s, "
        f"{result.frames / result.seconds.total:.1f} slices/s",
    ]
    if result.search:
        lines.append(f"  search    {_found(result.search)}")
    if result.skipped:
        lines.append(f"  left out  {len(result.skipped)} files; --json lists them")
    return "\n".join(lines)


def _found(search: SearchInfo) -> str:
    encodes = f"{search.encodes} encodes"
    if not search.raised_slices:
        return f"CRF {search.crf:g} for all slices, {encodes}"
    return (
        f"CRF {search.crf:g} with {search.raised_slices} slices raised: {search.saved_percent:.1f} "
        f"% less than CRF {search.plain_crf:g} for all, {encodes}"
    )
