"""Runs experiments and writes what they found: pictures, data, texts and one page."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ssimrdo import lab
from ssimrdo.comparison.series import without_paths
from ssimrdo.errors import CancelledError, InputError, SsimrdoError
from ssimrdo.executors import unexpected
from ssimrdo.extras import require
from ssimrdo.files import check_folder_free, whole_folder
from ssimrdo.lab.experiment import Experiment, LabSettings, Outcome, Table
from ssimrdo.lab.series import real_series
from ssimrdo.observer import Event, Observer
from ssimrdo.text import table_cell

PAGE: Final = "lab.html"

SUMMARY: Final = "lab.json"

ALL: Final = "all"
"""Stands for every experiment."""

_WIDTH: Final = 100


@dataclass(frozen=True)
class Result:
    """One experiment that was run, or left out.

    Parameters
    ----------
    experiment : Experiment
        Which.
    outcome : Outcome, optional
        What it found; None if it was left out.
    skipped : str
        Why it was left out; empty if it was not.
    seconds : float
        Wall time.
    is_failed : bool
        Whether it was left out because it failed.
    """

    experiment: Experiment
    outcome: Outcome | None
    skipped: str = ""
    seconds: float = 0.0
    is_failed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as JSON types."""
        return {
            "title": self.experiment.title,
            "source": self.experiment.source,
            "skipped": self.skipped or None,
            "failed": self.is_failed,
            "seconds": round(self.seconds, 1),
            "findings": []
            if self.outcome is None
            else [dataclasses.asdict(one) for one in self.outcome.findings],
            "numbers": {} if self.outcome is None else plain(self.outcome.numbers),
        }


def run_lab(
    names: Sequence[str | Experiment],
    settings: LabSettings | None = None,
    *,
    observer: Observer | None = None,
    finished: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Run experiments one after another.

    Parameters
    ----------
    names : sequence of str or Experiment
        Experiments, by name or themselves. Where there are several, one that fails or lacks an
        optional library is left out with a sentence that says so.
    settings : LabSettings, optional
        How; in full, without real slices, by default.
    observer : Observer, optional
        Is told which experiment begins and how many are done, and what happens within; may cancel.
    finished : callable, optional
        Is told every result.

    Raises
    ------
    InputError
        If a name is unknown, the only experiment lacks a library, or the folder of real series is
        none.
    CancelledError
        If the observer cancels.
    SsimrdoError
        If the only experiment fails.
    """
    settings, observer = settings or LabSettings(), observer or Observer()
    experiments = [one if isinstance(one, Experiment) else lab.get(one) for one in names]
    require("matplotlib", "jinja2", what="lab")
    if any(experiment.uses_ct for experiment in experiments):
        real_series(settings.ct_folder)
    results = []
    for done, experiment in enumerate(experiments):
        observer.check()
        observer.tell(Event(done, len(names), experiment.name))
        within = _within(observer, done, len(names), experiment.name)
        if len(names) == 1:
            require(*experiment.needs, what=experiment.name)
            result = _run(experiment, settings, within)
        else:
            result = _tried(experiment, settings, within)
        if finished is not None:
            finished(result)
        results.append(result)
    return results


def _tried(experiment: Experiment, settings: LabSettings, observer: Observer) -> Result:
    """Return what an experiment found, or why it was left out."""
    try:
        require(*experiment.needs, what=experiment.name)
    except InputError as error:
        return Result(experiment, None, f"Left out: {error}.")
    try:
        return _run(experiment, settings, observer)
    except CancelledError:
        raise
    except SsimrdoError as error:
        # Neither files nor UIDs, which may tell whom.
        reason = without_paths(error, settings.ct_folder or Path(), "the folder")
        return Result(experiment, None, f"Failed: {reason}.", is_failed=True)
    except Exception as error:
        # Others have taken long.
        return Result(experiment, None, f"Failed: {unexpected(error)}.", is_failed=True)


def _run(experiment: Experiment, settings: LabSettings, observer: Observer) -> Result:
    begin = time.perf_counter()
    outcome = experiment.run(settings, observer)
    return Result(experiment, outcome, seconds=time.perf_counter() - begin)


def _within(observer: Observer, done: int, total: int, name: str) -> Observer:
    """Return an observer that tells what an experiment does as a part of all."""

    def tell(event: Event) -> None:
        observer.tell(Event(done, total, f"{name}: {event.what} {event.done}/{event.total}"))

    return Observer(tell, observer.cancel)


def write_lab(
    results: Sequence[Result],
    folder: Path,
    settings: LabSettings,
    *,
    overwrite: bool = False,
) -> list[str]:
    """Write pictures, data, texts and the page to a folder, whole or not at all.

    Returns
    -------
    list of str
        Names of the files.

    Raises
    ------
    InputError
        If the folder is not free; see :func:`ssimrdo.files.check_folder_free`.
    OSError
        If writing fails.
    """
    from ssimrdo.lab.page import page

    files: dict[str, str] = {}
    for result in results:
        files |= dict(_files(result))
    files[SUMMARY] = json.dumps(summary(results, settings), indent=1) + "\n"
    files[PAGE] = page(results, settings)
    check_folder_free(folder, overwrite=overwrite)
    with whole_folder(folder, overwrite=overwrite) as staged:
        for name, text in files.items():
            (staged / name).write_text(text, encoding="utf-8", newline="")
    return list(files)


def summary(results: Sequence[Result], settings: LabSettings) -> dict[str, Any]:
    """Return what was found, as JSON types."""
    return {
        "quick": settings.quick,
        "seed": settings.seed,
        "experiments": {result.experiment.name: result.as_dict() for result in results},
    }


def _files(result: Result) -> Iterator[tuple[str, str]]:
    name, outcome = result.experiment.name, result.outcome
    yield f"{name}.txt", text_of(result)
    if outcome is None:
        return
    for panel in outcome.panels:
        yield f"{name}-{panel.name}.svg", panel.svg
    for table in outcome.tables:
        yield file_of(name, table), csv_of(table)


def file_of(name: str, table: Table) -> str:
    """Return what the file of a table of an experiment is called."""
    return f"{name}-{table.name}.csv" if table.name else f"{name}.csv"


def csv_of(table: Table) -> str:
    """Return a table as CSV; what is not defined is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([table_cell(head) for head in table.heads])
    for row in table.rows:
        writer.writerow(["" if cell is None else table_cell(plain(cell)) for cell in row])
    return stream.getvalue()


def text_of(result: Result) -> str:
    """Return what an experiment did and found, as text of lines that fit a terminal."""
    experiment, outcome = result.experiment, result.outcome
    lines = [experiment.title, "=" * len(experiment.title), experiment.source, ""]
    if outcome is None:
        return "\n".join([*lines, result.skipped, ""])
    lines += ["What was done", "-------------", *_paragraphs(outcome.method)]
    lines += ["The paper and this run", "----------------------"]
    for one in outcome.findings:
        lines += [f"{one.subject} ({one.verdict})"]
        for who, said in (("Paper", one.paper), ("Here", one.ours)):
            lines += textwrap.wrap(
                f"{who}: {said}", _WIDTH, initial_indent="  ", subsequent_indent="    "
            )
        lines.append("")
    lines += ["How to read it", "--------------", *_paragraphs(outcome.reading)]
    return "\n".join(lines)


def _paragraphs(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        yield from textwrap.wrap(text, _WIDTH)
        yield ""


def plain(value: Any) -> Any:
    """Return a value as JSON types; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
