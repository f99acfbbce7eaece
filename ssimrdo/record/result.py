"""What an encode reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ssimrdo import metrics
from ssimrdo.dicom import Geometry, SkippedFile, Window
from ssimrdo.dicom.spacing import Spacing
from ssimrdo.notebook import data_frame, html_list, html_table
from ssimrdo.record.ct import SeriesRecord
from ssimrdo.record.summary import SliceSummary
from ssimrdo.record.tissue import QualityWarning, TissueSummary
from ssimrdo.text import counted

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class WindowUsed:
    """The window that grey levels were made with, in HU."""

    center: float
    width: float


@dataclass(frozen=True, slots=True)
class GreyMapping:
    """From HU to luma.

    Parameters
    ----------
    center, width : float
        Window in HU.
    function : str
        VOI LUT Function: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``.
    inverted : bool
        Whether the lowest HU are shown white.
    bit_depth : int
        Bits per luma sample, full range.
    """

    center: float
    width: float
    function: str
    inverted: bool
    bit_depth: int


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall time per step.

    Slices are read and analysed beside encoding, so steps may add up to more than the total.
    """

    load: float
    analyse: float
    encode: float
    verify: float
    total: float


@dataclass(frozen=True, slots=True)
class CodecUsed:
    """The encoder.

    Parameters
    ----------
    name, label, version : str
        As of :class:`ssimrdo.codecs.base.Codec`.
    settings : str
        All settings in effect, as the encoder records them in the stream.
    """

    name: str
    label: str
    version: str
    settings: str


@dataclass(frozen=True, slots=True)
class SearchInfo:
    """What the search for the smallest file with a quality found.

    Parameters
    ----------
    index : str
        Name of the quality index.
    goal, reached : float
        Its value asked for and reached, over slices as ``over`` says.
    over : str
        ``worst``, ``mean`` or ``p5``.
    crf : float
        CRF of the file.
    raised_slices : int
        Slices that have a finer quantizer than the CRF gives.
    encodes : int
        How many encodes it took, the file's own among them.
    payload_bytes : int
        Size of the video without its container.
    plain_crf : float
        The highest CRF found that reaches the goal without raising any slice.
    plain_payload_bytes : int
        Size of the video at that CRF.
    """

    index: str
    goal: float
    reached: float
    over: str
    crf: float
    raised_slices: int
    encodes: int
    payload_bytes: int
    plain_crf: float
    plain_payload_bytes: int

    @property
    def saved_percent(self) -> float:
        """How much smaller the file's video is than at the plain CRF."""
        return 100 * (1 - self.payload_bytes / self.plain_payload_bytes)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types; for SSIM also under the names of schema 1."""
        record = {**dataclasses.asdict(self), "saved_percent": self.saved_percent}
        if self.index == metrics.SSIM.name:
            record |= {"min_ssim": self.goal, "ssim": self.reached, "target": self.over}
        return record


@dataclass(frozen=True)
class WindowQuality:
    """What slices look like through a window other than their own.

    Parameters
    ----------
    window : Window
        The window.
    quality : mapping of str to SliceSummary
        Quality of the decoded slices, by index.
    tissue : TissueSummary
        Errors by tissue.
    """

    window: Window
    quality: Mapping[str, SliceSummary]
    tissue: TissueSummary

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "window": self.window.as_dict(),
            **{name: summary.as_dict() for name, summary in self.quality.items()},
            "tissue": self.tissue.as_dict(),
        }


@dataclass(frozen=True)
class EncodeResult:
    """What came out of an encode.

    Parameters
    ----------
    output : str
        Path of the video file, as the user gave it.
    frames : int
        Number of slices in it.
    width, height : int
        Size as a player shows it, in samples.
    grey : GreyMapping, optional
        From HU to luma; None where luma was given.
    fps : str
        Slices per second, such as ``25`` or ``25/2``.
    bytes : int
        Size of the file.
    kbps : float
        Bit rate of the video payload at the frame rate, in 1000 bits per second.
    quality : mapping of str to SliceSummary
        Quality of the decoded slices, by index.
    worst_slice : int
        Index of the slice with the worst of the first quality index, SSIM, from 0.
    seconds : Seconds
        Wall time.
    codec : CodecUsed
        The encoder and its settings.
    objective : str, optional
        Name of what bits were spent for.
    geometry : Geometry
        Where the slices lie.
    slices : tuple of mapping
        One for each slice: its ``number`` from 1, ``position_mm`` along the normal or None,
        ``frame_type``, ``bytes``, every index, ``ssim_body`` and ``max_error_body``: SSIM and
        largest error inside the body, the latter in the unit of ``tissue``, or None.
    skipped : tuple of SkippedFile
        Files that were left out, with the reason.
    search : SearchInfo, optional
        What was found where a quality was asked for in place of a rate.
    bit_depth : int
        Bits per luma sample.
    asked_kbps : float, optional
        The bit rate where one was asked for.
    window_source : {"option", "preset", "header", "fallback"}, optional
        Where the window comes from; None where luma was given.
    header_windows : mapping of Window to int
        How many slices of a series come with each window.
    tissue : TissueSummary, optional
        Errors by tissue.
    windows : tuple of WindowQuality
        What the slices look like through the windows that were protected.
    warnings : tuple of QualityWarning
        What to be warned of.
    series : SeriesRecord, optional
        What it takes to make CT slices again; None where that is not known.
    spacing : Spacing
        The steps between the slices.
    source_bytes : int, optional
        Size of the files that the slices come from; None where they come from none of their own.
    """

    output: str
    frames: int
    width: int
    height: int
    bit_depth: int
    fps: str
    bytes: int
    kbps: float
    quality: Mapping[str, SliceSummary]
    worst_slice: int
    seconds: Seconds
    codec: CodecUsed
    objective: str | None
    grey: GreyMapping | None = None
    geometry: Geometry = field(default_factory=Geometry)
    slices: tuple[Mapping[str, Any], ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    search: SearchInfo | None = None
    asked_kbps: float | None = None
    window_source: str | None = None
    header_windows: Mapping[Window, int] = field(default_factory=dict)
    tissue: TissueSummary | None = None
    windows: tuple[WindowQuality, ...] = ()
    warnings: tuple[QualityWarning, ...] = ()
    series: SeriesRecord | None = None
    spacing: Spacing = field(default_factory=Spacing)
    source_bytes: int | None = None

    @property
    def ssim(self) -> SliceSummary:
        """SSIM over the slices."""
        return self.quality[metrics.SSIM.name]

    @property
    def window(self) -> WindowUsed | None:
        """The window used."""
        return None if self.grey is None else WindowUsed(self.grey.center, self.grey.width)

    @property
    def bitrate_error_percent(self) -> float | None:
        """By how much the bit rate asked for was missed; positive where the file is larger."""
        return None if self.asked_kbps is None else 100 * (self.kbps / self.asked_kbps - 1)

    def __repr__(self) -> str:
        # Not the output, whose path may tell whose series it is.
        qualities = ", ".join(f"{name}={one.mean:.5g}" for name, one in self.quality.items())
        return f"EncodeResult({counted(self.frames, 'slice')}, {self.kbps:.1f} kbit/s, {qualities})"

    def _repr_html_(self) -> str:
        facts = [("slices", self.frames), ("size", f"{self.width}×{self.height}")]
        if self.grey is not None:
            facts.append(("window", f"{self.grey.center:g}/{self.grey.width:g} HU"))
        facts += [
            ("file", f"{self.bytes / 1000:,.0f} kB"),
            ("rate", f"{self.kbps:,.0f} kbit/s at {self.fps} slices per second"),
            ("encoded by", f"{self.codec.label}, {self.objective or 'no objective'}"),
        ]
        tissue = "" if self.tissue is None else self.tissue.html()
        warnings = html_list(warning.text for warning in self.warnings)
        return html_table("Encode", (), facts) + _quality_html(self.quality) + tissue + warnings

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a data frame with a row for each slice, as ``slices`` has them.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        return data_frame(self.slices)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON types, as docs/json.md describes them.

        Geometry, grey mapping and single slices are in the sidecar.
        """
        window = self.window
        record: dict[str, Any] = {
            "output": self.output,
            "frames": self.frames,
            "width": self.width,
            "height": self.height,
            "bit_depth": self.bit_depth,
            "window": window and dataclasses.asdict(window),
            "window_source": self.window_source,
            "header_windows": [
                {**one.as_dict(), "slices": slices} for one, slices in self.header_windows.items()
            ],
            "bytes": self.bytes,
            "kbps": self.kbps,
            "source_bytes": self.source_bytes,
            **{name: summary.as_dict() for name, summary in self.quality.items()},
            "tissue": self.tissue and self.tissue.as_dict(),
            "windows": [one.as_dict() for one in self.windows],
            "warnings": [dataclasses.asdict(warning) for warning in self.warnings],
            "spacing": self.spacing.as_dict(),
            "worst_slice": self.worst_slice,
            "worst_slice_number": self.worst_slice + 1,
            "seconds": dataclasses.asdict(self.seconds),
            "codec": dataclasses.asdict(self.codec),
            "objective": self.objective,
            "skipped": [_skipped(file) for file in self.skipped],
        }
        if self.codec.name == "x264":
            build = self.codec.version.removeprefix("x264 ")
            record["x264"] = {"build": build, "settings": self.codec.settings}
        if self.asked_kbps is not None:
            record |= {
                "asked_kbps": self.asked_kbps,
                "bitrate_error_percent": self.bitrate_error_percent,
            }
        if self.search is not None:
            record["search"] = self.search.as_dict()
        return record


def _quality_html(quality: Mapping[str, SliceSummary]) -> str:
    rows = []
    for name, one in quality.items():
        index = metrics.get(name)
        unit, digits = f" {index.unit}" if index.unit else "", index.decimals
        values = (f"{one.mean:.{digits}f}{unit}", f"{one.worst:.{digits}f}{unit}")
        rows.append((index.title, *values, one.worst_number))
    return html_table("Quality", ("", "mean", "worst", "worst slice"), rows)


def _skipped(file: SkippedFile) -> dict[str, str]:
    record = {"path": file.path, "reason": file.reason}
    return record if file.duplicate_of is None else {**record, "duplicate_of": file.duplicate_of}
