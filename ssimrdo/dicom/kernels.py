"""Numba kernels for pixels."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ssimrdo.metrics.caching import compiled


def _look_up(table: NDArray[Any], cells: NDArray[Any], out: NDArray[Any]) -> None:
    for r in range(cells.shape[0]):
        for i in range(cells.shape[1]):
            out[r, i] = table[cells[r, i]]


look_up = compiled(_look_up, nogil=True, boundscheck=False)
"""Fill what a table has for every cell: table, cells of a number of bits, out of the same shape."""
