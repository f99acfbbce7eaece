"""What a batch is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ssimrdo.batch.ct import SUFFIX as CT_SUFFIX
from ssimrdo.batch.ct import CTSettings
from ssimrdo.batch.names import check_template
from ssimrdo.encoding.dicom_video import check_settings
from ssimrdo.encoding.options import MAX_THREADS
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.errors import InputError
from ssimrdo.machine import cores
from ssimrdo.video.mux import DICOM, container_of

DEFAULT_SUFFIX: Final = ".mp4"


def _one_thread() -> EncodeSettings:
    return EncodeSettings(threads=1)


@dataclass(frozen=True)
class BatchSettings:
    """How a batch runs.

    Parameters
    ----------
    encode : EncodeSettings or CTSettings
        How each series is encoded: to a video, or to a folder of lossy CT images. x264's output
        depends on its number of threads, so a batch uses one per job unless told otherwise:
        outputs are the same on any machine.
    jobs : int, optional
        Series encoded at once on this machine; as many as the cores allow when None, and never
        more.
    dask : str, optional
        Address of a Dask scheduler, or "local"; processes of this machine when None.
    suffix : str
        Of the outputs: one of those that the codec's streams go into, such as ``.mp4``, or ``.dcm``
        for DICOM objects; folders of CT images end in ``.ct``.
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
    keep_older : bool
        Keep outputs of an older model, which would give other bytes today, instead of encoding
        their series again.
    inside_root : bool
        Allow outputs below the folder that is searched.
    volumes : bool
        Take files of NIfTI and NumPy as well; whether they hold HU nobody can tell from them.

    Raises
    ------
    InputError
        If a value is of a wrong type or out of range, or the template has fields that are not
        safe; the error names the field.
    """

    encode: EncodeSettings | CTSettings = field(default_factory=_one_thread)
    jobs: int | None = None
    dask: str | None = None
    suffix: str = DEFAULT_SUFFIX
    name_template: str | None = None
    skip_bad: bool = False
    timeout_s: float | None = None
    fail_fast: bool = False
    retry_failed: bool = False
    keep_older: bool = False
    inside_root: bool = False
    volumes: bool = False

    def __post_init__(self) -> None:
        _check_types(self)
        if isinstance(self.encode, EncodeSettings) and self.encode.threads == 0:
            object.__setattr__(self, "encode", replace(self.encode, threads=1))
        if self.jobs is not None and not 1 <= self.jobs <= MAX_THREADS:
            raise InputError(
                f"{self.jobs} is out of range", field="jobs", remedy=f"use 1 to {MAX_THREADS}"
            )
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise InputError(
                f"{self.timeout_s:g} is out of range", field="timeout_s", remedy="above 0 seconds"
            )
        if isinstance(self.encode, CTSettings):
            if self.suffix not in (DEFAULT_SUFFIX, CT_SUFFIX):
                raise InputError("is for videos", field="suffix", remedy="leave it out")
            object.__setattr__(self, "suffix", CT_SUFFIX)
            if self.volumes:
                raise InputError(
                    "CT images are made of DICOM alone", field="volumes", remedy="leave it out"
                )
        else:
            check_suffix(self.suffix, self.encode)
        if self.name_template is not None:
            check_template(self.name_template)

    @property
    def workers(self) -> int:
        """Processes on this machine: as asked for, within what the cores allow."""
        most = max(cores() // self.encode.threads, 1)
        return most if self.jobs is None else min(self.jobs, most)


def check_suffix(suffix: str, settings: EncodeSettings, *, field: str = "suffix") -> None:
    """Check that videos may be written to files with a suffix.

    Parameters
    ----------
    suffix : str
        Such as ``.mp4``.
    settings : EncodeSettings
        How to encode.
    field : str
        The option that is to blame if they do not go together.

    Raises
    ------
    InputError
        If it is none of the codec's, or DICOM has no place for such videos.
    """
    try:
        container = container_of(Path(f"video{suffix}"), settings.codec)
    except InputError as error:
        raise InputError(
            f"{settings.codec.name} does not go into {suffix!r:.40}",
            field=field,
            remedy=error.remedy,
        ) from None
    if container == DICOM:
        check_settings(settings)


def _check_types(settings: BatchSettings) -> None:
    kinds: tuple[tuple[str, Any, str], ...] = (
        ("encode", EncodeSettings | CTSettings, "made of settings of an encode"),
        ("jobs", int | None, "a whole number"),
        ("dask", str | None, "a text"),
        ("suffix", str, "a text"),
        ("name_template", str | None, "a text"),
        ("timeout_s", int | float | None, "a number"),
    )
    for name, kind, what in kinds:
        value = getattr(settings, name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{value!r:.60} is not {what}", field=name)
