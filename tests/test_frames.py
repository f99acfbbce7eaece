"""What a frame looks like, and sources of frames."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssimrdo.frames import FrameFormat, FrameSource, block_grid

sides = st.integers(1, 70)
depths = st.integers(8, 16)
formats = st.builds(FrameFormat, sides, sides, depths)


def frame_of(frame_format, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, frame_format.peak, frame_format.shape, endpoint=True).astype(
        frame_format.dtype
    )


@given(formats, st.sampled_from([1, 2, 4, 8, 16]))
def test_padding_repeats_the_border_and_cropping_takes_it_off(shown, multiple):
    luma = frame_of(shown)
    coded = shown.padded(multiple)
    assert all(side % multiple == 0 for side in coded.shape)
    assert all(0 <= a - b < multiple for a, b in zip(coded.shape, shown.shape, strict=True))
    assert (coded.bit_depth, coded.fps, coded.aspect) == (shown.bit_depth, shown.fps, shown.aspect)
    padded = coded.pad(luma)
    coded.check(padded)
    np.testing.assert_array_equal(shown.crop(padded), luma)
    rows, columns = (
        np.minimum(np.arange(side), last - 1)
        for side, last in zip(coded.shape, shown.shape, strict=True)
    )
    np.testing.assert_array_equal(padded, luma[np.ix_(rows, columns)])


@given(formats)
def test_what_fits_is_not_copied(shown):
    luma = frame_of(shown)
    assert shown.pad(luma) is luma
    assert np.shares_memory(shown.crop(luma), luma)
    even = shown.padded()
    assert even.padded() == even


@given(formats)
def test_the_grid_covers_the_frame_and_no_more(shown):
    covered = np.zeros(shown.grid, int)
    for row in range(shown.rows):
        covered[row // 16, np.arange(shown.columns) // 16] += 1
    assert (covered > 0).all()
    assert shown.grid == block_grid(shown.shape) == block_grid(frame_of(shown).shape)


@given(depths)
def test_peak_and_dtype_go_with_the_depth(depth):
    shown = FrameFormat(16, 16, depth)
    assert shown.peak == 2**depth - 1
    assert isinstance(shown.peak, int)
    assert shown.dtype == (np.uint8 if depth == 8 else np.uint16)
    assert np.iinfo(shown.dtype).max >= shown.peak


def test_by_default_frames_are_plain_video():
    shown = FrameFormat(48, 64)
    assert (shown.bit_depth, shown.fps, shown.aspect) == (8, 25, 1)
    assert shown.shape == (48, 64)


@pytest.mark.parametrize(
    "changes",
    [
        *({"rows": rows} for rows in (0, -1)),
        {"columns": 0},
        *({"bit_depth": depth} for depth in (7, 17)),
        *({"fps": Fraction(fps)} for fps in (0, -25)),
        {"aspect": Fraction(0)},
    ],
)
def test_impossible_formats_are_refused(changes):
    with pytest.raises(ValueError, match="frame"):
        FrameFormat(**{"rows": 16, "columns": 16, **changes})


@pytest.mark.parametrize(
    "luma",
    [
        np.zeros((16, 17), np.uint8),
        np.zeros((17, 16), np.uint8),
        np.zeros((1, 16, 16), np.uint8),
        np.zeros((16, 16), np.uint16),
        np.zeros((16, 16), float),
    ],
)
def test_frames_of_another_format_are_refused(luma):
    FrameFormat(16, 16).check(np.zeros((16, 16), np.uint8))
    with pytest.raises(ValueError, match="a frame is "):
        FrameFormat(16, 16).check(luma)


def test_a_source_can_be_gone_through_again():
    shown = FrameFormat(16, 16)
    frames = [frame_of(shown, seed) for seed in range(3)]
    source = FrameSource(shown, 3, lambda: iter(frames))
    for _ in range(2):
        np.testing.assert_array_equal(list(source.frames()), frames)
    first, second = source.frames(), source.frames()
    next(first)
    assert len(list(second)) == 3
    assert len(list(first)) == 2
