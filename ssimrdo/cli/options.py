"""Options that several commands share, and what options are called on the command line."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from ssimrdo.codecs.x264.choices import PRESETS
from ssimrdo.encoding.options import BY_NAME, OPTIONS, Option
from ssimrdo.errors import name_options

if TYPE_CHECKING:
    from ssimrdo.encoding.settings import EncodeSettings

Command = TypeVar("Command", bound=Callable[..., Any])

_FLAGS: Final = {
    "anchors": "--anchor",
    "distorted": "DISTORTED",
    "indices": "--metric",
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


Names = Callable[[], Iterable[str]]

_WORD: Final = re.compile(r"\.?[a-z0-9][a-z0-9_-]*")
"""A part of a metavar that stands for itself, such as each one of ``fast|default``."""


class ChoiceOption(click.Option):
    """An option that shells complete.

    Parameters
    ----------
    names : callable, optional
        Returns values to complete beside the words of the metavar; called when a shell asks.
    unshown : tuple of str
        Other spellings that are taken, but not shown in the help.
    """

    def __init__(
        self, *args: Any, names: Names = tuple, unshown: tuple[str, ...] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._names = names
        self._shown = list(self.opts)
        self.opts += unshown

    def values(self) -> list[str]:
        """Return the values that can be told beforehand."""
        words = filter(_WORD.fullmatch, (self.metavar or "").split("|"))
        return list(dict.fromkeys((*words, *self._names())))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what a word on the command line may become; the last of several with commas."""
        values = self.values()
        if not values:
            return super().shell_complete(ctx, incomplete)
        several = "," in (self.metavar or "")
        before = incomplete[: incomplete.rfind(",") + 1] if several else ""
        begun = incomplete[len(before) :]
        return [CompletionItem(before + value) for value in values if value.startswith(begun)]

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return names and help, with the values where the help has {names}."""
        opts, self.opts = self.opts, self._shown
        try:
            record = super().get_help_record(ctx)
        finally:
            self.opts = opts
        if record is None or "{names}" not in record[1]:
            return record
        return record[0], record[1].replace("{names}", ", ".join(self._names()))


class GroupedCommand(click.Command):
    """A command whose help shows its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of each group below its title."""
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        order = [name for names in _GROUPS.values() for name in names]
        options.sort(key=lambda one: order.index(one.name) if one.name in order else len(order))
        groups: dict[str, list[tuple[str, str]]] = {title: [] for title in _GROUPS}
        for option in options:
            record = option.get_help_record(ctx)
            if record is not None:
                groups[_GROUP_OF.get(option.name or "", _OTHERS)].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


_OTHERS: Final = "Other options"

_GROUPS: Final = MappingProxyType(
    {
        "Output": ("output", "kind", "max_hu_error", "syntax", "template", "overwrite"),
        "Quality and size": (
            *("min_ssim", "crf", "min", "over", "qp", "bitrate_kbps"),
            *("effort", "codec", "preset", "rdo", "rdo_strength", "even"),
        ),
        "What is shown": ("window", "protect", "padding", "bit_depth", "fps"),
        "Input": ("series_uid", "volumes", "skip_bad", "strict", "record"),
        "Batch": (
            *("manifest", "jobs", "dask", "suffix", "name_template", "timeout", "fail_fast"),
            *("retry_failed", "keep_older", "inside_root", "dry_run"),
        ),
        _OTHERS: (),
    }
)
"""Options by the title that they have in common, in the order of the help."""

_GROUP_OF: Final = {name: title for title, names in _GROUPS.items() for name in names}


def index_names() -> Iterable[str]:
    """Return the names of all quality indices."""
    from ssimrdo import metrics

    return metrics.names()


def objective_names() -> Iterable[str]:
    """Return the names of all objectives."""
    from ssimrdo import objective

    return objective.names()


def _window_names() -> Iterable[str]:
    from ssimrdo.dicom.grey import NAMED_WINDOWS

    return NAMED_WINDOWS


_NAMES: Final[MappingProxyType[str, Names]] = MappingProxyType(
    {
        "measure": index_names,
        "min": lambda: (f"{name}=" for name in index_names()),
        "preset": lambda: PRESETS,
        "protect": _window_names,
        "rdo": objective_names,
        "window": _window_names,
    }
)
"""What shells complete beside the words of a metavar, by option."""


def encode_option(name: str) -> Callable[[Command], Command]:
    """Return the decorator that adds one option of an encode; its value stays a text."""
    option = BY_NAME[name]
    default = f" [default: {option.default}]" if option.default else ""
    shown = name_options(option.help + default, flag_of)
    names = (option.flag, option.name)
    if not option.metavar:
        return click.option(*names, is_flag=True, default=None, help=shown)
    return click.option(
        *names,
        cls=ChoiceOption,
        metavar=option.metavar,
        help=shown,
        names=_NAMES.get(name, tuple),
        unshown=tuple("--" + alias.replace("_", "-") for alias in option.aliases),
    )


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
max_hu_error_option = click.option(
    "--max-hu-error",
    metavar="HU",
    help="With --as ct: no pixel is off by more, whatever the window. [default: no limit]",
)
syntax_option = click.option(
    "--syntax",
    cls=ChoiceOption,
    metavar="htj2k|j2k",
    help="With --as ct: HTJ2K or JPEG 2000. [default: htj2k]",
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
