"""Encode CT DICOM series to H.264, HEVC or AV1 with SSIM-based rate-distortion optimisation."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssimrdo.comparison import CompareSettings, Comparison, ComparisonReport, compare
    from ssimrdo.decoding.decode import DecodeResult, decode
    from ssimrdo.dicom import (
        NAMED_WINDOWS,
        Volume,
        Window,
        find_series,
        load_volume,
        open_series,
        parse_window,
    )
    from ssimrdo.encoding.ct_series import CTGoal, CTResult, encode_ct
    from ssimrdo.encoding.encode import encode, encode_frames
    from ssimrdo.encoding.settings import EncodeSettings, Floor
    from ssimrdo.errors import (
        BadSliceError,
        CancelledError,
        EncoderError,
        InputError,
        SsimrdoError,
        VerificationError,
    )
    from ssimrdo.frames import FrameFormat
    from ssimrdo.inspection import Inspection, inspect_slice
    from ssimrdo.measurement import Measurement, measure
    from ssimrdo.notebook import progress
    from ssimrdo.observer import Event, Observer
    from ssimrdo.record.result import EncodeResult

__version__ = "0.1.0"

_HOMES = {
    "ssimrdo.comparison": ("CompareSettings", "Comparison", "ComparisonReport", "compare"),
    "ssimrdo.decoding.decode": ("DecodeResult", "decode"),
    "ssimrdo.dicom": (
        "NAMED_WINDOWS",
        "Volume",
        "Window",
        "find_series",
        "load_volume",
        "open_series",
        "parse_window",
    ),
    "ssimrdo.encoding.ct_series": ("CTGoal", "CTResult", "encode_ct"),
    "ssimrdo.encoding.encode": ("encode", "encode_frames"),
    "ssimrdo.encoding.settings": ("EncodeSettings", "Floor"),
    "ssimrdo.errors": (
        "BadSliceError",
        "CancelledError",
        "EncoderError",
        "InputError",
        "SsimrdoError",
        "VerificationError",
    ),
    "ssimrdo.frames": ("FrameFormat",),
    "ssimrdo.inspection": ("Inspection", "inspect_slice"),
    "ssimrdo.measurement": ("Measurement", "measure"),
    "ssimrdo.notebook": ("progress",),
    "ssimrdo.observer": ("Event", "Observer"),
    "ssimrdo.record.result": ("EncodeResult",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "NAMED_WINDOWS",
    "BadSliceError",
    "CTGoal",
    "CTResult",
    "CancelledError",
    "CompareSettings",
    "Comparison",
    "ComparisonReport",
    "DecodeResult",
    "EncodeResult",
    "EncodeSettings",
    "EncoderError",
    "Event",
    "Floor",
    "FrameFormat",
    "InputError",
    "Inspection",
    "Measurement",
    "Observer",
    "SsimrdoError",
    "VerificationError",
    "Volume",
    "Window",
    "compare",
    "decode",
    "encode",
    "encode_ct",
    "encode_frames",
    "find_series",
    "inspect_slice",
    "load_volume",
    "measure",
    "open_series",
    "parse_window",
    "progress",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that the command line starts at once."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ssimrdo' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
