"""From encode settings to x264's parameters."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.x264 import EncoderParameters

Options = tuple[tuple[str, str], ...]


def rate_options(settings: EncodeSettings) -> Options:
    """Return x264's rate-control options for a single pass or for both of two.

    x264 ignores quantizer offsets at ``qp``, so with ``rdo="ssim"`` a constant QP is asked for
    as the CRF that gives it: without bit distribution over time (``qcomp`` near 1) and without
    MB-tree, a frame's QP follows from its type alone. At ``qcomp=1`` x264 would forget the
    I-frame's share in the first frame.
    """
    if settings.bitrate_kbps is not None:
        return (("bitrate", f"{round(settings.bitrate_kbps)}"),)
    if settings.qp is None:
        return (("crf", f"{settings.crf:g}"),)
    if settings.rdo == "off":
        return (("qp", f"{settings.qp}"),)
    return (("crf", f"{settings.qp}"), ("qcomp", "0.9999"), ("mbtree", "0"))


def rdo_options(settings: EncodeSettings) -> Options:
    """Return the options under which x264 takes our quantizer offsets and nothing beside them.

    Offsets need adaptive quantization to be on; at this strength x264's own has no effect.
    The psychovisual switches work against SSIM.
    """
    if settings.rdo == "off":
        return ()
    return (("psy", "0"), ("aq-mode", "1"), ("aq-strength", "0.00001"))


def encoder_parameters(
    settings: EncodeSettings,
    *,
    width: int,
    height: int,
    sample_aspect_ratio: Fraction,
    raw_stream: bool,
    stats: Path | None = None,
    first_pass: bool = False,
) -> EncoderParameters:
    """Return what to open x264 with.

    Parameters
    ----------
    settings : EncodeSettings
        The user's settings.
    width, height : int
        Coded size in luma samples, even.
    sample_aspect_ratio : Fraction
        Width of a sample over its height.
    raw_stream : bool
        Whether the output is a raw stream, which repeats the parameter sets.
    stats : Path, optional
        x264's two-pass statistics file; None for a single pass.
    first_pass : bool
        Whether this is the first of two passes.
    """
    options: list[tuple[str, str]] = [
        ("fps", f"{settings.fps.numerator}/{settings.fps.denominator}"),
        ("fullrange", "on"),
        ("threads", str(settings.threads) if settings.threads else "auto"),
        *rate_options(settings),
        *rdo_options(settings),
    ]
    if sample_aspect_ratio != 1:
        options.append(
            ("sar", f"{sample_aspect_ratio.numerator}:{sample_aspect_ratio.denominator}")
        )
    if stats is not None:
        options += [("stats", str(stats)), ("pass", "1" if first_pass else "2")]
    return EncoderParameters(
        width=width,
        height=height,
        bit_depth=settings.bit_depth,
        preset=settings.preset,
        options=(*options, *settings.x264_params),
        repeat_headers=raw_stream,
        repeatable=settings.rdo == "ssim",
        # As the x264 program does: its placebo preset keeps the full first pass.
        fast_first_pass=first_pass and settings.preset != "placebo",
    )
