"""Options that several commands share, and what options are called on the command line."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ssimrdo.encoding.options import BY_NAME, OPTIONS, Option
from ssimrdo.errors import name_options

if TYPE_CHECKING:
    from ssimrdo.encoding.settings import EncodeSettings

Command = TypeVar("Command", bound=Callable[..., Any])

_FLAGS: Final = {
    "anchors": "--anchor",
    "distorted": "DISTORTED",
    "indices": "--index",
    "metrics": "--metric",
    "name": "SERIES",
    "reference": "REFERENCE",
    "series_uid": "--series",
    "tests": "--test",
    "timeout_s": "--timeout",
}


def flag_of(field: str) -> str:
    """Return what the command line calls a field of an error."""
    if field in BY_NAME:
        return BY_NAME[field].flag
    return _FLAGS.get(field, "--" + field.replace("_", "-"))


def encode_option(name: str) -> Callable[[Command], Command]:
    """Return the decorator that adds one option of an encode; its value stays a text."""
    option = BY_NAME[name]
    default = f" [default: {option.default}]" if option.default else ""
    aliases = ("--" + alias.replace("_", "-") for alias in option.aliases)
    shown = name_options(option.help + default, flag_of)
    names = (option.flag, *aliases, option.name)
    if not option.metavar:
        return click.option(*names, is_flag=True, default=None, help=shown)
    return click.option(*names, metavar=option.metavar, help=shown)


def encode_options(command: Command) -> Command:
    """Add the options that make an :class:`EncodeSettings`."""
    for option in reversed(OPTIONS):
        command = encode_option(option.name)(command)
    return command


def encode_settings(options: dict[str, Any]) -> EncodeSettings:
    """Return the settings that :func:`encode_options` describe.

    Raises
    ------
    InputError
        If a value is out of range or two contradict each other.
    """
    from ssimrdo.encoding.settings import EncodeSettings

    quieten_svtav1()
    return EncodeSettings.of(**options)


def quieten_svtav1() -> None:
    """Have SVT-AV1 write errors alone to stderr, past all logging; there is no other switch."""
    os.environ.setdefault("SVT_LOG", "1")


def value_of(name: str, given: str | None) -> Any:
    """Return the value of one option of an encode, that of its default if it was not given."""
    option: Option = BY_NAME[name]
    return option.value(option.default if given is None else given)


series_uid_option = click.option(
    "--series",
    "series_uid",
    metavar="UID|NUMBER",
    help="Which series, if there are several; ssimrdo list shows numbers.",
)
skip_bad_option = click.option(
    "--skip-bad", is_flag=True, help="Leave out files that cannot be used."
)
dask_option = click.option(
    "--dask",
    metavar="ADDRESS",
    help='Run on a Dask cluster, such as tcp://host:8786; "local" starts one here.',
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of text."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing output.")


def _set_verbosity(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del context, parameter
    if value:
        logging.getLogger("ssimrdo").setLevel(logging.INFO)


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_set_verbosity,
    help="Show the encoder's own messages.",
)
