"""Encode CT DICOM series to H.264 with SSIM-based rate-distortion optimisation."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssimrdo.dicom import NAMED_WINDOWS, Window, parse_window
    from ssimrdo.encoding import EncodeResult, EncodeSettings, encode
    from ssimrdo.errors import (
        BadSliceError,
        EncoderError,
        InputError,
        SsimrdoError,
        VerificationError,
    )

__version__ = "0.1.0"

__all__ = [
    "NAMED_WINDOWS",
    "BadSliceError",
    "EncodeResult",
    "EncodeSettings",
    "EncoderError",
    "InputError",
    "SsimrdoError",
    "VerificationError",
    "Window",
    "encode",
    "parse_window",
]

_HOMES = {
    "ssimrdo.dicom": ("NAMED_WINDOWS", "Window", "parse_window"),
    "ssimrdo.encoding": ("EncodeResult", "EncodeSettings", "encode"),
    "ssimrdo.errors": (
        "BadSliceError",
        "EncoderError",
        "InputError",
        "SsimrdoError",
        "VerificationError",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that the command line starts at once."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ssimrdo' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
