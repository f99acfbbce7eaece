"""The command group and the way from exceptions to exit statuses."""

from __future__ import annotations

import io
import logging
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

import click

from ssimrdo import __version__
from ssimrdo.cli import EXIT_INTERRUPTED
from ssimrdo.cli.options import flag_of
from ssimrdo.cli.terminal import MessageHandler, aligned, show, tell, write_to_stderr
from ssimrdo.errors import InputError, SsimrdoError, UidsToldError, cause_of
from ssimrdo.machine import keep_memory

COMMANDS = (
    *(
        "batch",
        "compare",
        "completion",
        "decode",
        "encode",
        "inspect",
        "lab",
        "list",
        "metrics",
        "phantom",
        "view",
    ),
)

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2

PATIENCE_S = 2.0
"""How long a signal leaves alone what an earlier one has begun."""

RETRY_S = 0.02
"""When a signal is heeded again that was lost on the way."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or None."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"ssimrdo.cli.{cmd_name}")
        # One whose name is Python's own has an underscore behind it.
        command = getattr(module, cmd_name, None) or getattr(module, f"{cmd_name}_")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is asked for; a wrong name is told with the nearest right one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            nearest = get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else "ssimrdo --help lists them"
            ctx.fail(f"there is no command {name!r}: {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click would take an EOFError for an interruption."""
        try:
            return super().invoke(ctx)
        except EOFError as error:
            return _fail_unexpectedly(error)


def _show_versions(ctx: click.Context, option: click.Option, wanted: bool) -> None:
    """Print the versions of this package and of the libraries that code and write."""
    del option
    if not wanted or ctx.resilient_parsing:
        return
    # Said first: the libraries may be missing.
    show(f"ssimrdo, version {__version__}")

    from ssimrdo.codecs.lavc import ffmpeg, has_encoder, library_version
    from ssimrdo.codecs.svtav1 import ENCODER as SVTAV1
    from ssimrdo.codecs.x264.encoder import x264_build
    from ssimrdo.codecs.x265.encoder import lacking as lacking_x265
    from ssimrdo.codecs.x265.encoder import x265_version

    show(f"x264 {x264_build()}")
    if lacking_x265() is None:
        show(f"x265 {x265_version()}")
    if has_encoder(SVTAV1):
        show(f"SVT-AV1 {library_version('SvtAv1Enc')}")
    show(ffmpeg())
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: ssimrdo encode ct-series/ -o chest.mp4 --min-ssim 0.95",
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_versions,
    help="Show the versions of ssimrdo, its encoders and FFmpeg, and exit.",
)
def cli() -> None:
    """Encode CT series to video with SSIM-based rate-distortion optimisation.

    Results go to stdout, progress and messages to stderr. Exit status: 0 good, 1 failed while
    running, 2 bad input or usage, 3 finished with failures.
    """
    keep_memory()


def main() -> NoReturn:
    """Run the command line and exit."""
    _unwind_at_signals()
    _send_messages_to_stderr()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names may hold bytes that no encoding takes.
        sys.stdout.reconfigure(errors="backslashreplace")
    status = _run()
    if status == EXIT_INTERRUPTED:
        # One more would end the interpreter on its way out, with another status.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def _run() -> int:
    try:
        status = cli.main(prog_name="ssimrdo", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        for line in error.format_message().splitlines():
            write_to_stderr(line)
        return EXIT_BAD_INPUT
    except click.ClickException as error:
        return _fail(*_usage(error), EXIT_BAD_INPUT)
    except UidsToldError as error:
        return _fail(error.brief, error.hint(flag_of), EXIT_BAD_INPUT, error.choices)
    except InputError as error:
        return _fail(error.what(flag_of), error.hint(flag_of), EXIT_BAD_INPUT)
    except SsimrdoError as error:
        return _fail(error.what(flag_of), error.hint(flag_of), EXIT_FAILED)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; nothing was written", "", EXIT_INTERRUPTED)
    except BrokenPipeError:
        return EXIT_FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{cause_of(error)}", "", EXIT_FAILED)
    except MemoryError:
        return _fail("out of memory", "", EXIT_FAILED)
    except ImportError as error:
        from ssimrdo.extras import explain_import

        return _fail(explain_import(error), "", EXIT_FAILED)
    except Exception as error:
        return _fail_unexpectedly(error)
    return status if isinstance(status, int) else 0


def _fail_unexpectedly(error: BaseException) -> int:
    """Say what nobody foresaw without its message, which may quote what stands in the header."""
    from ssimrdo.executors import unexpected

    if logging.getLogger("ssimrdo").isEnabledFor(logging.INFO):
        for line in "".join(traceback.format_exception(error)).splitlines():
            write_to_stderr(line)
    return _fail(unexpected(error), "", EXIT_FAILED)


def _fail(what: str, hint: str, status: int, choices: Sequence[Sequence[str]] = ()) -> int:
    """Say what is wrong, what there is to choose from, and what to do."""
    tell(f"error: {' '.join(what.split())}")
    for line in aligned(choices):
        write_to_stderr(f"  {line}")
    if hint:
        tell(f"hint: {' '.join(hint.split())}")
    return status


def _usage(error: click.ClickException) -> tuple[str, str]:
    """Return what is wrong with how a command was called, and what to do about it."""
    said, hint = error.format_message(), ""
    if isinstance(error, click.NoSuchOption):
        said = f"there is no option {error.option_name}"
        if error.possibilities:
            from difflib import get_close_matches

            (nearest,) = get_close_matches(error.option_name, error.possibilities, n=1, cutoff=0)
            hint = f"did you mean {nearest}?"
    elif isinstance(error, click.MissingParameter) and error.param is not None:
        said = f"{_name_of(error.param)} is missing"
    elif isinstance(error, click.BadParameter) and error.param is not None:
        said = f"{_name_of(error.param)}: {error.message.rstrip('.')}"
    elif ": " in said:
        said, _, hint = said.rpartition(": ")
    context = error.ctx if isinstance(error, click.UsageError) else None
    if not hint and context is not None:
        hint = f"{context.command_path} --help shows how it is used"
    said = said.rstrip(".")
    return said[:1].lower() + said[1:] if said[1:2].islower() else said, hint


def _name_of(parameter: click.Parameter) -> str:
    """Return what a parameter is called: its long name, or that of an argument in capitals."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return (parameter.name or "").upper()


def _unwind_at_signals() -> None:
    """Unwind on SIGINT, SIGTERM and SIGHUP, so that temporary files go away.

    That is not disturbed by more of them, unless it takes too long.
    """
    begun = -PATIENCE_S
    last = signal.SIGINT

    def unwind(number: int, frame: FrameType | None) -> None:
        nonlocal begun, last
        del frame
        now = time.monotonic()
        if now - begun < PATIENCE_S:
            return
        begun, last = now, signal.Signals(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    def again(number: int, frame: FrameType | None) -> None:
        nonlocal begun
        del number
        begun = -PATIENCE_S
        unwind(last, frame)

    def notice(unraisable: sys.UnraisableHookArgs) -> None:
        # Raised where C calls Python, such as in LLVM's callbacks, it gets no further.
        if issubclass(unraisable.exc_type, KeyboardInterrupt | SystemExit):
            signal.setitimer(signal.ITIMER_REAL, RETRY_S)
        elif unraisable.exc_value is not None:
            _fail_unexpectedly(unraisable.exc_value)

    signal.signal(signal.SIGALRM, again)
    sys.unraisablehook = notice

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Shells ignore some of them for what runs in the background.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, unwind)


def _send_messages_to_stderr() -> None:
    logger = logging.getLogger("ssimrdo")
    logger.addHandler(MessageHandler())
    logger.setLevel(logging.WARNING)
    # Libraries quote the header values they complain about, and these may name a patient.
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").addHandler(logging.NullHandler())
    logging.getLogger("pydicom").propagate = False
