"""Experiments that re-create published studies of where SSIM misleads, and what helps.

Each experiment is a module with an ``EXPERIMENT``; :func:`get` finds it by its name.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ssimrdo.errors import InputError

if TYPE_CHECKING:
    from ssimrdo.lab.experiment import Experiment

SUMMARIES: Final = MappingProxyType(
    {
        "terms": "l and c under one disturbance, against mean and standard deviation",
        "grating": "SSIM of a grating in water under identical noise: hardness and contrast",
        "lung": "SSIM of a lung alone and inside a thorax, with identical noise",
        "blocks": "how much noise a block takes at constant PSNR and at constant SSIM",
        "repairs": "what each quality index makes of the four above",
        "disturbances": "four disturbances of one image, by all indices",
        "autoencoders": "auto-encoders trained with MSE, 1 \N{MINUS SIGN} SSIM and LWSSIM",
        "coding": "which objective saves bits under which index",
    }
)
"""One line of each experiment, by name, in the order of the page."""


def get(name: str) -> Experiment:
    """Return the experiment of a name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in SUMMARIES:
        raise InputError(
            f"experiment {name!r:.40} is unknown", remedy=f"use one of {', '.join(SUMMARIES)}, all"
        )
    found: Experiment = import_module(f"ssimrdo.lab.{name}").EXPERIMENT
    return found
