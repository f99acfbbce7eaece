"""Where tissues are, and the errors in them, against SciPy, scikit-image and plain NumPy."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import structural_similarity
from tissue_masks import largest_filled, windowed_moments

from ssimrdo.dicom import Window, apply_window, load_hu, open_series
from ssimrdo.frames import FrameFormat
from ssimrdo.metrics import FramePair, kernels, tissue_kernels
from ssimrdo.metrics.tissue import Area, GreyScale, combined, tissue_errors, tissue_map

SOFT = GreyScale(-160, 400 / 255)
LUNG = GreyScale(-1350, 1500 / 255)


@pytest.fixture(scope="module")
def lung_luma(phantom_folder):
    series, _ = open_series(phantom_folder)
    return apply_window(load_hu(series.slices[10]), Window(-600, 1500))


@pytest.fixture(scope="module")
def frames(phantom_luma, lung_luma):
    """Frames with their scales: both windows, 10 bit, and sides that are no multiples of 16."""
    soft = phantom_luma[0]
    return [
        (soft, 255, SOFT),
        (lung_luma, 255, LUNG),
        (lung_luma[37:250, 101:420], 255, LUNG),
        ((lung_luma * 1023.0 / 255).astype(np.uint16), 1023, GreyScale(-1350, 1500 / 1023)),
    ]


def test_edges_are_where_sobel_is_steep(frames):
    for luma, peak, scale in frames:
        x = luma.astype(np.float64)
        gradient = np.hypot(ndimage.sobel(x, 0), ndimage.sobel(x, 1)) / 8
        edges = tissue_map(luma, data_range=peak, scale=scale).mask(Area.EDGE)
        assert edges.any()
        np.testing.assert_array_equal(edges, gradient > 25 * peak / 255)


def test_dense_structures_are_what_an_opening_takes_away(frames):
    for luma, peak, scale in frames:
        level = peak / 255
        hat = ndimage.white_tophat(luma, size=9)
        dense = tissue_map(luma, data_range=peak, scale=scale).mask(Area.DENSE)
        assert dense.any()
        np.testing.assert_array_equal(dense, (hat > 40 * level) & (luma > 60 * level))


def test_body_flat_tissue_and_lung_follow_from_hu(frames):
    for luma, peak, scale in frames:
        level = peak / 255
        mean, variance = windowed_moments(luma)
        hu, mean_hu = (scale.hu_at_black + scale.hu_per_level * x for x in (luma, mean))
        body = largest_filled((hu > -500) & (luma > 0))
        found = tissue_map(luma, data_range=peak, scale=scale)
        np.testing.assert_array_equal(found.mask(Area.BODY), body)
        # Single precision may decide otherwise right at a limit.
        sure = (np.abs(mean_hu + 500) > 0.1) & (np.abs(mean_hu + 950) > 0.1)
        lung = body & (mean_hu >= -950) & (mean_hu <= -500)
        np.testing.assert_array_equal(found.mask(Area.LUNG)[sure], lung[sure])
        sure &= np.abs(variance / level**2 - 150) > 0.05
        flat = body & (variance < 150 * level**2) & (luma > 0) & (luma < peak) & (mean_hu > -500)
        assert 0.01 < flat.mean() < 0.6
        np.testing.assert_array_equal(found.mask(Area.FLAT)[sure], flat[sure])


def test_lung_is_found_in_lung_windows_alone(phantom_luma, lung_luma):
    lung = tissue_map(lung_luma, scale=LUNG).mask(Area.LUNG)
    assert 0.03 < lung.mean() < 0.3
    assert not tissue_map(phantom_luma[0], scale=SOFT).mask(Area.LUNG).any()
    assert not tissue_map(lung_luma).mask(Area.LUNG).any()


def test_unclipped_is_where_no_sample_of_the_window_is_clipped(frames):
    for luma, peak, scale in frames:
        inside = (luma > 0) & (luma < peak)
        window = ndimage.binary_erosion(inside, np.ones((11, 11)), border_value=1)
        found = tissue_map(luma, data_range=peak, scale=scale).mask(Area.UNCLIPPED)
        np.testing.assert_array_equal(found, window)


def test_body_survives_a_field_of_view_that_cuts_it():
    x = np.zeros((100, 120), np.uint8)
    x[10:90, 20:] = 120
    # Lung that the right border opens, and a table that does not belong to the body.
    x[40:60, 60:] = 0
    x[95:97] = 200
    body = tissue_map(x).mask(Area.BODY)
    assert body[50, 100]
    assert body[50, 119]
    assert not body[96].any()
    assert not body[:10].any()
    assert not body[50, :20].any()


def test_largest_component_of_random_masks():
    rng = np.random.default_rng(5)
    for share in (0.02, 0.2, 0.5, 0.6, 0.95):
        for shape in ((1, 1), (1, 30), (30, 1), (41, 37)):
            mask = (rng.random(shape) < share).astype(np.uint8)
            labels, _ = ndimage.label(mask)
            sizes = np.bincount(labels.ravel())[1:]
            out = np.empty_like(mask)
            tissue_kernels.largest_filled(mask, 1.0, out)
            if np.count_nonzero(sizes == sizes.max(initial=0)) == 1:
                np.testing.assert_array_equal(out, largest_filled(mask > 0))


def test_inverted_frames_have_the_same_tissue(lung_luma):
    plain = tissue_map(lung_luma, scale=LUNG)
    inverted = tissue_map(255 - lung_luma, scale=LUNG.negative(255))
    assert LUNG.negative(255).hu_at_black == 150
    np.testing.assert_array_equal(inverted.codes, plain.codes)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (40, 3), (8, 9)])
def test_small_frames_have_a_map(shape):
    x = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    found = tissue_map(x)
    assert found.codes.shape == shape
    np.testing.assert_array_equal(
        found.mask(Area.DENSE), (ndimage.white_tophat(x, size=9) > 40) & (x > 60)
    )


@pytest.mark.parametrize("shape", [(0, 5), (5,), (2, 5, 5)])
def test_what_is_no_frame_is_refused(shape):
    with pytest.raises(ValueError, match="two dimensions"):
        tissue_map(np.zeros(shape, np.uint8))


def test_scales_are_finite_and_not_flat():
    for numbers in ((np.nan, 1.0), (0.0, np.inf), (0.0, 0.0)):
        with pytest.raises(ValueError, match=r"scale|step"):
            GreyScale(*numbers)


@pytest.fixture(scope="module")
def pair(lung_luma):
    rng = np.random.default_rng(2)
    noise = rng.normal(1.5, 4, lung_luma.shape)
    shown = np.clip(np.rint(lung_luma * 0.97 + noise), 0, 255).astype(np.uint8)
    return FramePair(lung_luma, shown, FrameFormat(*lung_luma.shape))


def test_errors_by_area(pair):
    found = tissue_map(pair.source, scale=LUNG)
    errors = tissue_errors(pair, found)
    difference = pair.shown.astype(int) - pair.source
    for area in Area:
        inside = difference[found.mask(area)]
        summary = errors.errors(area)
        assert summary.samples == inside.size > 0
        assert summary.rmse == pytest.approx(np.sqrt(np.mean(inside**2.0)))
        assert summary.bias == pytest.approx(inside.mean())
        assert summary.maximum == np.abs(inside).max()
        assert summary.p99 == np.quantile(np.abs(inside), 0.99, method="inverted_cdf")
        scaled = summary.scaled(LUNG.hu_per_level)
        assert scaled.rmse == pytest.approx(1500 / 255 * summary.rmse)
        assert scaled.bias == pytest.approx(1500 / 255 * summary.bias)
        assert errors.largest(area) == summary.maximum
        mse = np.mean((inside * 2.0) ** 2)
        assert summary.scaled(2).psnr(510) == pytest.approx(10 * np.log10(510**2 / mse))
        assert summary.scaled(-2).bias == pytest.approx(-2 * summary.bias)
        assert summary.scaled(-2).p99 == pytest.approx(2 * summary.p99)


def test_ssim_where_nothing_is_clipped_and_in_the_body(pair):
    found = tissue_map(pair.source, scale=LUNG)
    errors = tissue_errors(pair, found)
    _, index = structural_similarity(
        pair.source,
        pair.shown,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    inside = np.s_[kernels.RADIUS : -kernels.RADIUS, kernels.RADIUS : -kernels.RADIUS]
    for area in (Area.BODY, Area.UNCLIPPED):
        truth = index[inside][found.mask(area)[inside]].mean()
        assert errors.ssim(area) == pytest.approx(truth, abs=2e-6)


def test_noise_kept_is_the_ratio_of_variances_in_blocks(pair):
    found = tissue_map(pair.source, scale=LUNG)
    flat = found.mask(Area.FLAT)
    sums = np.zeros(2)
    for top in range(0, flat.shape[0], 8):
        for left in range(0, flat.shape[1], 8):
            block = np.s_[top : top + 8, left : left + 8]
            for k, frame in enumerate((pair.source, pair.shown)):
                inside = frame[block][flat[block]].astype(float)
                sums[k] += np.sum((inside - inside.mean()) ** 2) if inside.size else 0
    assert tissue_errors(pair, found).noise_kept == pytest.approx(sums[1] / sums[0])


def test_smoothing_takes_noise_away_and_perfect_slices_keep_it(lung_luma):
    found = tissue_map(lung_luma, scale=LUNG)
    shape = FrameFormat(*lung_luma.shape)
    kept = [
        tissue_errors(
            FramePair(lung_luma, ndimage.uniform_filter(lung_luma, size), shape), found
        ).noise_kept
        for size in (3, 7)
    ]
    assert 0.8 > kept[0] > kept[1] > 0.1
    same = tissue_errors(FramePair(lung_luma, lung_luma, shape), found)
    assert same.noise_kept == 1
    assert same.ssim(Area.BODY) == pytest.approx(1)
    assert same.errors(Area.BODY).maximum == same.largest(Area.BODY) == 0
    assert same.errors(Area.BODY).psnr(255) == 100


def test_share_of_the_body_that_is_clipped(frames):
    for luma, peak, scale in frames:
        found = tissue_map(luma, data_range=peak, scale=scale)
        rows, columns = luma.shape
        pair = FramePair(luma, luma, FrameFormat(rows, columns, 8 if peak == 255 else 10))
        inside = luma[found.mask(Area.BODY)]
        share = np.mean((inside == 0) | (inside == peak))
        assert 0.01 < share < 0.9
        assert tissue_errors(pair, found).clipped_share == pytest.approx(share)


def test_ssim_of_a_few_windows_is_not_told():
    """An area of 256 windows has one, one of 255 has none."""
    luma = np.zeros((64, 64), np.uint8)
    for rows, columns, is_told in ((16, 16, True), (15, 17, False)):
        x = luma.copy()
        x[20 : 20 + rows, 20 : 20 + columns] = 100
        errors = tissue_errors(FramePair(x, x, FrameFormat(64, 64)), tissue_map(x))
        assert (
            (errors.ssim(Area.BODY) == pytest.approx(1))
            if is_told
            else (errors.ssim(Area.BODY) is None)
        )
        assert errors.errors(Area.BODY).samples == rows * columns


def test_slices_add_up(pair, phantom_luma):
    other = FramePair(phantom_luma[0], phantom_luma[1], FrameFormat(*phantom_luma[0].shape))
    pairs = [(pair, tissue_map(pair.source, scale=LUNG)), (other, tissue_map(other.source))]
    total = combined(tissue_errors(*each) for each in pairs)
    inside = np.concatenate(
        [(p.shown.astype(int) - p.source)[found.mask(Area.EDGE)] for p, found in pairs]
    )
    summary = total.errors(Area.EDGE)
    assert summary.samples == inside.size
    assert summary.rmse == pytest.approx(np.sqrt(np.mean(inside**2.0)))
    assert summary.p99 == np.quantile(np.abs(inside), 0.99, method="inverted_cdf")
    clipped = [np.isin(p.source[found.mask(Area.BODY)], (0, 255)) for p, found in pairs]
    assert total.clipped_share == pytest.approx(np.mean(np.concatenate(clipped)))
    first, second = (tissue_errors(*one).ssim(Area.BODY) or 0 for one in pairs)
    assert min(first, second) < (total.ssim(Area.BODY) or 0) < max(first, second)


def test_empty_areas_have_no_figures():
    black = np.zeros((32, 32), np.uint8)
    errors = tissue_errors(FramePair(black, black, FrameFormat(32, 32)), tissue_map(black))
    assert all(errors.errors(area) is errors.largest(area) is None for area in Area)
    assert errors.clipped_share is None
    assert errors.ssim(Area.BODY) is None
    assert errors.noise_kept is None


def test_ten_bit_errors_reach_both_ends():
    source = np.zeros((16, 16), np.uint16)
    source[0] = 1023
    shown = np.where(source > 0, 0, 1023).astype(np.uint16)
    shape = FrameFormat(16, 16, 10)
    found = tissue_map(source, data_range=1023)
    errors = tissue_errors(FramePair(source, shown, shape), found)
    inside = (shown.astype(int) - source)[found.mask(Area.EDGE)]
    assert errors.errors(Area.EDGE).bias == pytest.approx(inside.mean())
    assert errors.errors(Area.EDGE).maximum == 1023


def test_a_map_of_another_slice_is_refused(pair):
    with pytest.raises(ValueError, match="map"):
        tissue_errors(pair, tissue_map(np.zeros((16, 16), np.uint8)))
