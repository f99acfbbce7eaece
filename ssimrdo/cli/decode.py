"""``ssimrdo decode``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ssimrdo.cli.options import (
    ChoiceOption,
    json_option,
    overwrite_option,
    series_uid_option,
    verbose_option,
)
from ssimrdo.cli.progress import progress
from ssimrdo.cli.terminal import show
from ssimrdo.text import counted

if TYPE_CHECKING:
    from ssimrdo.decoding import DecodeResult
    from ssimrdo.record.tissue import TissueSummary


@click.command(epilog="Example: ssimrdo decode chest.mkv -o chest/ --template ct-series/")
@click.argument("video", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="FOLDER",
    help="Folder to write; it appears whole or not at all.",
)
@click.option(
    "--record",
    type=click.Path(),
    metavar="JSON",
    help="The sidecar. [default: what the video holds, else VIDEO.json beside it]",
)
@click.option(
    "--template",
    type=click.Path(),
    metavar="SERIES",
    help="The original series: patient and study are taken from it, and errors measured. "
    "[default: no patient]",
)
@series_uid_option
@click.option(
    "--syntax",
    cls=ChoiceOption,
    metavar="explicit|rle|jpegls|htj2k",
    default="explicit",
    help="Lossless compression of the files; htj2k needs ssimrdo[archive]. [default: explicit]",
)
@overwrite_option
@json_option
@verbose_option
def decode(
    video: str,
    output: str,
    record: str | None,
    template: str | None,
    series_uid: str | None,
    syntax: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make a CT series again from VIDEO, which ssimrdo encoded.

    VIDEO may be a DICOM object that holds one. The slices lie where the original's did; HU outside
    of the window are lost. They get new UIDs.
    """
    from ssimrdo.decoding import decode as decode_video

    with progress("decoding") as observer:
        result = decode_video(
            video,
            output,
            record=record,
            template=template,
            series_uid=series_uid,
            syntax=syntax,
            overwrite=overwrite,
            observer=observer,
        )
    show(json.dumps(result.as_dict()) if as_json else _text(result))


def _text(result: DecodeResult) -> str:
    lines = [
        f"{result.output}: {counted(result.slices, 'slice')}, {result.columns}x{result.rows}, "
        f"{result.syntax}, window {result.window}",
        f"  size      {result.bytes / 1e6:.1f} MB; the video is {result.ratio:.0f} times smaller "
        "than 16 bit",
        f"  patient   {'that of the template' if result.template else 'none'}",
    ]
    if result.tissue is not None:
        lines.append(_errors(result.tissue))
    lines.append(f"  time      {result.seconds:.1f} s")
    return "\n".join(lines)


def _errors(tissue: TissueSummary) -> str:
    from ssimrdo.record.tissue import AREA_NAMES

    shown = ", ".join(
        f"{AREA_NAMES[area]} {errors.rmse:.1f}" for area, errors in tissue.errors.items() if errors
    )
    return f"  RMSE      {shown} {tissue.unit}"
