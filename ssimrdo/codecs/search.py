"""How thoroughly an encoder searches: a rung of our ladder of efforts, or its own preset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ssimrdo.codecs.x264.choices import EFFORT
from ssimrdo.errors import InputError


def chosen_effort(
    effort: str | None, preset: Any, *, efforts: Iterable[str], presets: Iterable[Any]
) -> str | None:
    """Return the effort that a codec has, None where it has a preset.

    Parameters
    ----------
    effort, preset
        As they were given; without both the default effort holds.
    efforts, presets : iterable
        What the codec knows.

    Raises
    ------
    InputError
        If both are given, or one is unknown.
    """
    if effort is not None and preset is not None:
        raise InputError(
            "excludes an effort", field="preset", remedy="give one of {effort} and {preset}"
        )
    for field, value, known in (("effort", effort, efforts), ("preset", preset, presets)):
        choices = tuple(known)
        if value is not None and value not in choices:
            raise InputError(
                f"{value!r} is unknown",
                field=field,
                remedy=f"use one of {', '.join(map(str, choices))}",
            )
    return EFFORT if effort is None and preset is None else effort
