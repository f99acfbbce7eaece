"""Numba kernels: where tissues are in a luma frame, and errors by tissue."""

from __future__ import annotations

import numpy as np

from ssimrdo.metrics.kernels import (
    RADIUS,
    Plane,
    _compiled,
    _copy_mirrored,
    _filter_columns,
    _filter_rows,
)

_BAND = 32


@_compiled
def _moments(
    x: Plane,
    top: int,
    taps: Plane,
    middle: np.float32,
    band: Plane,
    down: Plane,
    mean: Plane,
    variance: Plane,
) -> None:
    """Fill mean and variance of the Gaussian windows around some rows; overwrites ``band``."""
    _copy_mirrored(x, top, middle, band)
    _filter_columns(band, taps, down)
    _filter_rows(down, taps, mean)
    for r in range(band.shape[0]):
        row = band[r]
        for i in range(row.size):
            row[i] = row[i] * row[i]
    _filter_columns(band, taps, down)
    _filter_rows(down, taps, variance)
    for r in range(mean.shape[0]):
        means, variances = mean[r], variance[r]
        for i in range(means.size):
            variances[i] -= means[i] * means[i]
            means[i] += middle


def largest_of_nine(x: Plane, out: Plane) -> None:
    """Fill the largest sample of the 9x9 square around every sample (a dilation).

    Parameters
    ----------
    x : array of shape (rows, columns), uint8 or uint16
        Frame; the square sees only samples inside.
    out : array of the same shape and dtype
        Result.
    """
    _largest_of_nine(x, _framed(x), out)


def _framed(x: Plane) -> Plane:
    """Return room for a row with four samples of 0 on either side."""
    return np.zeros(x.shape[1] + 8, x.dtype)


@_compiled
def _largest_of_nine(x: Plane, row: Plane, out: Plane) -> None:
    rows, columns = x.shape
    last = rows - 1
    down = row[4 : 4 + columns]
    # Slices let the loops vectorise.
    a, b, c = row[0:columns], row[1 : 1 + columns], row[2 : 2 + columns]
    d, e, f = row[3 : 3 + columns], row[4 : 4 + columns], row[5 : 5 + columns]
    g, h, k = row[6 : 6 + columns], row[7 : 7 + columns], row[8 : 8 + columns]
    for r in range(rows):
        p, q, s = x[max(r - 4, 0)], x[max(r - 3, 0)], x[max(r - 2, 0)]
        t, u, v = x[max(r - 1, 0)], x[r], x[min(r + 1, last)]
        w, y, z = x[min(r + 2, last)], x[min(r + 3, last)], x[min(r + 4, last)]
        for i in range(columns):
            upper = max(max(p[i], q[i]), max(s[i], t[i]))
            down[i] = max(max(upper, u[i]), max(max(v[i], w[i]), max(y[i], z[i])))
        across = out[r]
        for i in range(columns):
            left = max(max(a[i], b[i]), max(c[i], d[i]))
            across[i] = max(max(left, e[i]), max(max(f[i], g[i]), max(h[i], k[i])))


def opened(x: Plane, peak: int, out: Plane) -> None:
    """Fill the morphological opening of a frame with a square of 9x9 samples.

    Parameters
    ----------
    x : array of shape (rows, columns), uint8 or uint16
        Frame; the square sees only samples inside.
    peak : int
        Largest luma.
    out : array of the same shape and dtype
        Result.
    """
    _opened(x, peak, np.empty_like(x), _framed(x), out)


@_compiled
def _opened(x: Plane, peak: int, eroded: Plane, row: Plane, out: Plane) -> None:
    rows, columns = x.shape
    for r in range(rows):
        for i in range(columns):
            out[r, i] = peak - x[r, i]
    _largest_of_nine(out, row, eroded)
    for r in range(rows):
        for i in range(columns):
            eroded[r, i] = peak - eroded[r, i]
    _largest_of_nine(eroded, row, out)


@_compiled
def _root(parents: Plane, label: int) -> int:
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = parents[label]
    return label


@_compiled
def _runs(mask: Plane, rows: Plane, starts: Plane, ends: Plane, parents: Plane) -> int:
    """Find runs of ones along the rows and join those that touch; return their number."""
    count = 0
    above = 0
    columns = mask.shape[1]
    for r in range(mask.shape[0]):
        first = count
        row = mask[r]
        before = np.uint8(0)
        for i in range(columns):
            now = row[i]
            if now != before:
                before = now
                if now != 0:
                    rows[count], starts[count], parents[count] = r, i, count
                else:
                    ends[count] = i
                    count += 1
        if before != 0:
            ends[count] = columns
            count += 1
        a, b = above, first
        while a < first and b < count:
            if starts[a] < ends[b] and starts[b] < ends[a]:
                one, other = _root(parents, a), _root(parents, b)
                parents[max(one, other)] = min(one, other)
            if ends[a] < ends[b]:
                a += 1
            else:
                b += 1
        above = first
    return count


def largest_filled(mask: Plane, share: float, out: Plane) -> None:
    """Fill the largest component of a mask and others of its size, with what they enclose.

    Enclosed is what has them on three of its four sides at least, which fills holes, and clefts
    that end at the border of the field of view.

    Parameters
    ----------
    mask : array of shape (rows, columns), uint8
        0 or 1; samples that share a side touch.
    share : float
        Share of the largest component's samples that another has at least to be taken as well.
    out : array of the same shape, uint8
        Result, 0 or 1; all 0 for an empty mask.
    """
    rows, columns = mask.shape
    most = rows * ((columns + 1) // 2)
    _largest_filled(
        mask,
        share,
        np.empty((4, most), np.int32),
        np.empty(most, np.int64),
        np.empty((2, rows), np.int32),
        np.empty((2, columns), np.int32),
        out,
    )


@_compiled
def _largest_filled(
    mask: Plane,
    share: float,
    runs: Plane,
    sizes: Plane,
    of_rows: Plane,
    of_columns: Plane,
    out: Plane,
) -> None:
    all_rows, all_columns = mask.shape
    rows, starts, ends, parents = runs[0], runs[1], runs[2], runs[3]
    out[:] = 0
    count = _runs(mask, rows, starts, ends, parents)
    if count == 0:
        return
    sizes[:count] = 0
    for k in range(count):
        sizes[_root(parents, k)] += ends[k] - starts[k]
    largest = np.int64(0)
    for k in range(count):
        largest = max(largest, sizes[k])
    least = share * largest
    first, last, top, bottom = of_rows[0], of_rows[1], of_columns[0], of_columns[1]
    first[:], last[:] = all_columns, -1
    top[:], bottom[:] = all_rows, -1
    for k in range(count):
        if sizes[_root(parents, k)] >= least:
            here = rows[k]
            first[here] = min(first[here], starts[k])
            last[here] = max(last[here], ends[k] - 1)
            tops = top[starts[k] : ends[k]]
            for i in range(tops.size):
                tops[i] = min(tops[i], here)
            # Rows come in ascending order.
            bottom[starts[k] : ends[k]] = here
    for r in range(all_rows):
        row, left, right, here = out[r], first[r], last[r], np.int32(r)
        if right < left:
            continue
        # Left and right of them a sample has them on one side in the row, else on both.
        for i in range(all_columns):
            row[i] = np.uint8((top[i] <= here) & (bottom[i] >= here))
        within, bottoms = row[left : right + 1], bottom[left : right + 1]
        for i in range(within.size):
            within[i] = np.uint8(bottoms[i] >= 0)


@_compiled
def _gradients(x: Plane, r: int, sums: Plane, differences: Plane, squares: Plane) -> None:
    """Fill the squared magnitude of Sobel's gradient along a row, per eight samples."""
    columns = x.shape[1]
    up, row, down = x[max(r - 1, 0)], x[r], x[min(r + 1, x.shape[0] - 1)]
    for i in range(columns):
        a, b, c = np.float32(up[i]), np.float32(row[i]), np.float32(down[i])
        sums[i + 1] = a + b + b + c
        differences[i + 1] = c - a
    sums[0], differences[0] = sums[1], differences[1]
    sums[columns + 1], differences[columns + 1] = sums[columns], differences[columns]
    for i in range(columns):
        along = sums[i + 2] - sums[i]
        across = differences[i] + differences[i + 1] + differences[i + 1] + differences[i + 2]
        squares[i] = along * along + across * across


def assign_codes(
    x: Plane,
    body: Plane,
    opening: Plane,
    near_clipped: Plane,
    taps: Plane,
    limits: Plane,
    codes: Plane,
) -> None:
    """Fill a bit mask of what every sample belongs to, in the order of the areas.

    Parameters
    ----------
    x : array of shape (rows, columns), uint8 or uint16
        Frame; windows that reach over its border see it mirrored.
    body : uint8 array of the same shape
        0 or 1.
    opening : array of the shape and dtype of ``x``
        From :func:`opened`.
    near_clipped : uint8 array of the same shape
        1 where a sample is clipped in the 9x9 square around, else 0.
    taps : float32 array of shape (6,)
        From :func:`ssimrdo.metrics.kernels.gaussian_taps`.
    limits : float32 array of shape (7,)
        Largest luma, gradient above which an edge is hard, height and luma above which structures
        are small and dense, variance below which tissue is flat, mean luma of lung, from and to.
    codes : uint8 array of the same shape
        Result.
    """
    columns = x.shape[1]
    _assign_codes(
        x,
        body,
        opening,
        near_clipped,
        taps,
        limits,
        np.empty((_BAND + 2 * RADIUS, columns + 2 * RADIUS), np.float32),
        np.empty((_BAND, columns + 2 * RADIUS), np.float32),
        np.zeros((2, _BAND, columns), np.float32),
        np.empty((3, columns + 2), np.float32),
        np.empty((4, columns), np.uint8),
        np.zeros(columns + 2, np.uint8),
        codes,
    )


@_compiled
def _assign_codes(
    x: Plane,
    body: Plane,
    opening: Plane,
    near_clipped: Plane,
    taps: Plane,
    limits: Plane,
    band: Plane,
    down: Plane,
    moments: Plane,
    gradients: Plane,
    flags: Plane,
    around: Plane,
    codes: Plane,
) -> None:
    peak, gradient, height, bright, flat, thin, thick = limits
    rows, columns = x.shape
    steep = np.float32(64) * gradient * gradient
    half = peak / np.float32(2)
    mean, variance = moments[0], moments[1]
    sums, differences, squares = gradients[0], gradients[1], gradients[2]
    edges, dense, flats, lungs = flags[0], flags[1], flags[2], flags[3]
    left, here, right = around[:columns], around[1 : columns + 1], around[2:]
    for r in range(rows):
        line = r % _BAND
        # Moments count in the body alone.
        if line == 0 and body[r : r + _BAND].any():
            left_over = min(_BAND, rows - r)
            _moments(
                x,
                r,
                taps,
                half,
                band[: left_over + 2 * RADIUS],
                down[:left_over],
                mean[:left_over],
                variance[:left_over],
            )
        samples, openings, means, variances = x[r], opening[r], mean[line], variance[line]
        _gradients(x, r, sums, differences, squares)
        for i in range(columns):
            edges[i] = np.uint8(squares[i] > steep)
        for i in range(columns):
            luma = np.float32(samples[i])
            dense[i] = np.uint8((luma - np.float32(openings[i]) > height) & (luma > bright))
        for i in range(columns):
            luma = np.float32(samples[i])
            is_soft = (variances[i] < flat) & (means[i] > thick)
            flats[i] = np.uint8(is_soft & (luma > 0) & (luma < peak))
        for i in range(columns):
            lungs[i] = np.uint8((means[i] >= thin) & (means[i] <= thick))
        # The 11x11 window is covered by the squares around its centre's diagonal neighbours.
        above, below = near_clipped[max(r - 1, 0)], near_clipped[min(r + 1, rows - 1)]
        for i in range(columns):
            here[i] = above[i] | below[i]
        around[0], around[columns + 1] = here[0], here[columns - 1]
        inside, out = body[r], codes[r]
        for i in range(columns):
            out[i] = (
                inside[i]
                | (edges[i] << 1)
                | (dense[i] << 2)
                | ((inside[i] & flats[i]) << 3)
                | ((inside[i] & lungs[i]) << 4)
                | (((left[i] | right[i]) ^ 1) << 5)
            )


@_compiled
def count_errors(x: Plane, y: Plane, codes: Plane, by_code: Plane, counts: Plane, peak: int) -> int:
    """Count the errors of every area, and the clipped samples of the first one.

    Parameters
    ----------
    x, y : array of shape (rows, columns), uint8 or uint16
        Source and decoded frame.
    codes : uint8 array of the same shape
        Has bit i set where a sample belongs to area i.
    by_code : int32 array of shape (2 ** areas, 2 peak + 1)
        Scratch space, all 0.
    counts : int64 array of shape (areas, 2 peak + 1)
        Filled with the number of samples by area and by ``y - x + peak``.
    peak : int
        Largest luma.

    Returns
    -------
    int
        How many samples of the first area are 0 or the peak in the source.
    """
    clipped = 0
    for r in range(x.shape[0]):
        samples, shown, row = x[r], y[r], codes[r]
        for i in range(samples.size):
            code = row[i]
            # Most of the background belongs to nothing.
            if code != 0:
                sample = np.int64(samples[i])
                by_code[code, np.int64(shown[i]) - sample + peak] += 1
                clipped += code & ((sample == 0) | (sample == peak))
    counts[:] = 0
    for code in range(1, by_code.shape[0]):
        found = by_code[code]
        for area in range(counts.shape[0]):
            if code >> area & 1:
                total = counts[area]
                for i in range(total.size):
                    total[i] += found[i]
    return clipped


@_compiled
def sum_where(
    first: Plane, second: Plane, codes: Plane, flags: Plane, sums: Plane, windows: Plane
) -> None:
    """Sum the product of two maps where flags are set at the windows' centres.

    Parameters
    ----------
    first, second : float32 array of shape (rows - 10, columns - 10)
        From :func:`ssimrdo.metrics.kernels.ssim_components`.
    codes : uint8 array of shape (rows, columns)
        Codes of the samples.
    flags : uint8 array of shape (2,)
        Powers of two.
    sums, windows : array of shape (2,), float64 and int64
        Filled with the sum, and the number of windows, for each flag.
    """
    one_flag, other_flag = flags[0], flags[1]
    sums[:] = 0
    windows[:] = 0
    for r in range(first.shape[0]):
        one, other = first[r], second[r]
        row = codes[r + RADIUS, RADIUS : RADIUS + one.size]
        part, part_of_other = np.float32(0), np.float32(0)
        count, count_of_other = np.int32(0), np.int32(0)
        for i in range(one.size):
            product = one[i] * other[i]
            is_in = (row[i] & one_flag) != 0
            part += product if is_in else np.float32(0)
            count += np.int32(is_in)
            is_in_other = (row[i] & other_flag) != 0
            part_of_other += product if is_in_other else np.float32(0)
            count_of_other += np.int32(is_in_other)
        sums[0] += part
        sums[1] += part_of_other
        windows[0] += count
        windows[1] += count_of_other


def pooled_squares(x: Plane, y: Plane, codes: Plane, flag: np.uint8) -> tuple[float, float]:
    """Return sums of squares of two frames about the means of 8x8 blocks, where a flag is set.

    Parameters
    ----------
    x, y : array of shape (rows, columns), uint8 or uint16
        Frames.
    codes : uint8 array of the same shape
        Only samples whose code has the flag count.
    flag : uint8
        A power of two.
    """
    sums = np.empty((5, x.shape[1]), np.float32)
    left, right = _pooled_squares(x, y, codes, flag, sums)
    return left, right


@_compiled
def _pooled_squares(
    x: Plane, y: Plane, codes: Plane, flag: np.uint8, sums: Plane
) -> tuple[float, float]:
    rows, columns = x.shape
    total_x = 0.0
    total_y = 0.0
    # Exact up to 10 bit: eight squares stay below 2 ** 24.
    counts, first_x, first_y, second_x, second_y = sums[0], sums[1], sums[2], sums[3], sums[4]
    for top in range(0, rows, 8):
        sums[:] = 0
        for r in range(top, min(top + 8, rows)):
            codes_here, x_here, y_here = codes[r], x[r], y[r]
            for i in range(columns):
                weight = np.float32(1) if codes_here[i] & flag else np.float32(0)
                a, b = weight * np.float32(x_here[i]), weight * np.float32(y_here[i])
                counts[i] += weight
                first_x[i] += a
                first_y[i] += b
                second_x[i] += a * a
                second_y[i] += b * b
        for left in range(0, columns, 8):
            count, sum_x, sum_y = 0.0, 0.0, 0.0
            for i in range(left, min(left + 8, columns)):
                count += counts[i]
                sum_x += first_x[i]
                sum_y += first_y[i]
                total_x += second_x[i]
                total_y += second_y[i]
            if count > 0:
                total_x -= sum_x * sum_x / count
                total_y -= sum_y * sum_y / count
    return total_x, total_y
