"""From a codec's options and a stream's settings to what x264 is opened with."""

from __future__ import annotations

import sys
from typing import Final

from ssimrdo.codecs.base import ConstantQuality, MeanBitrate, RateControl, StreamSettings
from ssimrdo.codecs.x264.choices import Options
from ssimrdo.codecs.x264.effort import EFFORTS, KEYFRAME_INTERVAL, Effort
from ssimrdo.codecs.x264.encoder import EncoderParameters
from ssimrdo.codecs.x264.options import FRAME_STRUCTURE, last_value, names_set
from ssimrdo.machine import cores

THREADS_PER_CORE: Final = 3
"""Twice x264's own share: where frames differ in effort, light ones wait for heavy ones."""

ROWS_PER_THREAD: Final = 2
"""Rows of macroblocks; x264 takes no more threads by itself than leave each this many."""


def rate_options(rate: RateControl, *, steered: bool) -> Options:
    """Return x264's rate-control options for a single pass or for both of two.

    x264 ignores quantizer offsets at ``qp``, so a constant QP that is steered is asked for as the
    CRF that gives it: without bit distribution over time (``qcomp`` near 1) and without MB-tree, a
    frame's QP follows from its type alone. At ``qcomp=1`` x264 would forget the I-frame's share in
    the first frame.
    """
    if isinstance(rate, MeanBitrate):
        return (("bitrate", f"{round(rate.kbps)}"),)
    if isinstance(rate, ConstantQuality):
        return (("crf", f"{rate.crf:g}"),)
    if not steered:
        return (("qp", f"{rate.qp}"),)
    return (("crf", f"{rate.qp}"), ("qcomp", "0.9999"), ("mbtree", "0"))


def steering_options(*, steered: bool) -> Options:
    """Return the options under which x264 takes our quantizer offsets and nothing beside them.

    Offsets need adaptive quantization to be on; at this strength x264's own has no effect.
    The psychovisual switches work against SSIM.
    """
    if not steered:
        return ()
    return (("psy", "0"), ("aq-mode", "1"), ("aq-strength", "0.00001"))


def search_of(effort: str | None, preset: str, params: Options) -> Effort:
    """Return the search that is asked for; a preset is a rung that changes nothing.

    Where the user's parameters leave the types of frames to x264, it chooses them in its own way
    and searches alike in all.
    """
    if effort is None:
        return Effort(preset, ())
    rung = EFFORTS[effort]
    if not names_set(params) & FRAME_STRUCTURE:
        return rung
    options = tuple(pair for pair in rung.options if pair[0] not in FRAME_STRUCTURE)
    return Effort(rung.preset, options)


def has_plan(search: Effort) -> bool:
    """Tell whether frame types are given beforehand."""
    return bool(search.referenced or search.disposable)


def keyframe_interval(params: Options) -> int:
    """Return how many frames come from one keyframe to the next."""
    given = last_value(params, "keyint")
    if given is None:
        return KEYFRAME_INTERVAL
    try:
        return max(1, int(given))
    except ValueError:
        # "infinite"; x264 refuses all others.
        return sys.maxsize


def frame_threads(rows: int) -> int:
    """Return how many frames of so many rows x264 should work on at a time."""
    return max(1, min(THREADS_PER_CORE * cores(), -(-rows // 16) // ROWS_PER_THREAD))


def encoder_parameters(
    stream: StreamSettings,
    search: Effort,
    *,
    is_effort: bool,
    tune: str | None = None,
    params: Options = (),
) -> EncoderParameters:
    """Return what to open x264 with.

    Parameters
    ----------
    stream : StreamSettings
        Frames, rate control and pass.
    search : Effort
        As :func:`search_of` returns it.
    is_effort : bool
        Whether the search is one of ours, which takes more threads than x264's.
    tune : str, optional
        One of x264's tunings.
    params : tuple of (str, str)
        The user's parameters; they come last and so win.
    """
    frames = stream.format
    threads = str(stream.threads)
    if not stream.threads:
        threads = str(frame_threads(frames.rows)) if is_effort else "auto"
    options: list[tuple[str, str]] = [
        *search.options,
        ("fps", f"{frames.fps.numerator}/{frames.fps.denominator}"),
        ("fullrange", "on" if frames.full_range else "off"),
        ("threads", threads),
        *rate_options(stream.rate, steered=stream.steered),
        *steering_options(steered=stream.steered),
    ]
    if frames.aspect != 1:
        options.append(("sar", f"{frames.aspect.numerator}:{frames.aspect.denominator}"))
    is_first = stream.pass_number < stream.passes
    if stream.stats is not None:
        options += [("stats", str(stream.stats)), ("pass", "1" if is_first else "2")]
    return EncoderParameters(
        width=frames.columns,
        height=frames.rows,
        bit_depth=frames.bit_depth,
        preset=search.preset,
        tune=tune,
        options=(*options, *params),
        variants=_variants(search, params),
        repeat_headers=stream.raw,
        repeatable=stream.steered,
        # As the x264 program does: its placebo preset keeps the full first pass.
        fast_first_pass=is_first and search.preset != "placebo",
    )


def _variants(search: Effort, params: Options) -> tuple[Options, ...]:
    if not has_plan(search):
        return ()
    named = names_set(params)
    return tuple(
        tuple((name, value) for name, value in options if name not in named)
        for options in (search.referenced, search.disposable)
    )
