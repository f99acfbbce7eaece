"""Keeping messages that quote a DICOM header off streams that are not ours."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Final, cast

_PYDICOM: Final = re.compile("pydicom")


@contextmanager
def pydicom_contained() -> Iterator[None]:
    """Let no message of pydicom out of this block, also not from its threads.

    They quote the DICOM header, which may name a patient. Blocks may overlap in several threads,
    and nothing stays changed behind the last.
    """
    # With catch_warnings, the last block to end would bring back what the first had changed.
    filters = cast(list[Any], warnings.filters)
    rule = ("ignore", None, Warning, _PYDICOM, 0)
    its_logger = logging.getLogger("pydicom")

    def drop(record: logging.LogRecord) -> bool:
        del record
        return False

    filters.insert(0, rule)
    its_logger.addFilter(drop)
    try:
        yield
    finally:
        its_logger.removeFilter(drop)
        with suppress(ValueError):
            filters.remove(rule)


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
