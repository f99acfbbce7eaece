from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from dicom_files import write_series
from numpy.testing import assert_array_equal
from video_files import ct_volume, windowed

from ssimrdo.dicom import Window, geometry_of, load_hu, open_series
from ssimrdo.dicom.luma import FALLBACK_WINDOW, choose_window, load_luma, load_shown, luma_frames
from ssimrdo.errors import BadSliceError


def a_series(folder, *, shape=(3, 17, 20), **overrides):
    paths = write_series(folder, np.zeros(shape) + 40, **overrides)
    return open_series(folder)[0], paths


def test_the_window_asked_for_comes_before_that_of_the_header(tmp_path, caplog):
    series, _ = a_series(tmp_path / "a", WindowCenter=35, WindowWidth=100)
    own = series.header_window
    assert choose_window(own, Window(-600, 1500)) == Window(-600, 1500)
    assert choose_window(own) == Window(35, 100)
    assert not caplog.records


def test_without_any_window_there_is_a_warning(tmp_path, caplog):
    series, _ = a_series(tmp_path / "a", WindowCenter=None, WindowWidth=None)
    with caplog.at_level(logging.WARNING, logger="ssimrdo"):
        assert choose_window(series.header_window, name="chest") == FALLBACK_WINDOW
    (record,) = caplog.records
    assert record.getMessage().startswith("chest: the header has no window: using 40/400 HU;")


def test_slices_become_luma_each_with_its_place(tmp_path):
    volume = ct_volume(3, 20, 24)
    write_series(tmp_path, volume)
    series, _ = open_series(tmp_path)
    frames = list(luma_frames(series.slices, Window(40, 400), bit_depth=10))
    assert [index for index, *_ in frames] == [0, 1, 2]
    for (_, luma, _), hu in zip(frames, volume, strict=True):
        assert luma.dtype == np.uint16
        assert_array_equal(luma, windowed(hu, bit_depth=10))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", "WIDE"])
@pytest.mark.parametrize(("bit_depth", "padding"), [(8, "air"), (10, "darkest")])
def test_a_series_and_its_slices_alone_have_the_same_luma(tmp_path, function, bit_depth, padding):
    """Whatever the slices' scales, of which any may differ from the one before."""
    rng = np.random.default_rng(1)
    write_series(tmp_path, rng.integers(-3000, 4000, (2, 40, 40)).astype(float))
    first, second = open_series(tmp_path)[0].slices
    window = Window(40, 400, function)
    slices = [
        first,
        second,
        replace(first, rescale_slope=2.5, rescale_intercept=-1000.3),
        replace(first, bits_stored=12, high_bit=13),
        replace(second, signed=not second.signed),
        replace(second, padding=(-20, 60)),
        replace(second, padding=(60000, 60000), signed=False, bits_stored=12, high_bit=11),
        replace(first, photometric_interpretation="MONOCHROME1", padding=(5, 5)),
    ]
    settings = {"bit_depth": bit_depth, "padding": padding}
    found = [luma for _, luma, _ in luma_frames(slices, window, **settings)]
    masks = [padded for *_, padded in luma_frames(slices, window, **settings)]
    for header, luma, padded in zip(slices, found, masks, strict=True):
        expected, mask = load_shown(header, window, bit_depth, padding)
        assert_array_equal(luma, expected)
        assert_array_equal(padded, mask)
        assert luma.dtype == (np.uint8 if bit_depth == 8 else np.uint16)
    assert len({luma.tobytes() for luma in found}) >= 6


def test_monochrome1_is_shown_inverted(tmp_path):
    series, _ = a_series(tmp_path / "a", PhotometricInterpretation="MONOCHROME1")
    header = series.slices[0]
    plain = replace(header, photometric_interpretation="MONOCHROME2")
    window = Window(100, 400)
    assert_array_equal(load_luma(header, window), 255 - load_luma(plain, window))


def test_a_bad_slice_is_left_out_only_where_somebody_notes_it(tmp_path):
    series, paths = a_series(tmp_path / "a")
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    with pytest.raises(BadSliceError):
        list(luma_frames(series.slices, Window(40, 400)))
    noted = []
    frames = list(
        luma_frames(series.slices, Window(40, 400), on_bad=lambda *bad: noted.append(bad))
    )
    ((header, error),) = noted
    assert header.path == paths[1]
    assert "cut off" in error.cause or "decoded" in error.cause
    assert [index for index, *_ in frames] == [0, 2]


def test_geometry_is_that_of_the_header_in_the_order_of_the_slices(tmp_path):
    """A coronal series: rows point along -z, the normal along y."""
    volume = ct_volume(4, 16, 20)
    write_series(
        tmp_path,
        volume,
        orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
        step=(0.5, 2.5, 0.0),
        PixelSpacing=[0.75, 0.5],
        SliceThickness=3.5,
    )
    series, _ = open_series(tmp_path)
    assert_array_equal([load_hu(header) for header in series.slices], volume)
    geometry = geometry_of(series)
    assert geometry.pixel_spacing_mm == (0.75, 0.5)
    assert geometry.orientation == (1, 0, 0, 0, 0, -1)
    assert geometry.positions_mm == ((0, 0, 0), (0.5, 2.5, 0), (1, 5, 0), (1.5, 7.5, 0))
    assert geometry.along_mm == (0, 2.5, 5, 7.5)
    assert geometry.thickness_mm == 3.5
    some = geometry.of([1, 3])
    assert some.positions_mm == ((0.5, 2.5, 0), (1.5, 7.5, 0))
    assert some.along_mm == (2.5, 7.5)
    assert replace(some, positions_mm=None, along_mm=None) == replace(
        geometry, positions_mm=None, along_mm=None
    )


@pytest.mark.parametrize("thickness", [None, 0, -2])
def test_what_the_header_does_not_say_stays_open(tmp_path, thickness):
    series, _ = a_series(tmp_path / "a", SliceThickness=thickness, PixelSpacing=None)
    geometry = geometry_of(series)
    assert geometry.thickness_mm is None
    assert geometry.pixel_spacing_mm is None
    assert geometry.along_mm == (0, 2, 4)
