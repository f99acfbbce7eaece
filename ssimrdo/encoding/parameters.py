"""From encode settings to x264's parameters."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssimrdo.encoding.effort import EFFORTS, KEYFRAME_INTERVAL, Effort, frame_plan, frame_threads
from ssimrdo.encoding.settings import EncodeSettings, spelled_out
from ssimrdo.rdo import quantizer_offsets
from ssimrdo.x264 import EncoderParameters, Options

_FRAME_STRUCTURE = frozenset(
    {
        "b-adapt",
        "b-pyramid",
        "bframes",
        "bluray-compat",
        "intra-refresh",
        "min-keyint",
        "open-gop",
        "scenecut",
    }
)
"""With one of these the types of frames are x264's choice."""

_ALIASES = {"analyse": "partitions", "me-range": "merange", "subq": "subme", "frameref": "ref"}


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


def effort_of(settings: EncodeSettings) -> Effort:
    """Return the search that settings ask for; a preset is a rung that changes nothing.

    Where the user's parameters leave the types of frames to x264, it chooses them in its own way
    and searches alike in all.
    """
    if settings.effort is None:
        assert settings.preset is not None, "settings have one of the two"
        return Effort(settings.preset, ())
    effort = EFFORTS[settings.effort]
    if not _named(settings) & _FRAME_STRUCTURE:
        return effort
    options = tuple(pair for pair in effort.options if pair[0] not in _FRAME_STRUCTURE)
    return Effort(effort.preset, options)


class FrameControls(NamedTuple):
    """What x264 is told about one frame: arguments of :meth:`ssimrdo.x264.Encoder.encode`."""

    offsets: NDArray[np.float32] | None
    frame_type: str | None
    variant: int


def frame_controls(settings: EncodeSettings, luma: NDArray[Any], index: int) -> FrameControls:
    """Return the quantizer offsets of a frame, its type and how thoroughly to search in it.

    Parameters
    ----------
    settings : EncodeSettings
        The user's settings.
    luma : ndarray of shape (rows, columns)
        The frame as x264 gets it.
    index : int
        Place in presentation order, from 0 on.
    """
    frame_type, variant = None, 0
    if _has_plan(effort_of(settings)):
        frame_type, variant = frame_plan(index, _keyframe_interval(settings))
    offsets = None
    if settings.rdo == "ssim":
        offsets = quantizer_offsets(
            luma,
            bit_depth=settings.bit_depth,
            strength=settings.rdo_strength,
            frame_type=frame_type,
        )
    return FrameControls(offsets, frame_type, variant)


def _keyframe_interval(settings: EncodeSettings) -> int:
    given = [value for name, value in settings.x264_params if spelled_out(name) == "keyint"]
    if not given:
        return KEYFRAME_INTERVAL
    try:
        return max(1, int(given[-1]))
    except ValueError:
        # "infinite"; x264 refuses all others.
        return sys.maxsize


def _has_plan(effort: Effort) -> bool:
    return bool(effort.referenced or effort.disposable)


def _named(settings: EncodeSettings) -> set[str]:
    """Return the parameters that the user has set."""
    names = [spelled_out(name) for name, _ in settings.x264_params]
    return {_ALIASES.get(name, name) for name in names}


def _variants(effort: Effort, settings: EncodeSettings) -> tuple[Options, ...]:
    if not _has_plan(effort):
        return ()
    named = _named(settings)
    return tuple(
        tuple((name, value) for name, value in options if name not in named)
        for options in (effort.referenced, effort.disposable)
    )


def _threads(settings: EncodeSettings, height: int) -> str:
    if settings.threads:
        return str(settings.threads)
    return "auto" if settings.effort is None else str(frame_threads(height))


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
    """Return what to open x264 with; each frame takes its own part from :func:`frame_controls`.

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
    effort = effort_of(settings)
    options: list[tuple[str, str]] = [
        *effort.options,
        ("fps", f"{settings.fps.numerator}/{settings.fps.denominator}"),
        ("fullrange", "on"),
        ("threads", _threads(settings, height)),
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
        preset=effort.preset,
        options=(*options, *settings.x264_params),
        variants=_variants(effort, settings),
        repeat_headers=raw_stream,
        repeatable=settings.rdo == "ssim",
        # As the x264 program does: its placebo preset keeps the full first pass.
        fast_first_pass=first_pass and effort.preset != "placebo",
    )
