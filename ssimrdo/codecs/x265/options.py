"""The user's own x265 parameters, and which of them are refused."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from ssimrdo.codecs.x264.choices import Options
from ssimrdo.codecs.x264.options import check_params, keeps_aq_on, spelled_out
from ssimrdo.errors import InputError

FIELD: Final = "x265_params"

QUANTIZATION_GROUPS: Final = ("16", "32", "64")
"""Sides of the blocks that may have a quantizer of their own; offsets are of the smallest."""

_SET_ELSEWHERE: Final = MappingProxyType(
    {
        **dict.fromkeys(("qp", "lossless", "cu-lossless"), "{qp}"),
        **dict.fromkeys(
            ("bitrate", "pass", "stats", "slow-firstpass", "multi-pass-opt-analysis"),
            "{bitrate_kbps}",
        ),
        **dict.fromkeys(("fps", "timebase"), "{fps}"),
        **dict.fromkeys(("width", "height", "input-res", "total-frames", "frames"), "the series"),
        **dict.fromkeys(
            ("input-csp", "input-depth", "output-depth", "internal-bit-depth", "profile"),
            "{bit_depth}",
        ),
        **dict.fromkeys(("range", "display-window", "overscan"), "the output's range"),
        **dict.fromkeys(("annexb", "repeat-headers", "aud", "info"), "the output's suffix"),
        **dict.fromkeys(("log", "log-level", "csv", "csv-log-level", "progress"), "{verbose}"),
        **dict.fromkeys(
            ("analysis-save", "analysis-load", "analysis-reuse-file", "dhdr10-info", "zonefile"),
            "the output",
        ),
        **dict.fromkeys(("recon", "output", "input", "qpfile", "lambda-file"), "the output"),
        **dict.fromkeys(("pools", "numa-pools", "threads"), "{threads}"),
        **dict.fromkeys(("preset", "tune"), "{preset}"),
        "crf": "{crf}",
        "sar": "the series' pixel spacing",
    }
)
"""What else sets a parameter."""


def check_x265_params(params: Options) -> None:
    """Check that parameters are x265's to set; see :func:`check_params`."""
    check_params(params, _SET_ELSEWHERE, field=FIELD)


def check_follows_offsets(params: Options) -> None:
    """Check that x265 would follow quantizer offsets with these parameters.

    Raises
    ------
    InputError
        If one turns adaptive quantization off, or takes offsets of other blocks.
    """
    for name, value in params:
        if not keeps_aq_on(name, value, modes=("1", "2", "3", "4")):
            raise InputError(
                f"{name}={value} makes x265 ignore quantizer offsets",
                field=FIELD,
                remedy="take an aq-mode of 1 to 4 and an aq-strength above 0, or turn {rdo} off",
            )
        # With one x265 follows statistics of its own, with the other it reads four times as many
        # offsets as there are.
        is_small = spelled_out(name) == "qg-size" and value not in QUANTIZATION_GROUPS
        if is_small or spelled_out(name) == "hevc-aq":
            raise InputError(
                f"{name}={value} makes x265 ignore quantizer offsets of 16x16 samples",
                field=FIELD,
                remedy=f"take a qg-size of {', '.join(QUANTIZATION_GROUPS)}, leave hevc-aq out, or "
                "turn {rdo} off",
            )
