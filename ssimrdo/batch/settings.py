"""What a batch is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

from ssimrdo.batch.names import check_template
from ssimrdo.encoding.settings import MAX_THREADS, EncodeSettings
from ssimrdo.errors import InputError
from ssimrdo.video import CONTAINERS

DEFAULT_SUFFIX = ".mp4"


def _one_thread() -> EncodeSettings:
    return EncodeSettings(threads=1)


@dataclass(frozen=True)
class BatchSettings:
    """How a batch runs.

    Parameters
    ----------
    encode : EncodeSettings
        How each series is encoded. x264's output depends on its number of threads, so a batch
        uses one per job unless told otherwise: outputs are the same on any machine.
    jobs : int, optional
        Series encoded at once on this machine; as many as the cores allow when None, and never
        more.
    dask : str, optional
        Address of a Dask scheduler, or "local"; processes of this machine when None.
    suffix : str
        Of the outputs: ``.mp4``, ``.mkv`` or ``.h264``.
    name_template : str, optional
        Names of the outputs without suffix, see :mod:`ssimrdo.batch.names`; the tree of the
        series is mirrored when None.
    skip_bad : bool
        Leave out damaged files instead of failing their series.
    timeout_s : float, optional
        Seconds that a series may take.
    fail_fast : bool
        Start no more series once one has failed.
    retry_failed : bool
        Encode series again that failed before.
    inside_root : bool
        Allow outputs below the folder that is searched.

    Raises
    ------
    InputError
        If a value is out of range or the template has fields that are not safe.
    """

    encode: EncodeSettings = field(default_factory=_one_thread)
    jobs: int | None = None
    dask: str | None = None
    suffix: str = DEFAULT_SUFFIX
    name_template: str | None = None
    skip_bad: bool = False
    timeout_s: float | None = None
    fail_fast: bool = False
    retry_failed: bool = False
    inside_root: bool = False

    def __post_init__(self) -> None:
        if self.encode.threads == 0:
            object.__setattr__(self, "encode", replace(self.encode, threads=1))
        if self.jobs is not None and not 1 <= self.jobs <= MAX_THREADS:
            raise InputError(f"--jobs {self.jobs} is out of range: 1 to {MAX_THREADS}")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise InputError(f"--timeout {self.timeout_s:g} is out of range: above 0 seconds")
        if self.suffix not in CONTAINERS:
            raise InputError(
                f"--suffix {self.suffix!r} is unknown: use one of {', '.join(CONTAINERS)}"
            )
        if self.name_template is not None:
            check_template(self.name_template)

    @property
    def workers(self) -> int:
        """Processes on this machine: as asked for, within what the cores allow."""
        most = max(_cores() // self.encode.threads, 1)
        return most if self.jobs is None else min(self.jobs, most)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
