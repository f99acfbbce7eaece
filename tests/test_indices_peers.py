"""Indices against those of piq, which are other people's code in other words, in doubles."""

from __future__ import annotations

import numpy as np
import pytest
import torch_indices
from index_frames import frames, pair_of
from scipy.ndimage import gaussian_filter

from ssimrdo import metrics

SHAPES = ((128, 128), (101, 87), (67, 130))


@pytest.fixture(scope="module")
def piq():
    return torch_indices.piq()


def compare(index, peer, shape, peak, *, within, **options):
    x, y = frames(shape, peak)
    found = index(x, y, data_range=peak, **options)
    expected = float(peer(torch_indices.tensor(x), torch_indices.tensor(y), data_range=peak))
    assert found == pytest.approx(expected, abs=within)
    assert abs(found - index(x, x, data_range=peak, **options)) > 100 * within


@pytest.mark.parametrize("peak", [255, 1023])
def test_ssim_and_ms_ssim(piq, peak):
    def plain(x, y, data_range):
        return piq.ssim(x, y, data_range=data_range, downsample=False)

    compare(metrics.ssim, plain, (101, 87), peak, within=1e-6)
    # Of even sides: it drops odd rows, which count twice here.
    compare(metrics.ms_ssim, piq.multi_scale_ssim, (192, 176), peak, within=2e-5)


@pytest.mark.parametrize("peak", [255, 1023])
@pytest.mark.parametrize("shape", SHAPES)
def test_gmsd(piq, shape, peak):
    compare(metrics.gmsd, piq.gmsd, shape, peak, within=1e-7)


@pytest.mark.parametrize("peak", [255, 1023])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("constants", [{}, {"c": 5.0, "alpha": 4.9}])
def test_haarpsi(piq, shape, peak, constants):
    def peer(x, y, data_range):
        return piq.haarpsi(x, y, data_range=data_range, **constants)

    compare(metrics.haarpsi, peer, shape, peak, within=1e-6, **constants)


@pytest.mark.parametrize("peak", [255, 1023])
@pytest.mark.parametrize("shape", [(161, 161), (176, 192), (201, 187)])
def test_iw_ssim(piq, shape, peak):
    def peer(x, y, data_range):
        # It takes the reference last.
        return piq.information_weighted_ssim(y, x, data_range=data_range)

    compare(metrics.iw_ssim, peer, shape, peak, within=2e-7)


@pytest.mark.parametrize("peak", [255, 1023])
@pytest.mark.parametrize("shape", [*SHAPES, (41, 41)])
def test_vifp(piq, shape, peak):
    def peer(x, y, data_range):
        return piq.vif_p(y, x, data_range=data_range)

    compare(metrics.vifp, peer, shape, peak, within=1e-7)


@pytest.mark.parametrize("peak", [255, 1023])
@pytest.mark.parametrize("shape", [*SHAPES, (129, 121), (385, 400)])
def test_fsim(piq, shape, peak):
    def peer(x, y, data_range):
        return piq.fsim(x, y, data_range=data_range, chromatic=False)

    compare(metrics.fsim, peer, shape, peak, within=1e-6)


@pytest.fixture(scope="module")
def slices(phantom_luma):
    """A part with much black of a slice, and the same blurred and with noise in the body."""
    x = phantom_luma[0][:256, 100:356]
    assert 0.2 < np.mean(x == 0) < 0.8
    noise = np.random.default_rng(0).normal(0, 3, x.shape) * (x > 0)
    return x, np.clip(gaussian_filter(x.astype(float), 0.6) + noise, 0, 255).round().astype(
        np.uint8
    )


@pytest.mark.parametrize(
    ("index", "peer"), [("iw_ssim", "information_weighted_ssim"), ("vifp", "vif_p")]
)
def test_of_a_slice_of_the_phantom(piq, slices, index, peer):
    x, y = slices
    expected = getattr(piq, peer)(torch_indices.tensor(y), torch_indices.tensor(x), data_range=255)
    assert getattr(metrics, index)(x, y) == pytest.approx(float(expected), abs=2e-6)


def test_the_medical_index_has_its_constants():
    x, y = frames((64, 64))
    pair = pair_of(x, y)
    assert metrics.HAARPSI_MED.value(pair) == metrics.haarpsi(x, y, c=5, alpha=4.9)
    assert metrics.HAARPSI.value(pair) == metrics.haarpsi(x, y, c=30, alpha=4.2)
    assert not np.isclose(metrics.HAARPSI.value(pair), metrics.HAARPSI_MED.value(pair))
