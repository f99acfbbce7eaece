"""How the scripts that measure end: with a line for people, and a status for the shell."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ssimrdo.errors import InputError, SsimrdoError


def exit_status(name: str, work: Callable[[], None]) -> int:
    """Do the work of a script and return its exit status.

    Parameters
    ----------
    name : str
        Of the script, which its error is told with.
    work : callable
        Measures and prints.

    Returns
    -------
    int
        0 good, 1 failed, 2 bad input, 130 interrupted.
    """
    try:
        work()
    except (SsimrdoError, OSError) as error:
        print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 130
    return 0
