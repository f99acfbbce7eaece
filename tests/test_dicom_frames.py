from __future__ import annotations

import logging

import numpy as np
import pytest
from dicom_files import write_series
from numpy.testing import assert_array_equal

from ssimrdo.dicom import Window, open_series
from ssimrdo.dicom.luma import (
    FALLBACK_WINDOW,
    check_size,
    choose_window,
    even,
    luma_frames,
    pad_to_even,
)
from ssimrdo.errors import BadSliceError, InputError


def a_series(folder, *, shape=(3, 17, 20), **overrides):
    paths = write_series(folder, np.zeros(shape) + 40, **overrides)
    return open_series(folder)[0], paths


def test_the_window_asked_for_comes_before_that_of_the_header(tmp_path, caplog):
    series, _ = a_series(tmp_path / "a", WindowCenter=35, WindowWidth=100)
    assert choose_window(series, Window(-600, 1500)) == Window(-600, 1500)
    assert choose_window(series) == Window(35, 100)
    assert not caplog.records


def test_without_any_window_there_is_a_warning(tmp_path, caplog):
    series, _ = a_series(tmp_path / "a", WindowCenter=None, WindowWidth=None)
    with caplog.at_level(logging.WARNING, logger="ssimrdo"):
        assert choose_window(series, name="chest") == FALLBACK_WINDOW
    (record,) = caplog.records
    assert record.getMessage().startswith("chest: the header has no window: using 40/400 HU;")


@pytest.mark.parametrize(("rows", "columns", "fits"), [(16, 16, True), (15, 99, False)])
def test_sides_have_limits(tmp_path, rows, columns, fits):
    series, _ = a_series(tmp_path / "a", shape=(1, rows, columns))
    if fits:
        check_size(series, "here")
        return
    with pytest.raises(InputError, match=rf"^here: slices of {columns}x{rows} cannot be encoded"):
        check_size(series, "here")


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
    assert "cut off" in error.reason or "decoded" in error.reason
    assert len(frames) == 2


def test_odd_sides_repeat_their_last_samples():
    luma = np.arange(15, dtype=np.uint16).reshape(3, 5)
    padded = pad_to_even(luma)
    assert padded.shape == (even(3), even(5)) == (4, 6)
    assert_array_equal(padded[:3, :5], luma)
    assert_array_equal(padded[3, :5], luma[2])
    assert_array_equal(padded[:, 5], padded[:, 4])
    assert pad_to_even(padded) is padded
