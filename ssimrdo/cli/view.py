"""``ssimrdo view``."""

from __future__ import annotations

import json
from typing import Any

import click

from ssimrdo.cli.encode import result_text
from ssimrdo.cli.options import (
    GroupedCommand,
    encode_options,
    encode_settings,
    json_option,
    overwrite_option,
    verbose_option,
)
from ssimrdo.cli.progress import progress
from ssimrdo.cli.terminal import show


@click.command(
    cls=GroupedCommand, epilog="Example: ssimrdo view whole.mkv -o lungs.mp4 --window lung"
)
@click.argument("video", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    metavar="OUT",
    help="Video to write: .mp4, .mkv or a raw stream; OUT.json gets settings and results.",
)
@click.option(
    "--record",
    type=click.Path(),
    metavar="JSON",
    help="The sidecar. [default: what the video holds, else VIDEO.json beside it]",
)
@encode_options
@overwrite_option
@json_option
@verbose_option
def view(
    video: str,
    output: str,
    record: str | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show VIDEO, which ssimrdo encoded, in another window.

    It is meant for videos made with --window full. What the window shows is encoded again, so the
    losses add up; a low --crf keeps the second one small.
    """
    from ssimrdo.decoding.view import view as view_video

    settings = encode_settings(options)
    with progress("encoding") as observer:
        result = view_video(
            video, output, settings, record=record, overwrite=overwrite, observer=observer
        )
    show(json.dumps(result.as_dict()) if as_json else result_text(result))
