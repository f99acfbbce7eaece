"""What an experiment is and what it returns, and where all of them are found.

An experiment is one :class:`Experiment` in a file of its own, called like the module that holds it
with underscores for hyphens. Its module is imported when it is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ssimrdo.observer import Observer

Cell: TypeAlias = "str | float | int | None"
"""What stands in a table; None is a number that is not defined or not at hand."""


@dataclass(frozen=True)
class LabSettings:
    """How experiments are run.

    Parameters
    ----------
    quick : bool
        A small version: smaller images, fewer points. Its numbers are not those of a full run.
    seed : int
        Of all that is random; the same seed gives the same numbers.
    ct_folder : Path, optional
        A folder with a CT series in each folder, for the experiments that can use real slices;
        without one they use the phantom alone.
    """

    quick: bool = False
    seed: int = 0
    ct_folder: Path | None = None


@dataclass(frozen=True)
class Panel:
    """One picture of an experiment.

    Parameters
    ----------
    name : str
        Part of the file's name behind that of the experiment.
    caption : str
        What it shows, in a sentence or two.
    svg : str
        The picture, from :func:`ssimrdo.lab.drawing.svg`.
    wide : bool
        Whether it takes the whole width of the page.
    """

    name: str
    caption: str
    svg: str
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """Numbers of an experiment: a CSV file, and a table on the page.

    Parameters
    ----------
    name : str
        Part of the file's name behind that of the experiment; empty for the only one.
    caption : str
        What the numbers are.
    heads : sequence of str
        Of the columns, with units.
    rows : sequence of sequence of Cell
        Plain numbers, not rounded.
    digits : int
        Significant digits that the page shows.
    shown : bool
        Whether the page shows it unfolded.
    """

    name: str
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    digits: int = 4
    shown: bool = False


@dataclass(frozen=True)
class Finding:
    """One claim of a paper beside what an experiment shows of it.

    Parameters
    ----------
    subject : str
        What it is about.
    paper : str
        What the paper found; says so where its number is not at hand.
    ours : str
        What this run shows.
    verdict : str
        In a word or two: whether both agree.
    """

    subject: str
    paper: str
    ours: str
    verdict: str


@dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    Parameters
    ----------
    method : sequence of str
        Paragraphs: what was done, and what differs from the paper.
    findings : sequence of Finding
        The paper beside this run.
    reading : sequence of str
        Paragraphs: what it means for who reads such numbers of CT, and what it does not mean.
    panels : sequence of Panel
        Pictures.
    tables : sequence of Table
        Data.
    numbers : mapping of str to number
        The few numbers that the text speaks of, for JSON.
    """

    method: Sequence[str]
    findings: Sequence[Finding]
    reading: Sequence[str]
    panels: Sequence[Panel]
    tables: Sequence[Table]
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """One study that the laboratory re-creates.

    Parameters
    ----------
    name : str
        What the command line calls it.
    title : str
        Heading.
    source : str
        What it re-creates, such as a figure of a paper.
    run : callable
        Does it: takes the settings and an observer, which may cancel.
    needs : tuple of str
        Optional libraries, as imported, that it cannot do without.
    uses_ct : bool
        Whether it takes real slices where there are some.
    """

    name: str
    title: str
    source: str
    run: Callable[[LabSettings, Observer], Outcome]
    needs: tuple[str, ...] = ()
    uses_ct: bool = False
