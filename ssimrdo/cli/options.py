"""Options that several commands share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ssimrdo import defaults

if TYPE_CHECKING:
    from ssimrdo.encoding import EncodeSettings

Command = TypeVar("Command", bound=Callable[..., Any])

window_option = click.option(
    "--window",
    default="auto",
    show_default=True,
    metavar="NAME|CENTRE/WIDTH|auto",
    help="Clinical window such as lung or bone, HU such as 40/400, or the header's own.",
)
rdo_strength_option = click.option(
    "--rdo-strength",
    type=float,
    default=defaults.RDO_STRENGTH,
    show_default=True,
    metavar="S",
    help="Share of the theoretical QP offset, 0 to 4.",
)
bit_depth_option = click.option(
    "--bit-depth",
    type=int,
    default=defaults.BIT_DEPTH,
    show_default=True,
    metavar="8|10",
    help="Bits per sample; 10 takes the High 10 profile.",
)
fps_option = click.option(
    "--fps", default=defaults.FPS, show_default=True, metavar="F", help="Slices per second."
)
series_uid_option = click.option(
    "--series", "series_uid", metavar="UID", help="Which series, if there are several."
)
skip_bad_option = click.option(
    "--skip-bad", is_flag=True, help="Leave out files that cannot be used."
)

dask_option = click.option(
    "--dask",
    metavar="ADDRESS",
    help='Run on a Dask cluster, such as tcp://host:8786; "local" starts one here.',
)

_ENCODE_OPTIONS = (
    click.option(
        "--crf",
        type=float,
        metavar="F",
        help=f"Constant rate factor, 1 to 51; lower is better. [default: {defaults.CRF:g}]",
    ),
    click.option("--qp", type=int, metavar="N", help="Constant quantizer of P-frames, 1 to 51."),
    click.option(
        "--bitrate", type=float, metavar="KBPS", help="Mean bit rate in kbit/s, in two passes."
    ),
    click.option(
        "--min-ssim",
        type=float,
        metavar="S",
        help="Find the smallest file whose slices keep this SSIM. "
        f"[default with --target: {defaults.MIN_SSIM:g}]",
    ),
    click.option(
        "--target",
        metavar="|".join(defaults.TARGETS),
        help="Which SSIM --min-ssim is about: the worst slice's, the mean or the 5th percentile. "
        f"[default: {defaults.TARGETS[0]}]",
    ),
    click.option(
        "--effort",
        metavar="|".join(defaults.EFFORTS),
        help=f"How thoroughly to search for a smaller file. [default: {defaults.EFFORT}]",
    ),
    click.option(
        "--preset",
        metavar="NAME",
        help="x264's own search in place of an effort: its preset, from "
        f"{defaults.PRESETS[0]} to {defaults.PRESETS[-1]}.",
    ),
    click.option(
        "--rdo",
        type=click.Choice(["ssim", "off"]),
        default="ssim",
        show_default=True,
        help="SSIM-based rate-distortion optimisation, or plain x264.",
    ),
    rdo_strength_option,
    window_option,
    bit_depth_option,
    fps_option,
    click.option(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="x264's threads, on which the bytes depend a little. "
        "[default: three per core; x264's own choice with --preset; 1 in a batch]",
    ),
    click.option(
        "--x264-params",
        default="",
        metavar="K=V:K=V",
        help="More of x264's parameters; they win over all others.",
    ),
)


def encode_options(command: Command) -> Command:
    """Add the options that make an :class:`EncodeSettings`."""
    for option in reversed(_ENCODE_OPTIONS):
        command = option(command)
    return command


def encode_settings(
    *,
    crf: float | None,
    qp: int | None,
    bitrate: float | None,
    min_ssim: float | None,
    target: str | None,
    effort: str | None,
    preset: str | None,
    rdo: str,
    rdo_strength: float,
    window: str,
    bit_depth: int,
    fps: str,
    threads: int,
    x264_params: str,
) -> EncodeSettings:
    """Return the settings that :func:`encode_options` describe.

    Raises
    ------
    InputError
        If a value is out of range or two contradict each other.
    """
    from ssimrdo.dicom import parse_window
    from ssimrdo.encoding import EncodeSettings, parse_fps, parse_x264_params

    return EncodeSettings(
        crf=crf,
        qp=qp,
        bitrate_kbps=bitrate,
        min_ssim=min_ssim,
        target=target,
        effort=effort,
        preset=preset,
        rdo=rdo,  # type: ignore[arg-type]
        rdo_strength=rdo_strength,
        window=parse_window(window),
        bit_depth=bit_depth,  # type: ignore[arg-type]
        fps=parse_fps(fps),
        threads=threads,
        x264_params=parse_x264_params(x264_params),
    )


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of text."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing output.")


def _set_verbosity(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del context, parameter
    if value:
        logging.getLogger("ssimrdo").setLevel(logging.INFO)


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_set_verbosity,
    help="Show x264's own messages.",
)
