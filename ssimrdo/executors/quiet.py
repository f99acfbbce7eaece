"""Keeping messages of libraries off the streams of processes that we start ourselves."""

from __future__ import annotations

import logging
import os
import warnings
from importlib import import_module


def quieten() -> None:
    """Keep messages of a process of our own off its stderr; those of libraries quote the header.

    What counts is in what a call returns. Not for processes of others.
    """
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").propagate = False
    for name in ("pydicom", "ssimrdo"):
        its = logging.getLogger(name)
        if not its.handlers:
            its.addHandler(logging.NullHandler())
    # SVT-AV1 writes its settings to stderr; there is no other switch.
    os.environ.setdefault("SVT_LOG", "1")


def quieten_dask() -> None:
    """Keep Dask's messages off the stderr of a process of our own, such as the command line.

    Lost workers are told once, in the results.
    """
    # This sets the levels of its own loggers.
    import_module("distributed")
    for name in ("distributed", "distributed.client", "tornado", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
