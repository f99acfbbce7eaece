"""Noise of filtered back-projection, reconstructed from a noisy sinogram.

Filtered back-projection is linear: the image of a noisy sinogram is the image of the clean one
plus the image of the noise. Only the noise is reconstructed here, view by view, so texture,
streaks and non-stationarity come from the reconstruction itself and not from a stationary model.
The noise power spectrum that results, |f| times the squared apodisation of the kernel, is that of
Riederer, Pelc and Chesler 1978, "The noise power spectrum in computed X-ray tomography", Phys.
Med. Biol. 23:446-454.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray

from ssimrdo.metrics.caching import compiled

Image = NDArray[np.float32]

WATER_PER_MM = 0.0193
"""Linear attenuation of water near 70 keV in 1/mm (NIST XCOM)."""

_UPSAMPLING = 4
_COARSE_SIZE = 96
_COARSE_VIEWS = 60


@dataclass(frozen=True)
class Scan:
    """Sampling of the sinogram of one slice.

    Attributes
    ----------
    views : int
        Number of parallel-beam views over 180 degrees.
    bins : int
        Detector bins per view.
    bin_mm : float
        Spacing of the bins at the centre of rotation in mm.
    blur_mm : float
        Standard deviation in mm of the Gaussian point spread of the kernel.
    """

    views: int
    bins: int
    bin_mm: float
    blur_mm: float


def kernel_blur_mm(pixel_mm: float) -> float:
    """Return the point spread of the reconstruction kernel.

    A Gaussian of 0.45 mm gives an MTF of 50 % at 0.42 and 10 % at 0.76 cycles/mm, about a
    standard soft-tissue kernel. Larger pixels get a smoother kernel, as a scanner's larger field
    of view does, because the same kernel would alias.

    Parameters
    ----------
    pixel_mm : float
        Side of a pixel in mm.

    Returns
    -------
    float
        Standard deviation in mm.
    """
    return 0.64 * max(pixel_mm, 0.7)


def scan_geometry(size: int, pixel_mm: float) -> Scan:
    """Return the sinogram sampling used for an image.

    Parameters
    ----------
    size : int
        Rows and columns of the image.
    pixel_mm : float
        Side of a pixel in mm.

    Returns
    -------
    Scan
        Bins finer than the kernel, and enough views that a patch of 64 pixels cannot tell the
        noise spectrum from a continuous one.
    """
    bin_mm = 0.85 * max(pixel_mm, 0.7)
    needed = math.ceil(size * pixel_mm / bin_mm) + 32
    bins = int(scipy.fft.next_fast_len(needed, real=True))
    return Scan(min(max(round(0.7 * size), 90), 480), bins, bin_mm, kernel_blur_mm(pixel_mm))


def _backproject(views: Image, size: int, step: float, radius: float) -> Image:
    """Sum views over lines; `step` is a pixel in samples and `radius` the field in pixels."""
    count, samples = views.shape
    image = np.zeros((size, size), np.float32)
    middle = np.float32((size - 1) / 2)
    origin = np.float32(samples / 2 + 0.5)
    for row in range(size):
        y = np.float32(row) - middle
        half = math.sqrt(max(radius * radius - float(y * y), 0.0))
        first = max(int(middle - half), 0)
        last = min(int(middle + half) + 2, size)
        line = image[row]
        for view in range(count):
            angle = math.pi * view / count
            slope = np.float32(math.cos(angle) * step)
            offset = origin + y * np.float32(math.sin(angle) * step) - middle * slope
            data = views[view]
            for column in range(first, last):
                # Unsigned: a signed index is tested for wrap-around and the loop stays scalar.
                place = np.int32(offset + np.float32(np.int32(column)) * slope)
                line[column] += data[np.uint64(place)]
    return image


def _project(image: Image, views: int, bins: int, step: float) -> Image:
    """Return line integrals in pixels over 180 degrees; `step` is a pixel in bins."""
    size = image.shape[0]
    out = np.zeros((views, bins), np.float32)
    middle = (size - 1) / 2
    for view in range(views):
        angle = math.pi * view / views
        cos, sin = math.cos(angle) * step, math.sin(angle) * step
        for row in range(size):
            for column in range(size):
                value = image[row, column]
                if value > 0:
                    place = (column - middle) * cos + (row - middle) * sin + bins / 2
                    left = int(place)
                    if 0 <= left < bins - 1:
                        share = np.float32(place - left)
                        out[view, left] += value * (1 - share) / step
                        out[view, left + 1] += value * share / step
    return out


_backproject_fast = compiled(_backproject, fastmath=True, nogil=True)
_project_fast = compiled(_project, nogil=True)


def _coarse(hu: Image) -> tuple[Image, int]:
    """Return block means of the image, at most twice `_COARSE_SIZE` wide, and the block side."""
    block = max(hu.shape[0] // _COARSE_SIZE, 1)
    rest = -hu.shape[0] % block
    padded = np.pad(hu, ((0, rest), (0, rest)), constant_values=-1000)
    side = padded.shape[0] // block
    means = padded.reshape(side, block, side, block).mean(axis=(1, 3), dtype=np.float32)
    return means, block


def sinogram_sigma(hu: Image, pixel_mm: float, scan: Scan) -> Image:
    """Return the relative noise of each ray that passes through an object.

    The line integral is p = ln(N0 / N). Counts N are Poisson and large, so p is normal with
    variance 1 / E[N] = exp(p) / N0 (Hsieh, "Computed Tomography", SPIE Press, ch. 7). N0 follows
    the bow-tie filter, which dims the rays that miss the thick middle of a 170 mm water cylinder,
    and the rotation: tube current is modulated as the square root of the attenuation of the view
    (Gies et al. 1999, Med. Phys. 26:2235-2247).

    Parameters
    ----------
    hu : ndarray of float32, shape (size, size)
        Noiseless image in HU.
    pixel_mm : float
        Side of a pixel in mm.
    scan : Scan
        Sampling of the sinogram.

    Returns
    -------
    ndarray of float32, shape (views, bins)
        Standard deviation of the line integrals up to one factor common to the slice.
    """
    coarse, block = _coarse(hu)
    coarse_mm = pixel_mm * block
    relative = np.maximum(coarse * np.float32(1e-3) + 1, 0)
    bins = math.ceil(scan.bins * scan.bin_mm / coarse_mm)
    lengths = _project_fast(relative, _COARSE_VIEWS, bins, 1.0)
    integral = lengths * np.float32(WATER_PER_MM * coarse_mm)
    position = (np.arange(bins) - bins / 2) * coarse_mm
    chord = np.sqrt(np.maximum(170.0**2 - position**2, 0.0))
    bowtie = 0.8 * WATER_PER_MM * 2 * (170.0 - chord)
    current = np.sqrt(np.exp(integral).max(axis=1, keepdims=True))
    variance = np.exp(integral + bowtie) / current
    wrapped = np.vstack([variance, variance[:1, ::-1]])
    view = np.arange(scan.views) * (_COARSE_VIEWS / scan.views)
    place = (np.arange(scan.bins) - scan.bins / 2) * (scan.bin_mm / coarse_mm) + bins / 2
    sigma = np.sqrt(
        scipy.ndimage.map_coordinates(
            wrapped, np.meshgrid(view, place, indexing="ij"), order=1, mode="nearest"
        )
    )
    return np.asarray(sigma, np.float32)


def _soft_tissue_variance(hu: Image, sigma: Image, scan: Scan, pixel_mm: float) -> float:
    """Return the mean over soft tissue of the sum over views of the ray variances."""
    coarse, block = _coarse(hu)
    step = pixel_mm * block / scan.bin_mm
    radius = hu.shape[0] / block / 2
    total = _backproject_fast(np.square(sigma), coarse.shape[0], step, radius)
    soft = (np.abs(coarse - 40) < 120) & (total > 0)
    chosen = total[soft] if soft.any() else total[total > 0]
    return float(chosen.mean())


def fbp_noise(hu: Image, pixel_mm: float, noise_hu: float, rng: np.random.Generator) -> Image:
    """Return the noise that filtered back-projection leaves in the image of an object.

    White noise of the ray's own magnitude (`sinogram_sigma`) is filtered by
    ``H(f) = |f| exp(-2 pi^2 s^2 f^2)`` and back-projected over 180 degrees. The exposure of the
    slice is set so that soft tissue has the noise asked for, as automatic exposure control does.

    Parameters
    ----------
    hu : ndarray of float32, shape (size, size)
        Noiseless image in HU; decides where the noise is stronger and which way it streaks.
    pixel_mm : float
        Side of a pixel in mm.
    noise_hu : float
        Root mean square noise in soft tissue in HU.
    rng : numpy.random.Generator
        Source of the noise, used up to the same point for every object of the same size.

    Returns
    -------
    ndarray of float32, shape (size, size)
        Noise in HU, zero outside the circular field of view.
    """
    size = hu.shape[0]
    scan = scan_geometry(size, pixel_mm)
    sigma = sinogram_sigma(hu, pixel_mm, scan)
    rays = rng.standard_normal((scan.views, scan.bins), dtype=np.float32) * sigma
    frequency = scipy.fft.rfftfreq(scan.bins, scan.bin_mm)
    response = frequency * np.exp(-2 * (np.pi * scan.blur_mm * frequency) ** 2)
    spectrum = scipy.fft.rfft(rays, axis=1) * response.astype(np.float32)
    fine = scipy.fft.irfft(spectrum, scan.bins * _UPSAMPLING, axis=1) * np.float32(_UPSAMPLING)
    image = _backproject_fast(
        fine.astype(np.float32), size, pixel_mm / scan.bin_mm * _UPSAMPLING, size / 2
    )
    # Parseval: white rays of unit variance leave the filter with the mean of its squared response.
    gains = np.concatenate([response, response[1 : (scan.bins + 1) // 2]])
    gain = float(np.mean(np.square(gains)))
    expected = math.sqrt(gain * _soft_tissue_variance(hu, sigma, scan, pixel_mm))
    noise: Image = image * np.float32(noise_hu / expected)
    return noise
