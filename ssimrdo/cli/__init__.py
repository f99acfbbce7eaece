"""The command line: ``ssimrdo COMMAND``; one file per command."""

from __future__ import annotations

import sys
from typing import Final, NoReturn

__all__ = ["EXIT_INTERRUPTED", "main"]

EXIT_INTERRUPTED: Final = 130


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        import signal

        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
            # Nothing has begun that would have to be undone; imports would show where they were.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)

    try:
        from ssimrdo.cli.main import main as run
    except ImportError as error:
        from ssimrdo.extras import explain_import

        # Nothing is there to write with.
        sys.exit(f"ssimrdo: error: {explain_import(error)}")
    run()
