"""Jobs that write a series as lossy CT images: a folder of slices, and its record beside it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ssimrdo
from ssimrdo import metrics
from ssimrdo.dicom import Window
from ssimrdo.dicom.write.lossy import LOSSY_CODECS
from ssimrdo.encoding.options import read_flag, read_window
from ssimrdo.errors import InputError
from ssimrdo.files import write_whole
from ssimrdo.record.sidecar import MODEL, SCHEMA, sidecar_path
from ssimrdo.text import printable

if TYPE_CHECKING:
    from ssimrdo.batch.store import Files
    from ssimrdo.encoding.ct_series import CTGoal, CTResult
    from ssimrdo.observer import Observer

SUFFIX: Final = ".ct"
"""Of the folders; other series may lie in folders below one that holds slices."""

ONLY_CT: Final = ("max_hu_error", "syntax")
"""Options that videos have not."""

_GOALS: Final = ("min", "min_ssim", "over", "max_hu_error")


def _goal() -> CTGoal:
    from ssimrdo.encoding.ct_series import CTGoal

    return CTGoal()


@dataclass(frozen=True)
class CTSettings:
    """How a series is written as lossy CT images; :meth:`of` makes them from options.

    Parameters
    ----------
    goal : CTGoal
        What every slice keeps.
    window : Window, optional
        In which quality is measured; the header's own when None.
    syntax : {"htj2k", "j2k"}
        Codec.
    strict : bool
        Refuse series of which slices are missing, or whose slices lie unevenly.

    Raises
    ------
    InputError
        If the codec is unknown.
    """

    goal: CTGoal = field(default_factory=_goal)
    window: Window | None = None
    syntax: str = next(iter(LOSSY_CODECS))
    strict: bool = False
    threads: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.syntax not in LOSSY_CODECS:
            raise InputError(
                f"{self.syntax!r:.60} is unknown",
                field="syntax",
                remedy=f"use one of {', '.join(LOSSY_CODECS)}",
            )

    @classmethod
    def of(cls, **options: Any) -> CTSettings:
        """Return the settings of options as ``encode --as ct`` has them; None is not given.

        Raises
        ------
        InputError
            If an option has no meaning here, or its value cannot be used.
        """
        from ssimrdo.encoding.ct_series import ct_goal

        given = {name: value for name, value in options.items() if value is not None}
        others: dict[str, Any] = {}
        for name, read in (("window", read_window), ("syntax", str), ("strict", read_flag)):
            if name in given:
                try:
                    others[name] = read(given.pop(name))
                except ValueError as error:
                    raise InputError(str(error), field=name) from None
        return cls(ct_goal(given, given.pop("max_hu_error", None)), **others)

    def changed(self, options: Mapping[str, Any]) -> CTSettings:
        """Return settings in which some options take the place of those that they exclude."""
        given = {name: value for name, value in options.items() if value is not None}
        kept = self.as_options()
        if any(name in given for name in _GOALS):
            kept = {name: value for name, value in kept.items() if name not in _GOALS}
        return CTSettings.of(**{**kept, **given})

    def as_options(self) -> dict[str, Any]:
        """Return the options that :meth:`of` makes these settings from."""
        floor = self.goal.floor
        options = {
            "min": None if floor is None else (floor.index, floor.value),
            "max_hu_error": self.goal.max_hu_error,
            "window": self.window,
            "syntax": self.syntax,
            "strict": self.strict or None,
        }
        return {name: value for name, value in options.items() if value is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON types."""
        floor = self.goal.floor
        return {
            "as": "ct",
            "min": None if floor is None else f"{floor.index}={floor.value:.15g}",
            "max_hu_error": self.goal.max_hu_error,
            "window": self.window and self.window.as_dict(),
            "syntax": self.syntax,
            "strict": self.strict,
            "threads": self.threads,
        }


def write_ct(
    series: Path,
    output: Path,
    settings: CTSettings,
    *,
    files: Files,
    series_uid: str | None,
    skip_bad: bool,
    observer: Observer | None,
    note: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a series, then its record beside the folder; return the record.

    Whoever finds the record finds the whole folder. Arguments, and errors, are those of
    :func:`ssimrdo.encoding.ct_series.encode_ct`; ``note`` stands in the record as well.
    """
    from ssimrdo.encoding.ct_series import encode_ct

    path = sidecar_path(output)
    path.unlink(missing_ok=True)
    result = encode_ct(
        series,
        output,
        settings.goal,
        window=settings.window,
        syntax=settings.syntax,
        files=files,
        series_uid=series_uid,
        skip_bad=skip_bad,
        strict=settings.strict,
        overwrite=True,
        observer=observer,
        threads=settings.threads,
    )
    record = {**_record(result, settings), **note}
    write_whole(path, (json.dumps(record, indent=1) + "\n").encode(), overwrite=True)
    return record


def _record(result: CTResult, settings: CTSettings) -> dict[str, Any]:
    """Return what is told of the folder: names of files of the source stay out."""
    first = metrics.get(metrics.SSIM.name)
    values = [row[first.name] * first.sign for row in result.per_slice]
    reasons = Counter(file.reason for file in result.skipped)
    return {
        "schema": SCHEMA,
        "version": ssimrdo.__version__,
        "model": MODEL,
        **result.as_dict(),
        "output": printable(Path(result.output).name),
        "frames": result.slices,
        "width": result.columns,
        "height": result.rows,
        "bit_depth": 16,
        "kbps": None,
        "worst_slice": values.index(min(values)),
        "seconds": {"total": result.seconds},
        "skipped": [{"reason": reason, "files": files} for reason, files in reasons.items()],
        "settings": settings.as_dict(),
    }
