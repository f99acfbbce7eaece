"""From a codec's options and a stream's settings to what x265 is opened with."""

from __future__ import annotations

from typing import Final

from ssimrdo.codecs.base import ConstantQuality, MeanBitrate, RateControl, StreamSettings
from ssimrdo.codecs.x264.choices import Options
from ssimrdo.codecs.x265.effort import Effort
from ssimrdo.codecs.x265.encoder import EncoderParameters
from ssimrdo.machine import cores

CRF_SHIFT: Final = 2.2
"""x265's CRF over the one that is asked for, of steered encodes; it makes a CRF mean what it means
in x264's medium preset (``scripts/fit_crf --codec hevc``)."""


_THREADING: Final[Options] = (
    # Frames that are coded side by side see less of each other, so it is always the same number:
    # bytes do not depend on the machine.
    ("frame-threads", "2"),
    # Rows side by side would begin anew to learn what is frequent, which small blocks pay most for.
    ("wpp", "0"),
)


def rate_options(rate: RateControl, *, steered: bool) -> Options:
    """Return x265's rate-control options for a single pass or for both of two.

    x265 ignores quantizer offsets at ``qp``, so a constant QP that is steered is asked for as the
    CRF that gives it: without bit distribution over time and without CU-tree, a frame's QP follows
    from its type alone.
    """
    if isinstance(rate, MeanBitrate):
        return (("bitrate", f"{round(rate.kbps)}"),)
    if isinstance(rate, ConstantQuality):
        return (("crf", f"{rate.crf + (CRF_SHIFT if steered else 0):g}"),)
    if not steered:
        return (("qp", f"{rate.qp}"),)
    return (("crf", f"{rate.qp}"), ("qcomp", "0.9999"), ("cutree", "0"))


def steering_options(*, steered: bool) -> Options:
    """Return the options under which x265 follows our quantizer offsets and nothing beside them.

    A coding tree unit has one quantizer, to which x265 takes the mean of its blocks' offsets: where
    its parts had several, x265 would compare their costs at different λ. Offsets need adaptive
    quantization to be on; at this strength x265's own has no effect. The psychovisual switches work
    against SSIM.
    """
    if not steered:
        return ()
    return (
        ("ctu", "64"),
        ("qg-size", "64"),
        ("aq-mode", "1"),
        ("aq-strength", "0.00001"),
        ("psy-rd", "0"),
        ("psy-rdoq", "0"),
    )


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
        *rate_options(stream.rate, steered=stream.steered),
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
