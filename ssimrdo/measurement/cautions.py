"""What to be warned of: where SSIM looks safe and something else does not.

docs/quality.md derives the limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Final

from ssimrdo.dicom import Window
from ssimrdo.measurement.results import Caution, SliceRow
from ssimrdo.record.tissue import LEAST_SSIM, MOST_ERROR, TissueSummary, quality_warnings

SAFE_SSIM: Final = 0.95
"""Mean SSIM of a slice from which on many would call it safe."""

MOST_UNSTABLE: Final = 0.5
"""Share of windows that may read near 1 whatever they hold: with half of them at 1 a mean of 0.95
leaves 0.9 to the others, which is the least that this tool lets pass inside the body."""

MOST_HIDDEN: Final = 0.5
"""Share of the squared error that may lie where SSIM barely sees it."""

LEAST_USED: Final = 0.25
"""Share of the range of levels that some sample has to exceed: two bits less than all of them."""

CAUTION_TITLES: Final = {
    "ssim_hides_error": "SSIM is safe where errors inside the body are not",
    "ssim_unstable": "SSIM cannot fall much in more than half of the windows",
    "ssim_insensitive": "SSIM barely sees more than half of the squared error",
    "range_not_used": "samples use less than a quarter of the data range",
    "index_undefined": "an index is not defined in some slices",
}
"""What they mean, by code; those of errors by tissue are in record/tissue.py."""

_LISTED: Final = 8


def cautions(
    rows: Sequence[SliceRow],
    tissue: TissueSummary | None,
    *,
    window: Window | None,
    unit: str,
    data_range: float,
    largest_share: float,
    region: str | None = None,
) -> tuple[Caution, ...]:
    """Return what to be warned of.

    Parameters
    ----------
    rows : sequence of SliceRow
        The slices.
    tissue : TissueSummary, optional
        Their errors by tissue.
    window : Window, optional
        The one that black and white are of.
    unit : str
        Of errors.
    data_range : float
        From black to white in that unit.
    largest_share : float
        The largest sample of all as a share of the range.
    region : str, optional
        The region that was measured.
    """
    found = []
    if tissue is not None:
        found += [Caution(one.code, one.text) for one in quality_warnings(tissue, window)]
    where = "the body" if region in (None, "body") else "the region"
    found += _hidden_errors(rows, unit, data_range if window is None else window.width)
    found += _unstable(rows, where)
    found += _insensitive(rows, where)
    if 0 < largest_share < LEAST_USED:
        found.append(
            Caution(
                "range_not_used",
                f"no sample exceeds {100 * largest_share:.1f} % of the data range of "
                f"{data_range:g}: if white lies lower, indices read too high; give the data range",
                largest_share,
            )
        )
    return tuple(found)


def _safe(rows: Sequence[SliceRow]) -> list[SliceRow]:
    # Of equal slices there is nothing to warn of.
    return [row for row in rows if row.ssim is not None and row.ssim >= SAFE_SSIM and row.rmse]


def _hidden_errors(rows: Sequence[SliceRow], unit: str, width: float) -> Iterator[Caution]:
    limit = MOST_ERROR * width
    found = [
        row
        for row in _safe(rows)
        if (row.max_error_body or 0) > limit
        or (row.ssim_body is not None and row.ssim_body < LEAST_SSIM)
    ]
    if not found:
        return
    worst = max(found, key=lambda row: row.max_error_body or 0)
    lowest = min(found, key=lambda row: 1.0 if row.ssim_body is None else row.ssim_body)
    reasons = []
    if (worst.max_error_body or 0) > limit:
        reasons.append(
            f"the largest error inside the body is {worst.max_error_body:.0f} {unit} in slice "
            f"{worst.number}, where SSIM is {worst.ssim:.3f}"
        )
    if lowest.ssim_body is not None and lowest.ssim_body < LEAST_SSIM:
        reasons.append(
            f"SSIM inside the body is {lowest.ssim_body:.3f} in slice {lowest.number}, where it is "
            f"{lowest.ssim:.3f} as a whole"
        )
    share = len(found) / len(rows)
    yield Caution(
        "ssim_hides_error",
        f"SSIM is {SAFE_SSIM:g} or more in {_slices(found)} of {len(rows)} ({_percent(share)}) "
        f"whose errors are not safe: {'; '.join(reasons)}",
        share,
        _numbers(found),
    )


def _unstable(rows: Sequence[SliceRow], where: str) -> Iterator[Caution]:
    found = [row for row in _safe(rows) if row.trust and row.trust.unstable_share > MOST_UNSTABLE]
    if not found:
        return
    share = fmean(row.trust.unstable_share for row in found if row.trust)
    yield Caution(
        "ssim_unstable",
        f"in {_slices(found)} of {len(rows)} SSIM is {SAFE_SSIM:g} or more, but {_percent(share)} "
        f"of its windows inside {where} are so even or so dark that its constants outweigh what "
        "they hold, and pull it to 1 whatever is lost there",
        share,
        _numbers(found),
    )


def _insensitive(rows: Sequence[SliceRow], where: str) -> Iterator[Caution]:
    found = [row for row in _safe(rows) if row.trust and row.trust.hidden_error_share > MOST_HIDDEN]
    if not found:
        return
    trusts = [row.trust for row in found if row.trust]
    hidden = fmean(one.hidden_error_share for one in trusts)
    windows = fmean(one.insensitive_share for one in trusts)
    yield Caution(
        "ssim_insensitive",
        f"in {_slices(found)} of {len(rows)} SSIM is {SAFE_SSIM:g} or more, but {_percent(hidden)} "
        f"of the squared error inside {where} lies in {_percent(windows)} of the windows, at edges "
        "or where it is bright, where it costs less than a quarter of what it costs in flat tissue",
        hidden,
        _numbers(found),
    )


def _slices(rows: Sequence[SliceRow]) -> str:
    return f"{len(rows)} slice{'s' * (len(rows) > 1)}"


def _numbers(rows: Sequence[SliceRow]) -> tuple[int, ...]:
    return tuple(row.number for row in rows)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"
