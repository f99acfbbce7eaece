"""From a codec's options and a stream's settings to what x265 is opened with."""

from __future__ import annotations

from typing import Final

from ssimrdo.codecs.base import ConstantQuality, MeanBitrate, RateControl, StreamSettings
from ssimrdo.codecs.x264.choices import Options
from ssimrdo.codecs.x264.options import last_value
from ssimrdo.codecs.x265.effort import Effort
from ssimrdo.codecs.x265.encoder import EncoderParameters
from ssimrdo.machine import cores

LOWEST_CRF: Final = 0.0
"""Of x265."""

_THREADING: Final[Options] = (
    # At a bit rate bytes depend on how many frames are coded side by side, so it is always the same
    # number, whatever the machine has.
    ("frame-threads", "4"),
    # Rows side by side would begin anew to learn what is frequent, which small blocks pay most for.
    ("wpp", "0"),
)


def rate_options(rate: RateControl, *, steered: bool, crf_shift: float) -> Options:
    """Return x265's rate-control options for a single pass or for both of two.

    x265 ignores quantizer offsets at ``qp``, so a constant QP that is steered is asked for as the
    CRF that gives it: without bit distribution over time and without CU-tree, a frame's QP follows
    from its type alone.
    """
    if isinstance(rate, MeanBitrate):
        return (("bitrate", f"{round(rate.kbps)}"),)
    if isinstance(rate, ConstantQuality):
        crf = max(rate.crf + crf_shift, LOWEST_CRF) if steered else rate.crf
        return (("crf", f"{crf:g}"),)
    if not steered:
        return (("qp", f"{rate.qp}"),)
    return (("crf", f"{rate.qp}"), ("qcomp", "0.9999"), ("cutree", "0"))


UNIT: Final = 32
"""Samples along a side of a coding tree unit, which has one quantizer, of steered encodes."""


def steering_options(*, steered: bool) -> Options:
    """Return the options under which x265 follows our quantizer offsets and nothing beside them.

    A coding tree unit has one quantizer. Where its parts have several, x265 adds their costs up at
    the λ of the last part, and compares the sum with a cost at the λ of the whole. Offsets need
    adaptive quantization to be on; at this strength x265's own has no effect. The psychovisual
    switches work against SSIM.
    """
    if not steered:
        return ()
    return (
        ("ctu", f"{UNIT}"),
        ("qg-size", f"{UNIT}"),
        ("aq-mode", "1"),
        ("aq-strength", "0.00001"),
        ("psy-rd", "0"),
        ("psy-rdoq", "0"),
    )


def quantizer_unit(options: Options) -> int:
    """Return the samples along a side of the blocks that may have a quantizer of their own.

    Parameters
    ----------
    options : tuple of (str, str)
        x265's options, which it has taken; of each the last one counts.
    """
    sizes = (last_value(options, name) for name in ("ctu", "qg-size"))
    return min((int(size, 0) for size in sizes if size is not None), default=UNIT)


def encoder_parameters(
    stream: StreamSettings, search: Effort, *, tune: str | None = None, params: Options = ()
) -> EncoderParameters:
    """Return what to open x265 with.

    Parameters
    ----------
    stream : StreamSettings
        Frames, rate control and pass.
    search : Effort
        A rung, or a preset that nothing is changed in.
    tune : str, optional
        One of x265's tunings.
    params : tuple of (str, str)
        The user's parameters; they come last and so win.
    """
    frames = stream.format
    options: list[tuple[str, str]] = [
        ("fps", f"{frames.fps.numerator}/{frames.fps.denominator}"),
        ("range", "full" if frames.full_range else "limited"),
        *_THREADING,
        ("pools", f"{stream.threads or cores()}"),
        ("open-gop", "0"),
        *rate_options(stream.rate, steered=stream.steered, crf_shift=search.crf_shift),
        *steering_options(steered=stream.steered),
        *search.options,
    ]
    if frames.aspect != 1:
        options.append(("sar", f"{frames.aspect.numerator}:{frames.aspect.denominator}"))
    if stream.stats is not None:
        options += [("stats", str(stream.stats)), ("pass", f"{stream.pass_number}")]
    return EncoderParameters(
        width=frames.columns,
        height=frames.rows,
        bit_depth=frames.bit_depth,
        preset=search.preset,
        tune=tune,
        options=(*options, *params),
        repeat_headers=stream.raw,
    )
