"""Branching trees of pulmonary vessels and airways."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

from ssimrdo.metrics.caching import compiled

_MURRAY = 1 / 3


@dataclass(frozen=True)
class Tree:
    """Straight tube segments of a branching tree.

    Attributes
    ----------
    start, end : ndarray of float64, shape (segments, 3)
        Ends of the segments in mm.
    radius : ndarray of float64, shape (segments,)
        Radius at the start of each segment in mm.
    tip : ndarray of float64, shape (segments,)
        Radius at the end of each segment in mm.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius: NDArray[np.float64]
    tip: NDArray[np.float64]

    def crossing(self, z: float, margin: float) -> NDArray[np.intp]:
        """Return the segments that reach within `margin` mm of the height `z`."""
        low = np.minimum(self.start[:, 2], self.end[:, 2]) - self.radius - margin
        high = np.maximum(self.start[:, 2], self.end[:, 2]) + self.radius + margin
        return np.nonzero((low < z) & (z < high))[0]


def grow_tree(
    root: tuple[float, float, float],
    targets: NDArray[np.float64],
    leaf_radius_mm: float,
    rng: np.random.Generator,
    *,
    stop: int = 1,
) -> Tree:
    """Grow a tree from a root that supplies every target.

    The set of targets is halved again and again across its longest extent; each half gets a
    branch towards its centroid, bent a little at random. Radii follow Murray's law
    ``r0^3 = r1^3 + r2^3`` (Murray 1926, PNAS 12:207-214), which makes them grow with the cube
    root of the number of leaves supplied, and the trees fill space as in Tawhai et al. 2000,
    Ann. Biomed. Eng. 28:793-802.

    Parameters
    ----------
    root : tuple of float
        Where the tree starts in mm.
    targets : ndarray of float64, shape (leaves, 3)
        Points to supply in mm.
    leaf_radius_mm : float
        Radius of the thinnest branches in mm.
    rng : numpy.random.Generator
        Source of the bends.
    stop : int, optional
        Number of targets below which a branch is not divided any more.

    Returns
    -------
    Tree
        All segments.
    """
    segments: list[tuple[NDArray[np.float64], NDArray[np.float64], float, float]] = []
    pending = [(np.array(root), targets, leaf_radius_mm * len(targets) ** _MURRAY)]
    while pending:
        here, group, before = pending.pop()
        radius = leaf_radius_mm * len(group) ** _MURRAY
        reach = 1.0 if len(group) <= stop else rng.uniform(0.35, 0.55)
        there = here + reach * (group.mean(axis=0) - here)
        bend = rng.normal(size=3) * 0.09 * np.linalg.norm(there - here)
        middle = (here + there) / 2 + bend
        start_radius = min(before, radius * 1.15)
        segments += [(here, middle, start_radius, radius), (middle, there, radius, radius)]
        if len(group) > stop:
            axis = int(np.argmax(np.ptp(group, axis=0)))
            cut = len(group) * rng.uniform(0.35, 0.65)
            split = min(max(int(cut), 1), len(group) - 1)
            ordered = group[np.argsort(group[:, axis], kind="stable")]
            pending += [(there, ordered[:split], radius), (there, ordered[split:], radius)]
    starts, ends, radii, tips = zip(*segments, strict=True)
    return Tree(np.array(starts), np.array(ends), np.array(radii), np.array(tips))


def _paint_tubes(
    image: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: float,
    inside: NDArray[np.float32],
    segments: NDArray[np.float64],
    pixel_mm: float,
    hu: float,
) -> None:
    """Paint tapering tubes over the slice at height `z`, in place.

    A tube thinner than a pixel covers it by the ratio of the widths.

    Parameters
    ----------
    image : ndarray of float32, shape (size, size)
        HU; changed.
    x, y : ndarray of float32, shape (size, size)
        Coordinates of the pixels in mm, less than 10 mm from a regular grid around zero.
    z : float
        Height in mm.
    inside : ndarray of float32, shape (size, size)
        Factor from 0 to 1 of the coverage, for example the lung.
    segments : ndarray of float64, shape (count, 8)
        Start, end (x, y, z each), radius at the start and at the end in mm.
    pixel_mm : float
        Side of a pixel in mm.
    hu : float
        Value inside the tubes.
    """
    size = image.shape[0]
    middle = (size - 1) / 2
    for k in range(segments.shape[0]):
        x0, y0, z0, x1, y1, z1, r0, r1 = segments[k]
        ax, ay, az = x1 - x0, y1 - y0, z1 - z0
        length = max(ax * ax + ay * ay + az * az, 1e-9)
        reach = max(r0, r1) + pixel_mm + 10.0
        left = max(math.floor((min(x0, x1) - reach) / pixel_mm + middle), 0)
        right = min(math.ceil((max(x0, x1) + reach) / pixel_mm + middle) + 1, size)
        top = max(math.floor((min(y0, y1) - reach) / pixel_mm + middle), 0)
        bottom = min(math.ceil((max(y0, y1) + reach) / pixel_mm + middle) + 1, size)
        widest = max(r0, r1) + pixel_mm
        pz = z - z0
        for row in range(top, bottom):
            for column in range(left, right):
                px, py = x[row, column] - x0, y[row, column] - y0
                t = min(max((px * ax + py * ay + pz * az) / length, 0.0), 1.0)
                dx, dy, dz = px - t * ax, py - t * ay, pz - t * az
                square = dx * dx + dy * dy + dz * dz
                if square < widest * widest:
                    radius = r0 + t * (r1 - r0)
                    cover = min(max(0.5 + (radius - math.sqrt(square)) / pixel_mm, 0.0), 1.0)
                    cover *= min(1.0, 2 * radius / pixel_mm) * inside[row, column]
                    image[row, column] += np.float32(cover * (hu - image[row, column]))


paint_tubes = compiled(_paint_tubes, nogil=True)
