"""Geometry of a synthetic thorax and its CT numbers.

The thorax is a set of simple solids: star-shaped contours for the body and the rib cage, lofted
ellipses for organs and great vessels, tubes for the vessels and airways of the lungs, and periodic
vertebrae and ribs. A smooth random deformation removes the look of ellipses, smooth random
textures give tissue its grain. Everything is a continuous function of z.

The numbers are chosen from typical adult anatomy in a contrast-enhanced scan (arterial blood about
230 HU); nothing is measured from a patient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage

from ssimrdo.phantom.noise import kernel_blur_mm
from ssimrdo.phantom.shapes import (
    Box,
    Field,
    Grid,
    Image,
    Loft,
    angle_index,
    angles,
    capsule,
    coverage,
    random_field,
    union,
)
from ssimrdo.phantom.vessels import Tree, grow_tree, paint_tubes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssimrdo.phantom.settings import PhantomSettings

AIR_HU = -1000.0
"""CT number of air."""

START_MM = 20.0
"""Height of the first slice of every series."""

LENGTH_MM = 185.0
"""Height of the thorax, from the dome of the liver to above the aortic arch."""

_SEGMENT_MM = 25.0
_LUNG_HU = -860.0
_CAVITY_Y = -10.0
_SPINE_Y = 52.0
_LATTICE_MM = 4.0
_LEVELS = (0.0, 60.0, 120.0, 160.0, 215.0)

# Right half of the vertebral arch: ends (x, y), radius in mm, then the part of the 25 mm period in
# which it appears (centre and half width): pedicle, lamina, facet, transverse process, head of the
# rib, spinous process.
_ARCH = (
    ((12.5, 62.0), (13.0, 76.0), 4.2, 0.70, 0.24),
    ((13.0, 77.0), (4.0, 87.0), 3.3, 0.50, 0.36),
    ((14.0, 78.0), (13.0, 80.0), 5.0, 0.10, 0.30),
    ((13.0, 79.0), (33.0, 84.0), 4.6, 0.76, 0.22),
    ((20.0, 60.0), (40.0, 70.0), 4.6, 0.00, 0.20),
    ((0.0, 88.0), (0.0, 97.0), 2.9, 0.35, 0.40),
)

# Fat, spinal fluid and cord: radii in mm, HU.
_CANAL = ((9.5, 8.2, -40.0), (8.2, 7.0, 25.0), (5.2, 3.9, 48.0))

_HEART = Loft(
    (
        (-30.0, 38.0, -34.0, 0.0, 0.0),
        (0.0, 34.0, -36.0, 52.0, 36.0),
        (25.0, 29.0, -32.0, 60.0, 44.0),
        (50.0, 22.0, -30.0, 60.0, 46.0),
        (75.0, 14.0, -28.0, 50.0, 43.0),
        (95.0, 7.0, -28.0, 38.0, 36.0),
        (112.0, 4.0, -30.0, 0.0, 0.0),
    ),
    tilt=-0.45,
)

_MEDIASTINUM = (
    Loft(
        (
            (60.0, 3.0, -20.0, 0.0, 0.0),
            (90.0, 2.0, -22.0, 34.0, 46.0),
            (130.0, 2.0, -26.0, 33.0, 50.0),
            (165.0, 0.0, -20.0, 35.0, 44.0),
            (215.0, 0.0, -8.0, 36.0, 38.0),
        )
    ),
    Loft(
        (
            (-60.0, 5.0, 44.0, 31.0, 32.0),
            (120.0, 5.0, 44.0, 31.0, 32.0),
            (215.0, 0.0, 44.0, 30.0, 29.0),
        )
    ),
    Loft(
        (
            (-60.0, 4.0, -74.0, 30.0, 14.0),
            (40.0, 4.0, -76.0, 17.0, 17.0),
            (100.0, 2.0, -76.0, 7.0, 24.0),
            (215.0, 0.0, -62.0, 16.0, 24.0),
        )
    ),
    Loft(
        (
            (70.0, -30.0, 2.0, 0.0, 0.0),
            (100.0, -32.0, 4.0, 17.0, 19.0),
            (128.0, -26.0, 2.0, 0.0, 0.0),
        )
    ),
    Loft(
        ((72.0, 32.0, 6.0, 0.0, 0.0), (106.0, 33.0, 8.0, 16.0, 18.0), (134.0, 26.0, 4.0, 0.0, 0.0))
    ),
)

_LIVER = Loft(
    (
        (-80.0, -60.0, 0.0, 80.0, 76.0),
        (-20.0, -66.0, 0.0, 76.0, 74.0),
        (10.0, -70.0, -2.0, 60.0, 60.0),
        (35.0, -72.0, -4.0, 36.0, 38.0),
        (50.0, -72.0, -6.0, 0.0, 0.0),
    ),
    tilt=0.2,
)
_SPLEEN = Loft(
    (
        (-80.0, 80.0, 20.0, 55.0, 55.0),
        (-20.0, 82.0, 12.0, 50.0, 50.0),
        (10.0, 82.0, 8.0, 34.0, 34.0),
        (27.0, 82.0, 6.0, 0.0, 0.0),
    )
)

# Painted in this order, later over earlier: (solid, HU, wall in mm, HU of the wall).
_ORGANS: tuple[tuple[Loft, float, float, float], ...] = (
    # Heart: right atrium, right ventricle, left ventricle, left atrium.
    (Loft(((2.0, -24.0, -26.0, 0.0, 0.0), (30.0, -28.0, -28.0, 16.0, 24.0),
           (60.0, -27.0, -28.0, 18.0, 25.0), (92.0, -24.0, -30.0, 0.0, 0.0)), 0.3),
     215.0, 2.0, 95.0),
    (Loft(((-12.0, 30.0, -50.0, 0.0, 0.0), (20.0, 20.0, -52.0, 34.0, 15.0),
           (55.0, 10.0, -52.0, 30.0, 15.0), (82.0, 10.0, -52.0, 15.0, 11.0),
           (100.0, 16.0, -46.0, 0.0, 0.0)), -0.42),
     225.0, 2.5, 100.0),
    (Loft(((-4.0, 54.0, -26.0, 0.0, 0.0), (25.0, 48.0, -24.0, 30.0, 14.0),
           (50.0, 41.0, -22.0, 27.0, 15.0), (74.0, 34.0, -20.0, 19.0, 12.0),
           (92.0, 26.0, -18.0, 0.0, 0.0)), -0.6),
     235.0, 0.0, 0.0),
    (Loft(((46.0, 6.0, 6.0, 0.0, 0.0), (66.0, 4.0, 8.0, 27.0, 14.0),
           (86.0, 0.0, 8.0, 34.0, 13.0), (104.0, 0.0, 6.0, 0.0, 0.0)), 0.0),
     230.0, 1.5, 90.0),
    # Inferior and superior vena cava.
    (Loft(((-60.0, -20.0, 8.0, 14.0, 11.0), (10.0, -22.0, -2.0, 14.0, 12.0),
           (34.0, -24.0, -16.0, 0.0, 0.0))), 150.0, 0.0, 0.0),
    (Loft(((76.0, -26.0, -26.0, 8.0, 10.0), (120.0, -28.0, -24.0, 9.0, 10.0),
           (160.0, -25.0, -28.0, 8.0, 9.0), (215.0, -30.0, -30.0, 8.0, 8.0))), 260.0, 0.8, 60.0),
    # Pulmonary trunk, right and left pulmonary arteries.
    (Loft(((78.0, 16.0, -44.0, 0.0, 0.0), (96.0, 20.0, -38.0, 15.0, 14.0),
           (114.0, 20.0, -26.0, 15.0, 14.0), (126.0, 22.0, -16.0, 0.0, 0.0))), 235.0, 0.8, 70.0),
    (Loft(((98.0, -14.0, -4.0, 0.0, 0.0), (106.0, -14.0, -4.0, 34.0, 9.0),
           (112.0, -12.0, -6.0, 32.0, 9.5), (120.0, -12.0, -8.0, 0.0, 0.0)), -0.15),
     235.0, 0.8, 70.0),
    (Loft(((106.0, 30.0, 6.0, 0.0, 0.0), (116.0, 30.0, 0.0, 16.0, 9.0),
           (126.0, 28.0, -4.0, 0.0, 0.0)), 0.7), 235.0, 0.8, 70.0),
    # Aorta: ascending, arch, descending.
    (Loft(((62.0, -2.0, -24.0, 0.0, 0.0), (72.0, -4.0, -24.0, 16.0, 16.0),
           (110.0, -10.0, -34.0, 15.5, 15.5), (146.0, -8.0, -26.0, 14.0, 14.0),
           (156.0, -4.0, -20.0, 0.0, 0.0))), 240.0, 1.2, 60.0),
    (Loft(((138.0, 8.0, -2.0, 0.0, 0.0), (147.0, 9.0, -2.0, 42.0, 12.0),
           (155.0, 10.0, -4.0, 38.0, 11.0), (161.0, 10.0, -6.0, 0.0, 0.0)), 1.12),
     240.0, 1.2, 60.0),
    (Loft(((-80.0, 14.0, 27.0, 11.5, 11.5), (40.0, 21.0, 29.0, 12.0, 12.0),
           (140.0, 25.0, 30.0, 12.5, 12.5), (150.0, 25.0, 26.0, 11.0, 11.0),
           (157.0, 24.0, 22.0, 0.0, 0.0))), 240.0, 1.3, 60.0),
    # Arch vessels, left brachiocephalic vein, azygos vein.
    (Loft(((152.0, -6.0, -22.0, 7.0, 7.0), (215.0, -18.0, -18.0, 6.5, 6.5))), 240.0, 1.0, 60.0),
    (Loft(((152.0, 8.0, -10.0, 4.5, 4.5), (215.0, 16.0, -8.0, 4.0, 4.0))), 240.0, 0.8, 60.0),
    (Loft(((152.0, 17.0, 4.0, 5.5, 5.5), (215.0, 28.0, 6.0, 5.0, 5.0))), 240.0, 0.8, 60.0),
    (Loft(((158.0, 0.0, -36.0, 0.0, 0.0), (166.0, 4.0, -36.0, 25.0, 7.5),
           (178.0, 22.0, -36.0, 14.0, 6.0), (215.0, 34.0, -30.0, 7.0, 7.0)), -0.1),
     250.0, 0.8, 60.0),
    (Loft(((-80.0, -8.0, 33.0, 3.5, 3.2), (136.0, -10.0, 34.0, 4.5, 4.0),
           (146.0, -18.0, 24.0, 4.0, 5.0), (152.0, -24.0, 8.0, 0.0, 0.0))), 140.0, 0.0, 0.0),
    # Coronary arteries in the grooves.
    (Loft(((20.0, 40.0, -55.0, 1.6, 1.6), (60.0, 24.0, -46.0, 1.8, 1.8),
           (88.0, 8.0, -38.0, 1.9, 1.9))), 230.0, 0.0, 0.0),
    (Loft(((10.0, -14.0, -44.0, 1.6, 1.6), (50.0, -14.0, -50.0, 1.8, 1.8),
           (84.0, -6.0, -40.0, 1.9, 1.9))), 230.0, 0.0, 0.0),
    # Lymph nodes.
    (Loft(((118.0, 8.0, -4.0, 0.0, 0.0), (126.0, 8.0, -4.0, 6.0, 4.0),
           (134.0, 8.0, -4.0, 0.0, 0.0))), 70.0, 0.0, 0.0),
    (Loft(((134.0, -14.0, -8.0, 0.0, 0.0), (144.0, -14.0, -8.0, 4.0, 6.0),
           (154.0, -14.0, -8.0, 0.0, 0.0))), 70.0, 0.0, 0.0),
    (Loft(((96.0, -4.0, 16.0, 0.0, 0.0), (108.0, -3.0, 16.0, 10.0, 4.0),
           (122.0, 0.0, 16.0, 0.0, 0.0))), 70.0, 0.0, 0.0),
    # Oesophagus with a little air, trachea and main bronchi.
    (Loft(((-80.0, 8.0, 16.0, 9.0, 6.0), (60.0, 4.0, 25.0, 9.0, 5.0),
           (215.0, 4.0, 24.0, 8.0, 5.0))), 45.0, 0.0, 0.0),
    (Loft(((40.0, 4.0, 25.0, 0.0, 0.0), (70.0, 3.0, 24.0, 3.5, 1.5),
           (110.0, 4.0, 24.0, 0.0, 0.0))), -700.0, 0.0, 0.0),
    (Loft(((123.0, 0.0, 6.0, 0.0, 0.0), (129.0, 0.0, 5.0, 13.0, 8.0),
           (138.0, 0.0, 4.0, 9.0, 8.5), (215.0, 0.0, -2.0, 8.5, 9.0))), AIR_HU, 1.5, 50.0),
    (Loft(((96.0, -40.0, 10.0, 0.0, 0.0), (104.0, -32.0, 9.0, 6.0, 6.0),
           (114.0, -22.0, 8.0, 9.0, 6.5), (124.0, -8.0, 6.0, 7.5, 7.0),
           (128.0, -5.0, 6.0, 0.0, 0.0)), 0.1), AIR_HU, 1.3, 50.0),
    (Loft(((94.0, 42.0, 14.0, 0.0, 0.0), (102.0, 34.0, 12.0, 6.0, 5.0),
           (113.0, 22.0, 9.0, 9.0, 5.5), (124.0, 8.0, 6.0, 7.0, 6.5),
           (128.0, 5.0, 6.0, 0.0, 0.0)), -0.1), AIR_HU, 1.3, 50.0),
)  # fmt: skip


@dataclass(frozen=True)
class Thorax:
    """The random part of the anatomy, drawn once from a seed.

    Attributes
    ----------
    bend_x, bend_y : Field
        Slow deformation (organs), unit variance.
    ripple_x, ripple_y : Field
        Fast deformation (boundaries), unit variance.
    grain : Field
        Texture of 2 to 7 mm.
    cloud : Field
        Texture of 8 to 40 mm.
    vessels, airways : tuple of Tree
        Arteries and veins, and airways, of both lungs.
    """

    bend_x: Field
    bend_y: Field
    ripple_x: Field
    ripple_y: Field
    grain: Field
    cloud: Field
    vessels: tuple[Tree, ...]
    airways: tuple[Tree, ...]


def anatomical_height(index: int, slice_spacing_mm: float) -> float:
    """Return where in the thorax a slice lies.

    A series longer than the thorax travels back through it, so that any number of slices changes
    smoothly.

    Parameters
    ----------
    index : int
        Slice number from 0, feet to head.
    slice_spacing_mm : float
        Distance between slices in mm.

    Returns
    -------
    float
        Height in mm between 0 (below the dome of the liver) and `LENGTH_MM` (above the arch).
    """
    place = (START_MM + index * slice_spacing_mm) % (2 * LENGTH_MM)
    return min(place, 2 * LENGTH_MM - place)


def _blend(image: Image, box: Box, cover: Image, hu: float | Image) -> None:
    """Paint `hu` over the box of the image where `cover` is 1, in place."""
    view = image[box]
    view += cover * (np.asarray(hu, np.float32) - view)


def _grid(thorax: Thorax | None, z: float, size: int, pixel_mm: float, thickness: float) -> Grid:
    """Return the (deformed) sample points of a slice."""
    axis = (np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)) * np.float32(pixel_mm)
    x = np.broadcast_to(axis[None, :], (size, size))
    y = np.broadcast_to(axis[:, None], (size, size))
    if thorax is not None:
        x = x + 2.6 * thorax.bend_x.at(axis, axis, z) + 0.28 * thorax.ripple_x.at(axis, axis, z)
        y = y + 2.6 * thorax.bend_y.at(axis, axis, z) + 0.28 * thorax.ripple_y.at(axis, axis, z)
    return Grid(x.astype(np.float32), y.astype(np.float32), z, axis, pixel_mm, thickness)


def _superellipse(theta: Image, a: float, b: float | Image, power: float) -> Image:
    """Return the radius in mm of a superellipse with half axes a and b."""
    inner = np.abs(np.cos(theta) / a) ** power + np.abs(np.sin(theta) / b) ** power
    return np.asarray(inner ** (-1 / power), np.float32)


def _bump(theta: Image, centre: float, width: float) -> Image:
    """Return a periodic bell of height 1 around an angle."""
    turn = np.angle(np.exp(1j * (theta - centre)))
    return np.asarray(np.exp(-((turn / width) ** 2)), np.float32)


@dataclass(frozen=True)
class _Wall:
    """Distances in mm of every pixel to the layers of the chest wall, negative inside.

    `back` is the angle from the spine, 0 to pi, and `side` the sign of x.
    """

    skin: Image
    muscle: Image
    cavity: Image
    back: Image
    side: Image


def _cage_axes(z: float) -> tuple[float, float]:
    """Return half the width and half the depth of the rib cage in mm."""
    width = np.interp(z, _LEVELS, [136.0, 134.0, 124.0, 108.0, 76.0])
    return float(width), float(np.interp(z, _LEVELS, [78.0, 77.0, 72.0, 64.0, 48.0]))


def _chest_wall(grid: Grid) -> _Wall:
    """Return the layers of the chest wall in a slice."""
    z = grid.z
    theta = angles()
    behind, front = np.pi / 2, -np.pi / 2
    back = float(np.interp(z, _LEVELS, [120.0, 119.0, 118.0, 118.0, 116.0]))
    front_depth = float(np.interp(z, _LEVELS, [100.0, 98.0, 95.0, 92.0, 85.0]))
    body = _superellipse(
        theta,
        float(np.interp(z, _LEVELS, [160.0, 159.0, 157.0, 160.0, 165.0])),
        np.where(theta > 0, np.float32(back), np.float32(front_depth)),
        2.35,
    )
    body += -4 * _bump(theta, behind, 0.12) - 4 * _bump(theta, front, 0.16)
    body += np.float32(np.interp(z, [60, 130, 215], [0, 5, 4])) * (
        _bump(theta, front - 0.6, 0.35) + _bump(theta, front + 0.6, 0.35)
    )
    fat = (
        6.5 + 4 * _bump(theta, front, 0.9) + 3 * _bump(theta, 0, 0.4) + 3 * _bump(theta, np.pi, 0.4)
    )
    cage = _superellipse(theta, *_cage_axes(z), 2.3)
    # Skin and rib cage are smoother than the organs: a third of the deformation.
    dx = grid.axis[None, :] * np.float32(0.67) + grid.x * np.float32(0.33)
    dy = grid.axis[:, None] * np.float32(0.67) + grid.y * np.float32(0.33) - np.float32(_CAVITY_Y)
    index = angle_index(dx, dy)
    radius = np.sqrt(dx * dx + dy * dy)
    skin = radius - body[index]
    turn = np.abs(np.angle(np.exp(1j * (theta - behind)))).astype(np.float32)
    return _Wall(
        skin, skin + fat.astype(np.float32)[index], radius - cage[index], turn[index], np.sign(dx)
    )


def _ribs(grid: Grid, wall: _Wall) -> tuple[Image, Image]:
    """Return distance to the nearest rib in mm and the fraction of cartilage in it.

    Rib k leaves the spine at z = 25 k mm and falls towards the front; its cartilage rises again
    to the sternum. The slice cuts the falling rib in a long oblique ellipse.
    """
    angle = wall.back + np.float32(0.05) * wall.side
    falls = np.interp(
        angles()[_half() :], [0.0, 0.35, 1.0, 1.7, 2.25, 2.75, 3.2], [0, 4, 38, 84, 108, 92, 74]
    ).astype(np.float32)
    steps = np.clip(angle, 0, np.pi - 1e-4) * np.float32((len(falls) - 1) / np.pi)
    drop = falls[steps.astype(np.int32)]
    phase = (np.float32(grid.z) + drop) / np.float32(_SEGMENT_MM)
    # The height is measured across the falling rib, not along z.
    off = (phase - np.rint(phase)) * np.float32(_SEGMENT_MM * 0.88)
    gristle = np.clip((wall.back - np.float32(2.2)) * 12, 0, 1)
    tall, thick = 6.4 + 1.2 * gristle, 4.5 + 1.0 * gristle
    radial = (wall.cavity - 6.0) / thick
    q = np.sqrt((off / tall) ** 2 + radial**2)
    gradient = np.maximum(np.hypot(off / tall**2, radial / thick), 1e-3)
    distance = (q - 1) * q / gradient
    missing = np.maximum((0.24 - wall.back) * 60, (wall.back - 2.92) * 60)
    return np.maximum(distance, missing).astype(np.float32), gristle.astype(np.float32)


def _half() -> int:
    """Return the index of angle 0 in `angles`."""
    return (len(angles()) - 1) // 2


def _paint_table(image: Image, grid: Grid) -> None:
    """Paint mattress and couch under the patient: thin shells around foam."""
    x = grid.axis[None, :]
    y = grid.axis[:, None]
    everywhere = (slice(None), slice(None))
    width = grid.pixel_mm
    top = np.float32(122) - x * x * np.float32(1 / 1500)
    bottom = np.float32(150) - x * x * np.float32(1 / 900)
    side = coverage(np.abs(x) - np.float32(168), 4.0)
    inside = side * coverage(top - y, width) * coverage(y - bottom, width)
    _blend(image, everywhere, inside, -940.0)
    for surface, thick, hu in ((top, 1.2, -150.0), (bottom, 1.6, 220.0)):
        shell = side * _thin(np.abs(y - surface), thick, width)
        _blend(image, everywhere, shell, hu)
    pad = coverage(np.abs(x) - np.float32(150), 4.0) * coverage(y - top, width)
    sheet = pad * coverage(np.float32(108) - y, width)
    _blend(image, everywhere, sheet, -965.0)


def _thin(distance: Image, thick: float, width: float) -> Image:
    """Return the coverage of a sheet from the distance to its middle, right below pixel size."""
    spread = max(thick, width)
    return coverage(distance - np.float32(spread / 2), width) * np.float32(thick / spread)


def _paint_wall(image: Image, grid: Grid, wall: _Wall, grain: Image, cloud: Image) -> None:
    """Paint skin, fat and the muscles with the fat planes between them."""
    everywhere = (slice(None), slice(None))
    pixel = grid.pixel_mm
    _blend(image, everywhere, coverage(wall.skin, pixel), 10.0)
    fat = -102 + 5 * grain + 5 * cloud
    # Strands of connective tissue: the zero crossings of a slow field, as thin as the field allows.
    strand = np.clip(1 - np.abs(cloud + 0.6 * grain) * 9, 0, 1) * np.float32(0.3)
    _blend(image, everywhere, coverage(wall.skin + np.float32(1.8), pixel), fat + 110 * strand)
    flesh = 54 + 6 * grain + 4 * cloud
    _blend(image, everywhere, coverage(wall.muscle + cloud * np.float32(0.5), pixel), flesh)
    posterior = np.clip((np.float32(1.05) - wall.back) * 4, 0, 1)
    layers = (
        (np.abs(wall.cavity - (12.5 + 0.7 * cloud)), 1.3 + 0.8 * posterior, 0.95),
        (np.abs(wall.muscle + (8.0 + 0.8 * cloud)), 0.5 + 1.2 * posterior, 0.8),
        (np.abs(wall.cavity - (21.0 + 1.2 * cloud)), 0.9 + 0 * posterior, 0.6),
    )
    for distance, thick, share in layers:
        inside = coverage(wall.muscle + np.float32(2), 2.0)
        sheet = coverage(distance - thick / 2, pixel) * inside * np.float32(share)
        _blend(image, everywhere, sheet, -90.0)
    marbling = np.clip(cloud + 0.8 * grain - 1.7, 0, 1) * coverage(wall.muscle + 3, 2.0)
    _blend(image, everywhere, marbling.astype(np.float32) * np.float32(0.7), -80.0)
    _blend(image, everywhere, _thin(np.abs(wall.cavity - np.float32(0.9)), 0.9, pixel), -70.0)


def _paint_bone(
    image: Image, box: Box, distance: Image, marrow: Image, pixel: float, shell_mm: float = 1.3
) -> None:
    """Paint a bone: a dense cortical shell around marrow."""
    _blend(image, box, coverage(distance, pixel), 780.0)
    _blend(image, box, coverage(distance + np.float32(shell_mm), pixel), marrow)


def _paint_ribs(image: Image, grid: Grid, wall: _Wall, grain: Image) -> None:
    """Paint ribs and their cartilages."""
    everywhere = (slice(None), slice(None))
    distance, gristle = _ribs(grid, wall)
    pixel = grid.pixel_mm
    # A falling rib passes obliquely through the slice, which blurs its ends.
    width = pixel + 0.25 * grid.thickness_mm
    hard, soft = 1 - gristle, gristle
    _blend(image, everywhere, coverage(distance, width) * soft, 105 + 10 * grain)
    _blend(image, everywhere, coverage(distance, width) * hard, 800.0)
    _blend(image, everywhere, coverage(distance + 1.25, width) * hard, 210 + 45 * grain)


def _flat(grid: Grid, box: Box) -> Grid:
    """Return part of a slice as a grid at height 0, for solids drawn in two dimensions."""
    return Grid(grid.x[box], grid.y[box], 0.0, grid.axis, grid.pixel_mm, 0.0)


def _bar(flat: Grid, start: tuple[float, float], end: tuple[float, float]) -> Image:
    """Return the distance in the slice to a line segment."""
    whole = (slice(None), slice(None))
    return capsule(flat, whole, np.array([*start, 0.0]), np.array([*end, 0.0]))


def _arch_distance(flat: Grid, phase: float) -> Image | None:
    """Return the distance to the parts of the vertebral arch present at this height, if any."""
    arch: Image | None = None
    for (x0, y0), (x1, y1), radius, centre, half in _ARCH:
        turn = abs((phase - centre + 0.5) % 1.0 - 0.5)
        # A part fades by shrinking into its neighbours and a little below its own surface.
        present = min((half - turn) / 0.10, 1.0)
        if present <= -1:
            continue
        thick = radius * (0.5 + 0.5 * present) - (1.5 if present < 0 else 0.0)
        for sign in (-1.0, 1.0):
            part = _bar(flat, (sign * x0, y0), (sign * x1, y1)) - np.float32(thick)
            arch = part if arch is None else union(arch, part, 4.0)
    return arch


def _disk(grid: Grid, y: float, radius_x: float, radius_y: float) -> tuple[Box, Image]:
    """Return the distance in the slice to an ellipse in the midline."""
    box = grid.box(0.0, y, max(radius_x, radius_y) + 12.0)
    flat = _flat(grid, box)
    dx, dy = flat.x / np.float32(radius_x), (flat.y - np.float32(y)) / np.float32(radius_y)
    norm = np.sqrt(dx * dx + dy * dy)
    slope = np.hypot(dx / np.float32(radius_x), dy / np.float32(radius_y))
    return box, (norm - 1) * norm / np.maximum(slope, np.float32(1e-4))


def _paint_spine(image: Image, grid: Grid, grain: Image) -> None:
    """Paint the vertebra or disc of this height, its arch and the spinal canal."""
    pixel = grid.pixel_mm
    phase = (grid.z / _SEGMENT_MM) % 1.0
    box = grid.box(0.0, 68.0, 52.0)
    arch = _arch_distance(_flat(grid, box), phase)
    if arch is not None:
        _paint_bone(image, box, arch, 290 + 60 * grain[box], pixel, 1.5)
    to_disc = abs(phase - round(phase)) * _SEGMENT_MM
    blur = max(grid.thickness_mm, 0.5)
    disc = min(max(0.5 + (2.6 - to_disc) / blur, 0.0), 1.0)
    plate = min(max(0.5 + (4.2 - to_disc) / blur, 0.0), 1.0)
    waist = 17.3 + 1.6 * math.cos(2 * math.pi * phase)
    box, distance = _disk(grid, _SPINE_Y, waist, waist - 3.2)
    bone = 185 + 42 * grain[box] + 260 * plate
    gristle = 85 + 6 * grain[box]
    _blend(image, box, coverage(distance, pixel), 620.0 * (1 - disc) + 95.0 * disc)
    inner = coverage(distance + np.float32(1.0), pixel)
    _blend(image, box, inner, bone * (1 - disc) + gristle * disc)
    for radius_x, radius_y, hu in _CANAL:
        box, distance = _disk(grid, _SPINE_Y + 23.0, radius_x, radius_y)
        _blend(image, box, coverage(distance, pixel), hu)


def _paint_sternum(image: Image, grid: Grid, wall: _Wall, grain: Image) -> None:
    """Paint the sternum: a flat bone in front of the mediastinum."""
    half = float(np.interp(grid.z, [0, 30, 100, 160, 200], [6.0, 13.0, 15.0, 19.0, 26.0]))
    half += 1.5 * math.cos(2 * math.pi * grid.z / _SEGMENT_MM)
    y = _CAVITY_Y - _cage_axes(grid.z)[1] - 6.0
    box = grid.box(0.0, y, half + 14)
    distance = _bar(_flat(grid, box), (4.5 - half, y), (half - 4.5, y)) - np.float32(4.8)
    clipped = np.maximum(distance, wall.muscle[box])
    _paint_bone(image, box, clipped, 140 + 35 * grain[box], grid.pixel_mm, 1.0)


def _paint_scapulae(image: Image, grid: Grid, grain: Image) -> None:
    """Paint the shoulder blades: thin bent plates behind the upper ribs."""
    size = float(np.interp(grid.z, [85, 105, 150, 215], [0.0, 14.0, 34.0, 40.0]))
    if size <= 2:
        return
    thick = np.float32(np.interp(grid.z, [85, 150, 215], [1.9, 2.2, 3.4]))
    for sign in (-1.0, 1.0):
        x, y = sign * 104.0, 66.0
        box = grid.box(x, y, size + 16)
        flat = _flat(grid, box)
        along_x, along_y = sign * 0.39 * size, -0.31 * size
        bow_x, bow_y = sign * 0.062 * size, 0.078 * size
        bend = (x + bow_x, y + bow_y)
        inner = _bar(flat, (x - along_x - bow_x / 2, y - along_y - bow_y / 2), bend)
        outer = _bar(flat, bend, (x + along_x - bow_x / 2, y + along_y - bow_y / 2))
        plate = union(inner, outer, 3.0) - thick
        _paint_bone(image, box, plate, 260 + 80 * grain[box], grid.pixel_mm, 1.2)


def _mediastinum_distance(grid: Grid) -> Image:
    """Return the distance to everything that is not lung inside the rib cage."""
    total = np.full(grid.x.shape, 60.0, np.float32)
    solids = [(solid, 0.0) for solid in _MEDIASTINUM] + [(_HEART, 5.0)]
    for solid, grow in solids:
        found = solid.distance(grid, grow)
        if found is not None:
            box, distance, _ = found
            total[box] = union(total[box], distance, 9.0)
    return total


def _lung_distance(grid: Grid, wall: _Wall) -> Image:
    """Return the distance to the lungs in mm, negative inside."""
    outside = np.maximum(wall.cavity, -_mediastinum_distance(grid))
    for solid in (_LIVER, _SPLEEN):
        found = solid.distance(grid, 2.5)
        if found is not None:
            box, distance, _ = found
            outside[box] = np.maximum(outside[box], -distance)
    return outside


def _paint_lungs(image: Image, grid: Grid, lung: Image, grain: Image, cloud: Image) -> None:
    """Paint lung tissue: denser towards the back, with fissures and fine texture."""
    everywhere = (slice(None), slice(None))
    gravity = np.float32(0.45) * grid.y
    tissue = np.float32(_LUNG_HU) + gravity + 16 * grain + 14 * cloud
    width = grid.pixel_mm
    _blend(image, everywhere, coverage(lung, width), tissue)
    for sign, level in ((-1.0, 44.0), (1.0, 34.0)):
        # The oblique fissure falls from back to front.
        plane = grid.y - np.float32(grid.z * 0.75 - level) - np.float32(0.15) * np.abs(grid.x)
        sheet = _thin(np.abs(plane + 3 * cloud) * np.float32(0.8), 0.5, width)
        near = coverage(lung + 2, 2.0) * (np.sign(grid.x) == sign)
        _blend(image, everywhere, sheet * near, -500.0)


def _paint_tree(
    image: Image, grid: Grid, tree: Tree, inside: Image, grow: float, hu: float
) -> None:
    """Paint the tubes of a tree that cross the slice."""
    found = tree.crossing(grid.z, grid.pixel_mm + grow)
    segments = np.column_stack(
        [tree.start[found], tree.end[found], tree.radius[found] + grow, tree.tip[found] + grow]
    )
    paint_tubes(image, grid.x, grid.y, grid.z, inside, segments, grid.pixel_mm, hu)


def _paint_abdomen(image: Image, grid: Grid, cage: Image, grain: Image, cloud: Image) -> None:
    """Paint liver and spleen under the domes of the diaphragm."""
    for solid, hu in ((_LIVER, 108.0), (_SPLEEN, 122.0)):
        for grow, value in ((2.5, 60.0), (0.6, hu)):
            found = solid.distance(grid, grow)
            if found is not None:
                box, distance, width = found
                inside = np.maximum(distance, cage[box])
                texture = value + (3 * grain + 4 * cloud)[box]
                _blend(image, box, coverage(inside, width), texture)


def _paint_mediastinum(image: Image, grid: Grid, cage: Image, grain: Image, cloud: Image) -> None:
    """Paint mediastinal fat, the heart and the great vessels and airways."""
    everywhere = (slice(None), slice(None))
    pixel = grid.pixel_mm
    space = np.maximum(_mediastinum_distance(grid), cage)
    _blend(image, everywhere, coverage(space, pixel), -95 + 8 * grain + 16 * np.maximum(cloud, 0))
    _blend(image, everywhere, _thin(np.abs(space + 0.6), 0.9, pixel) * coverage(space, 1.0), 40.0)
    heart = _HEART.distance(grid)
    if heart is not None:
        box, distance, width = heart
        clipped = np.maximum(distance, cage[box] + 4)
        _blend(image, box, _thin(np.abs(clipped - 3.2), 1.0, pixel), 30.0)
        groove = clipped + np.float32(1.6) * np.maximum(cloud[box], 0)
        _blend(image, box, coverage(groove, width), 104 + 5 * grain[box] + 4 * cloud[box])
    for solid, hu, wall_mm, wall_hu in _ORGANS:
        layers = ((wall_mm, wall_hu), (0.0, hu)) if wall_mm else ((0.0, hu),)
        for grow, value in layers:
            found = solid.distance(grid, grow)
            if found is not None:
                box, distance, width = found
                mottle = 4 * grain[box] + 6 * cloud[box]
                _blend(image, box, coverage(distance, width), value + mottle)


def _lung_points() -> NDArray[np.float64]:
    """Return points of a 4 mm lattice at least 3 mm inside the lungs, shape (count, 3)."""
    found: list[NDArray[np.float64]] = []
    for z in np.arange(-10.0, LENGTH_MM + 20, _LATTICE_MM).tolist():
        grid = _grid(None, z, 90, _LATTICE_MM, _LATTICE_MM)
        rows, columns = np.nonzero(_lung_distance(grid, _chest_wall(grid)) < -3.0)
        height = np.full(len(rows), z)
        found.append(np.column_stack([grid.axis[columns], grid.axis[rows], height]))
    return np.concatenate(found)


def _lobes(points: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Split the points of a lung into three by oblique planes, as the fissures do."""
    order = np.argsort(points @ np.array([0.0, -0.6, 1.0]), kind="stable")
    return np.array_split(points[order], 3)


def _scatter(
    points: NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw lattice points without repetition and move them within their cells."""
    chosen = points[rng.choice(len(points), size=count, replace=False)]
    shift = rng.uniform(-_LATTICE_MM / 2, _LATTICE_MM / 2, size=chosen.shape)
    moved: NDArray[np.float64] = chosen + shift
    return moved


@lru_cache(maxsize=4)
def thorax(seed: int) -> Thorax:
    """Draw the random part of the anatomy.

    Parameters
    ----------
    seed : int
        Seed, not negative.

    Returns
    -------
    Thorax
        The same for the same seed; kept, because every slice of a series needs it.
    """
    rng = np.random.default_rng([seed, 1])
    vessels: list[Tree] = []
    airways: list[Tree] = []
    points = _lung_points()
    for side in (-1, 1):
        half = points[np.sign(points[:, 0]) == side]
        artery = (side * 34.0, 2.0, 110.0)
        vein = (side * 28.0, 8.0, 88.0)
        bronchus = (side * 34.0, 10.0, 104.0)
        for lobe in _lobes(half):
            vessels.append(grow_tree(artery, _scatter(lobe, 850, rng), 0.52, rng))
            vessels.append(grow_tree(vein, _scatter(lobe, 750, rng), 0.5, rng))
            airways.append(grow_tree(bronchus, _scatter(lobe, 24, rng), 0.85, rng))
    return Thorax(
        bend_x=random_field(rng, 24, 70.0, 240.0),
        bend_y=random_field(rng, 24, 70.0, 240.0),
        ripple_x=random_field(rng, 48, 6.0, 25.0),
        ripple_y=random_field(rng, 48, 6.0, 25.0),
        grain=random_field(rng, 160, 2.0, 7.0),
        cloud=random_field(rng, 80, 8.0, 40.0),
        vessels=tuple(vessels),
        airways=tuple(airways),
    )


def render(body: Thorax, z: float, size: int, pixel_mm: float, thickness_mm: float) -> Image:
    """Return the noiseless CT image of the thorax at one height.

    Parameters
    ----------
    body : Thorax
        Random part of the anatomy.
    z : float
        Anatomical height in mm, see `anatomical_height`.
    size : int
        Rows and columns.
    pixel_mm : float
        Side of a pixel in mm.
    thickness_mm : float
        Slice thickness in mm.

    Returns
    -------
    ndarray of float32, shape (size, size)
        HU, blurred by the point spread of the kernel; no noise.
    """
    grid = _grid(body, z, size, pixel_mm, thickness_mm)
    grain, cloud = (field.at(grid.axis, grid.axis, z) for field in (body.grain, body.cloud))
    wall = _chest_wall(grid)
    lung = _lung_distance(grid, wall)
    image = np.full((size, size), AIR_HU, np.float32)
    _paint_table(image, grid)
    _paint_wall(image, grid, wall, grain, cloud)
    _paint_lungs(image, grid, lung, grain, cloud)
    inside = coverage(lung + np.float32(1), 2.0)
    for tree in body.vessels:
        _paint_tree(image, grid, tree, inside, 0.0, 170.0)
    for tree in body.airways:
        _paint_tree(image, grid, tree, inside, 0.6, -250.0)
        _paint_tree(image, grid, tree, inside, 0.0, -970.0)
    _paint_mediastinum(image, grid, wall.cavity, grain, cloud)
    _paint_abdomen(image, grid, wall.cavity, grain, cloud)
    _paint_ribs(image, grid, wall, grain)
    _paint_spine(image, grid, grain)
    _paint_sternum(image, grid, wall, grain)
    _paint_scapulae(image, grid, grain)
    blurred: Image = scipy.ndimage.gaussian_filter(image, kernel_blur_mm(pixel_mm) / pixel_mm)
    return blurred


def anatomy_hu(index: int, settings: PhantomSettings) -> Image:
    """Return one slice of the phantom without noise.

    Parameters
    ----------
    index : int
        Slice number from 0, feet to head; may lie beyond ``settings.slices``.
    settings : PhantomSettings
        Size, spacing and seed.

    Returns
    -------
    ndarray of float32, shape (size, size)
        HU, in the blur of the reconstruction kernel.

    Raises
    ------
    ValueError
        If `index` is negative.
    """
    if index < 0:
        raise ValueError(f"slice index {index} is negative")
    return render(
        thorax(settings.seed),
        anatomical_height(index, settings.slice_spacing_mm),
        settings.size,
        settings.pixel_mm,
        settings.slice_spacing_mm,
    )
