"""Geometry shared by the anatomy: sampling grids, distances, partial volume, random fields.

All lengths are millimetres. ``x`` grows towards the patient's left, ``y`` towards the back and
``z`` towards the head (DICOM patient coordinates of a supine patient).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Image = NDArray[np.float32]
Box = tuple[slice, slice]

_ANGLE_STEPS = 8192


@dataclass(frozen=True)
class Grid:
    """Sample points of one slice.

    Attributes
    ----------
    x, y : ndarray of float32, shape (rows, columns)
        Anatomical coordinates of the pixel centres in mm, deformation included.
    z : float
        Anatomical height of the slice in mm.
    axis : ndarray of float32, shape (size,)
        Undeformed pixel-centre coordinate in mm, the same for rows and columns.
    pixel_mm, thickness_mm : float
        Side of a pixel and thickness of the slice in mm.
    """

    x: Image
    y: Image
    z: float
    axis: Image
    pixel_mm: float
    thickness_mm: float

    def box(self, x: float, y: float, reach: float) -> Box:
        """Return the rows and columns within `reach` mm of the point (x, y)."""
        first, last = self.axis[0], self.pixel_mm
        low_x, high_x = ((np.array([x - reach, x + reach]) - first) / last).tolist()
        low_y, high_y = ((np.array([y - reach, y + reach]) - first) / last).tolist()
        size = len(self.axis)

        def span(low: float, high: float) -> slice:
            return slice(min(max(int(low), 0), size), min(max(int(high) + 2, 0), size))

        return span(low_y, high_y), span(low_x, high_x)


@dataclass(frozen=True)
class Loft:
    """A solid made of ellipses stacked along z.

    Squared radii are interpolated, so that an organ whose radii fall to zero ends in a rounded
    cap as an ellipsoid does, not in a cone.

    Attributes
    ----------
    knots : tuple of (z, x, y, radius_x, radius_y)
        Ellipse centres and radii in mm, ordered by z.
    tilt : float
        Angle of the first radius from the x axis towards +y in radians.
    """

    knots: tuple[tuple[float, float, float, float, float], ...]
    tilt: float = 0.0

    @cached_property
    def _curve(self) -> PchipInterpolator:
        table = np.array(self.knots, dtype=float)
        table[:, 3:] **= 2
        return PchipInterpolator(table[:, 0], table[:, 1:])

    def section(self, z: float) -> tuple[float, float, float, float, float] | None:
        """Return the ellipse cut at height `z`.

        Parameters
        ----------
        z : float
            Height in mm.

        Returns
        -------
        tuple of float or None
            Centre x and y, the two radii and how fast the mean radius changes (mm per mm);
            ``None`` where the solid does not reach.
        """
        if not self.knots[0][0] < z < self.knots[-1][0]:
            return None
        x, y, square_x, square_y = self._curve(z).tolist()
        slopes = self._curve(z, 1).tolist()
        radius_x, radius_y = max(square_x, 0.01) ** 0.5, max(square_y, 0.01) ** 0.5
        slope = 0.25 * (abs(slopes[2]) / radius_x + abs(slopes[3]) / radius_y)
        return x, y, radius_x, radius_y, min(slope, 4.0)

    def distance(self, grid: Grid, grow: float = 0.0) -> tuple[Box, Image, float] | None:
        """Return the signed distance to the surface of the solid cut by the slice.

        The distance of an implicit surface f = 0 is taken as f over the length of
        its gradient (first order, exact on the surface; Taubin 1994, ACM Trans. Graphics 13:3-42).

        Parameters
        ----------
        grid : Grid
            Slice to cut.
        grow : float, optional
            Length in mm added to both radii.

        Returns
        -------
        (box, distance, width) or None
            Rows and columns covered, float32 distances in mm (negative inside) and the width in
            mm over which the edge is blurred by pixel and slice thickness.
        """
        cut = self.section(grid.z)
        if cut is None:
            return None
        x, y, radius_x, radius_y, slope = cut
        radius_x, radius_y = radius_x + grow, radius_y + grow
        box = grid.box(x, y, max(radius_x, radius_y) + 12.0)
        cos, sin = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        dx, dy = grid.x[box] - np.float32(x), grid.y[box] - np.float32(y)
        u = (dx * cos + dy * sin) * np.float32(1 / radius_x)
        v = (dy * cos - dx * sin) * np.float32(1 / radius_y)
        norm = np.sqrt(u * u + v * v)
        gradient = np.hypot(u * np.float32(1 / radius_x), v * np.float32(1 / radius_y))
        distance = (norm - 1) * norm / np.maximum(gradient, np.float32(1e-4))
        return box, distance, grid.pixel_mm + slope * grid.thickness_mm


def coverage(distance: Image, width: float | Image) -> Image:
    """Return the fraction of a pixel inside a surface (partial volume).

    Parameters
    ----------
    distance : ndarray of float32
        Signed distance of the pixel centre to the surface in mm, negative inside.
    width : float or ndarray
        Width in mm over which the edge passes through the sample.

    Returns
    -------
    ndarray of float32
        ``clip(1/2 - distance / width, 0, 1)``.
    """
    inside: Image = np.clip(np.float32(0.5) - distance / np.asarray(width, np.float32), 0, 1)
    return inside


def union(first: Image, second: Image, round_mm: float = 6.0) -> Image:
    """Return the distance to the union of two solids with rounded inner corners.

    Polynomial smooth minimum ``min(a, b) - h^2 / (4 k)`` with ``h = max(k - |a - b|, 0)``
    (Quilez, "Smooth minimum", 2013).

    Parameters
    ----------
    first, second : ndarray of float32
        Signed distances in mm.
    round_mm : float, optional
        Distance k in mm over which the two surfaces merge.

    Returns
    -------
    ndarray of float32
        Signed distance in mm.
    """
    overlap = np.maximum(np.float32(round_mm) - np.abs(first - second), 0)
    merged: Image = np.minimum(first, second) - overlap * overlap * np.float32(0.25 / round_mm)
    return merged


def capsule(grid: Grid, box: Box, start: NDArray[np.float64], end: NDArray[np.float64]) -> Image:
    """Return the distance of the slice's points to a line segment in space.

    Parameters
    ----------
    grid : Grid
        Slice.
    box : tuple of slice
        Rows and columns to evaluate.
    start, end : ndarray, shape (3,)
        Ends of the segment in mm.

    Returns
    -------
    ndarray of float32
        Distance in mm, not negative; subtract a radius for a tube.
    """
    along = end - start
    length = max(float(along @ along), 1e-6)
    px, py = grid.x[box] - np.float32(start[0]), grid.y[box] - np.float32(start[1])
    pz = grid.z - float(start[2])
    ax, ay, az = (np.float32(a) for a in along)
    t = np.clip((px * ax + py * ay + np.float32(pz * az)) * np.float32(1 / length), 0, 1)
    square = (px - t * ax) ** 2 + (py - t * ay) ** 2 + (np.float32(pz) - t * az) ** 2
    distance: Image = np.sqrt(square)
    return distance


def angles() -> Image:
    """Return the angles in radians, from -pi to pi, at which angular tables are sampled."""
    return np.linspace(-np.pi, np.pi, _ANGLE_STEPS + 1, dtype=np.float32)


def angle_index(dx: Image, dy: Image) -> NDArray[np.int32]:
    """Return the index into `angles` of the direction (dx, dy) for each pixel."""
    scale = np.float32(_ANGLE_STEPS / (2 * np.pi))
    return ((np.arctan2(dy, dx) + np.float32(np.pi)) * scale).astype(np.int32)


@dataclass(frozen=True)
class Field:
    """A smooth random function of space: plane waves with random directions and phases.

    Exactly continuous along z and evaluated slice by slice, so that nothing is stored for the
    volume (spectral synthesis, Shinozuka and Deodatis 1991, Appl. Mech. Rev. 44:191-204).

    Attributes
    ----------
    waves : ndarray of float64, shape (count, 3)
        Wave vectors in radians per mm.
    phases : ndarray of float64, shape (count,)
        Phases in radians.
    """

    waves: NDArray[np.float64]
    phases: NDArray[np.float64]

    def at(self, x: Image, y: Image, z: float) -> Image:
        """Return the field on a slice.

        Parameters
        ----------
        x, y : ndarray of float32, shapes (columns,) and (rows,)
            Undeformed coordinates in mm.
        z : float
            Height in mm.

        Returns
        -------
        ndarray of float32, shape (rows, columns)
            Zero mean, unit variance, roughly normal.
        """
        across = x[None, :] * self.waves[:, :1].astype(np.float32)
        # The offset is reduced in double precision: z may be far from zero.
        offset = np.remainder(self.waves[:, 2] * z + self.phases, 2 * np.pi)
        down = y[:, None] * self.waves[:, 1].astype(np.float32) + offset.astype(np.float32)
        amplitude = np.float32(np.sqrt(2 / len(self.phases)))
        left = np.hstack([np.cos(down), -np.sin(down)])
        right = np.vstack([np.cos(across), np.sin(across)]) * amplitude
        out: Image = left @ right
        return out


def random_field(
    rng: np.random.Generator, count: int, shortest_mm: float, longest_mm: float
) -> Field:
    """Draw a random field.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of directions, wavelengths and phases.
    count : int
        Number of waves.
    shortest_mm, longest_mm : float
        Range of wavelengths in mm, spread evenly in frequency.

    Returns
    -------
    Field
        The field.
    """
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    frequency = rng.uniform(1 / longest_mm, 1 / shortest_mm, size=(count, 1))
    return Field(2 * np.pi * frequency * direction, rng.uniform(0, 2 * np.pi, size=count))
