"""How thoroughly an encoder searches: a rung of our ladder of efforts, or its own preset.

And what x264 and x265 have in common beside that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ssimrdo.codecs.base import check_number
from ssimrdo.codecs.x264.choices import EFFORT, MAX_STRENGTH, Options
from ssimrdo.errors import EncoderError, InputError


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


def check_tuning(tune: Any, strength: Any) -> None:
    """Check what steers a search: the library's own tuning, and the share of our offsets.

    Raises
    ------
    InputError
        If the tuning is not text, or the strength is out of range.
    """
    if tune is not None and not isinstance(tune, str):
        raise InputError(f"{tune!r:.40} is not text", field="tune")
    check_number(strength, field="rdo_strength")
    if not 0 <= strength <= MAX_STRENGTH:
        raise InputError(
            f"{strength} is out of range", field="rdo_strength", remedy=f"use 0 to {MAX_STRENGTH:g}"
        )


@contextmanager
def about_params(params: Options, field: str) -> Iterator[None]:
    """Say of errors that the user's own parameters of a library lead to that they are about these.

    Parameters
    ----------
    params : tuple of (str, str)
        The user's own; where there are none errors are left as they are.
    field : str
        What holds them.
    """
    try:
        yield
    except EncoderError as error:
        if params:
            raise InputError(str(error), field=field) from error
        raise
    except InputError as error:
        if any(repr(name) in error.reason for name, _ in params):
            raise InputError(error.reason, field=field, remedy=error.remedy) from error
        raise
