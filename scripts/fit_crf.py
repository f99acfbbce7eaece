"""Fit θ_ref of the objectives to x264's CRF; print a table in Markdown.

Every series of $SSIMRDO_CT_DATA and the phantom, in two windows each, is encoded by stock x264
(`--preset medium`, no tune) and by ssimrdo at the same CRFs. Between these, mean SSIM is
interpolated over CRF. One shift of the CRF for all clips minimises the squared differences of mean
SSIM at CRF 18, 23 and 28; as a factor of θ_ref it is 2^(shift / 3 s), since
ΔQP = 3 s log2(θ_ref / θ). CRF_MATCH in the objective's file times this factor is suggested; of HEVC
(`--codec hevc`) the shift itself, on top of crf_shift in `codecs/x265/effort.py`. Of AV1
(`--codec av1`), which follows no objective and has a scale of its own, it is a line in place of a
shift: CRF_SLOPE and CRF_OFFSET in `codecs/av1.py`.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from benchmark_clips import (
    chosen_series,
    compare_windowed,
    folder_name,
    windowed_series,
)
from benchmark_script import compared, messages_to_stderr
from benchmark_tables import table
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import minimize, minimize_scalar

from ssimrdo import objective as objectives
from ssimrdo.cli.options import flag_of
from ssimrdo.codecs.av1 import CRF_OFFSET, CRF_SLOPE
from ssimrdo.codecs.named import named_codec
from ssimrdo.codecs.names import AV1, CODEC, CODECS, HEVC
from ssimrdo.codecs.x264.choices import EFFORT
from ssimrdo.codecs.x264.effort import EFFORTS
from ssimrdo.codecs.x265.effort import EFFORTS as HEVC_EFFORTS
from ssimrdo.comparison import CompareSettings, ComparisonReport
from ssimrdo.dicom.grey import parse_window
from ssimrdo.encoding.options import BIT_DEPTH
from ssimrdo.errors import InputError, SsimrdoError
from ssimrdo.frames import MACROBLOCK, FrameFormat
from ssimrdo.html.text import MISSING, percent, signed
from ssimrdo.objective import OFF, reference_theta

CRFS: Final = (18.0, 23.0, 28.0, 33.0)
FITTED_CRFS: Final = CRFS[:3]
"""Where SSIM is to agree; the last one is there to interpolate to."""

STOCK: Final = "x264"
SLICES: Final = 24
LARGEST_SHIFT: Final = 5.0
"""From CRF to CRF of what is encoded; farther on is nothing to interpolate between."""

EXIT_SOME_FAILED: Final = 3

Figures: TypeAlias = NDArray[np.float64]

Shift: TypeAlias = float | Figures
"""Of the CRF, in CRF steps: one for all fitted CRFs, or one for each."""


@dataclass(frozen=True)
class ClipCurves:
    """One clip encoded by stock x264 and by ssimrdo, both at :data:`CRFS`.

    Parameters
    ----------
    name : str
        Of the series, and its window behind a space.
    stock_ssim, our_ssim : tuple of float
        Mean SSIM over slices.
    stock_bytes, our_bytes : tuple of int
        Sizes.
    """

    name: str
    stock_ssim: tuple[float, ...]
    our_ssim: tuple[float, ...]
    stock_bytes: tuple[int, ...]
    our_bytes: tuple[int, ...]

    @property
    def series(self) -> str:
        """What the clip is of; several windows of one series have one name."""
        return folder_name(self.name)

    @cached_property
    def _our_curve(self) -> PchipInterpolator:
        return PchipInterpolator(CRFS, self.our_ssim)

    def differences(self, shift: Shift = 0.0) -> Figures:
        """Return our mean SSIM minus x264's at :data:`FITTED_CRFS`.

        Parameters
        ----------
        shift : float, or ndarray of shape (fitted CRFs,)
            By how much our CRF is above x264's; below the lowest CRF the curve is extrapolated.
        """
        ours = self._our_curve(np.add(FITTED_CRFS, shift))
        return np.asarray(ours - np.array(self.stock_ssim[: len(FITTED_CRFS)]), np.float64)


def fitted_shift(clips: Sequence[ClipCurves]) -> float:
    """Return the shift of the CRF whose squared differences of SSIM are least."""
    bounds = (-LARGEST_SHIFT, LARGEST_SHIFT)
    return float(minimize_scalar(partial(_loss, clips), bounds=bounds, method="bounded").x)


def fitted_shifts(clips: Sequence[ClipCurves]) -> Figures:
    """Return the shifts that lie on one line over x264's CRF and fit best."""

    def shifts(line: Figures) -> Figures:
        return np.polyval(line, FITTED_CRFS).astype(np.float64)

    def loss(line: Figures) -> float:
        return _loss(clips, shifts(line))

    return shifts(minimize(loss, (0.0, 0.0), method="Nelder-Mead").x)


def _loss(clips: Sequence[ClipCurves], shift: Shift) -> float:
    # The minimiser's tolerance is absolute, and squared differences are tiny.
    return float(sum(np.sum((1000 * clip.differences(shift)) ** 2) for clip in clips))


def reference_factor(shift: float, strength: float) -> float:
    """Return the factor of θ_ref that is as good as a shift of the CRF: 2^(shift / 3 s).

    Parameters
    ----------
    shift : float
        In CRF steps.
    strength : float
        s, above 0; see :func:`ssimrdo.codecs.x264.steering.qp_offset`.
    """
    return float(2 ** (shift / (3 * strength)))


def all_differences(clips: Sequence[ClipCurves], shift: Shift = 0.0) -> Figures:
    """Return :meth:`ClipCurves.differences` of all clips, of shape (clips, fitted CRFs)."""
    return np.array([clip.differences(shift) for clip in clips])


def left_out_differences(
    clips: Sequence[ClipCurves], fit: Callable[[Sequence[ClipCurves]], Shift] = fitted_shift
) -> Figures | None:
    """Return differences of every clip with the shift that is fitted on the other series.

    Parameters
    ----------
    clips : sequence of ClipCurves
        Of one series or more.
    fit : callable
        Returns the shift of clips.

    Returns
    -------
    ndarray of shape (clips, fitted CRFs), or None
        None where there is only one series.
    """
    if len({clip.series for clip in clips}) < 2:
        return None
    shifts = {
        name: fit([clip for clip in clips if clip.series != name])
        for name in {clip.series for clip in clips}
    }
    return np.array([clip.differences(shifts[clip.series]) for clip in clips])


def size_percent(clips: Sequence[ClipCurves]) -> Figures:
    """Return by how much ours are larger at :data:`FITTED_CRFS`: geometric mean over the clips."""
    count = len(FITTED_CRFS)
    logs = [
        np.log(np.divide(clip.our_bytes[:count], clip.stock_bytes[:count], dtype=np.float64))
        for clip in clips
    ]
    return np.asarray(100 * np.expm1(np.mean(logs, axis=0)), np.float64)


def curves_of(report: ComparisonReport, test: str) -> list[ClipCurves]:
    """Return the curves of one encoder of a report beside those of stock x264."""
    clips = []
    for one in report.compared:
        stock, ours = one.curves[STOCK], one.curves[test]
        clips.append(
            ClipCurves(
                one.name,
                stock_ssim=tuple(point.quality["ssim"].mean for point in stock),
                our_ssim=tuple(point.quality["ssim"].mean for point in ours),
                stock_bytes=tuple(point.bytes for point in stock),
                our_bytes=tuple(point.bytes for point in ours),
            )
        )
    return clips


def row(
    rdo: str, effort: str, clips: Sequence[ClipCurves], strength: float, codec: str = CODEC
) -> Sequence[str]:
    """Return a row of the table."""
    fit = fitted_shifts if codec == AV1 else fitted_shift
    shift = np.atleast_1d(fit(clips))
    in_use, suggested = _scales(rdo, effort, shift, strength, codec)
    if LARGEST_SHIFT - abs(shift).max() < 0.01:
        suggested += " (at the end of what is looked at: use it, and fit again)"
    return (
        rdo,
        effort,
        in_use,
        suggested,
        " / ".join(signed(one, 2) for one in shift),
        *ssim_texts(clips, all_differences(clips)),
        *ssim_texts(clips, all_differences(clips, shift)),
        *ssim_texts(clips, left_out_differences(clips, fit)),
        " / ".join(percent(value) for value in size_percent(clips)),
    )


def _scales(rdo: str, effort: str, shift: Figures, strength: float, codec: str) -> tuple[str, str]:
    """Return what makes a CRF mean what it means in x264, as it is and as a shift has it."""
    if codec == CODEC:
        match = match_in_use(rdo)
        return f"{match:.3f}", f"{match * reference_factor(shift[0], strength):.3f}"
    if codec == HEVC:
        in_use = HEVC_EFFORTS[effort].crf_shift
        return f"{in_use:.3f}", f"{in_use + shift[0]:.2f}"
    slope, offset = np.polyfit(FITTED_CRFS, CRF_SLOPE * (FITTED_CRFS + shift) + CRF_OFFSET, 1)
    return f"{CRF_SLOPE:g}, {CRF_OFFSET:g}", f"{slope:.2f}, {offset:.1f}"


HEADS: Final = (
    "objective",
    "effort",
    "CRF_MATCH, crf_shift, or CRF_SLOPE and CRF_OFFSET in use",
    "suggested",
    "shift of CRF",
    "ΔSSIM in use, mean",
    "largest",
    "ΔSSIM fitted, mean",
    "largest",
    "ΔSSIM left out, mean",
    "largest",
    f"size at CRF {' / '.join(f'{crf:g}' for crf in FITTED_CRFS)}",
)


def match_in_use(rdo: str) -> float:
    """Return θ_ref of an objective over :func:`ssimrdo.objective.reference_theta`."""
    frames = FrameFormat(MACROBLOCK, MACROBLOCK, BIT_DEPTH)
    return objectives.get(rdo).reference(frames) / reference_theta(data_range=frames.peak)


def ssim_texts(clips: Sequence[ClipCurves], differences: Figures | None) -> tuple[str, str]:
    """Return the mean at each CRF, and the difference farthest from 0 with its clip and CRF.

    Parameters
    ----------
    clips : sequence of ClipCurves
        What was compared.
    differences : ndarray of shape (clips, fitted CRFs), or None
        Of mean SSIM.
    """
    if differences is None:
        return MISSING, MISSING
    clip, crf = divmod(int(np.abs(differences).argmax()), differences.shape[1])
    means = " / ".join(signed(value, 4) for value in differences.mean(axis=0))
    largest = signed(differences[clip, crf], 4)
    return means, f"{largest} ({clips[clip].name} at {FITTED_CRFS[crf]:g})"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="fit_crf", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = objectives.names()
    add("--rdo", action="append", choices=names, help="only this objective; repeatable")
    add(
        "--effort",
        action="append",
        choices=EFFORTS,
        help=f"repeatable [default: {EFFORT}]",
    )
    add(
        "--codec",
        choices=CODECS,
        default=CODEC,
        help=f"what ssimrdo encodes to [default: {CODEC}]",
    )
    add("--series", action="append", default=[], metavar="NAME", help="only this; repeatable")
    add(
        "--window",
        action="append",
        default=[],
        metavar="WINDOW",
        help="for all series: auto (the header's own), CENTRE/WIDTH or a name; repeatable "
        "[default: auto, and per series soft-tissue, lung or bone, as docs/method.md has it]",
    )
    add(
        "--slices",
        type=int,
        default=SLICES,
        metavar="N",
        help=f"only the first N slices of each series [default: {SLICES}]",
    )
    add(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="encodes at a time; what the cache keeps of more is no good for timing [default: 1]",
    )
    add("--no-cache", action="store_true", help="encode everything anew")
    return parser.parse_args()


def fit(options: argparse.Namespace) -> int:
    """Encode, fit and print the table; 3 if a series had to be left out."""
    steerable = named_codec(options.codec).steerable
    variants = {
        f"{rdo},codec={options.codec},effort={effort}": (rdo, effort)
        for rdo in dict.fromkeys((options.rdo or objectives.names()) if steerable else (OFF,))
        for effort in dict.fromkeys(options.effort or (EFFORT,))
    }
    settings = CompareSettings(
        points=CRFS,
        anchors=(STOCK,),
        tests=tuple(variants),
        metrics=("ssim",),
        slices=options.slices,
        jobs=options.jobs,
    )
    windows = [parse_window(text) for text in options.window]
    clips = windowed_series(chosen_series(options.series, phantom=True), windows)

    def run(folders: Sequence[Path], one: CompareSettings) -> ComparisonReport:
        print(f"fit_crf: {one.window or 'own window'}, {len(folders)} series", file=sys.stderr)
        with compared(folders, one, options) as comparison:
            return comparison.report

    report = compare_windowed(clips, settings, run)
    strengths = {encoder.name: encoder.strength for encoder in report.encoders}
    rows = [
        row(rdo, effort, curves_of(report, test), strengths[test] or 0, options.codec)
        for test, (rdo, effort) in variants.items()
    ]
    names = ", ".join(f"{one.name} ({one.slices} slices)" for one in report.compared)
    print(f"Clips: {names}.\n\n{table(HEADS, rows)}")
    failed = len(report.compared) < len(report.series)
    return EXIT_SOME_FAILED if failed else 0


def main() -> int:
    """Run the fit and return the exit status."""
    options = parse_arguments()
    # Unwinds, so that temporary files go away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    messages_to_stderr("fit_crf")
    # What comparisons warn of is no matter here.
    logging.getLogger("ssimrdo.comparison.build").setLevel(logging.ERROR)
    try:
        return fit(options)
    except (SsimrdoError, OSError) as error:
        text = error.text(flag_of) if isinstance(error, SsimrdoError) else str(error)
        print(f"fit_crf: error: {' '.join(text.split())}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
