from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing

from ssimrdo.dicom import NAMED_WINDOWS, Window, apply_window, parse_window
from ssimrdo.errors import InputError

RAMP = np.arange(-1100, 3100, dtype=np.float32).reshape(42, 100)


def pydicom_window(hu: np.ndarray, window: Window, bits: int) -> np.ndarray:
    """Window with pydicom, whose output range is that of Bits Stored, in float64."""
    dataset = Dataset()
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsStored, dataset.BitsAllocated, dataset.PixelRepresentation = bits, 16, 0
    dataset.WindowCenter, dataset.WindowWidth = window.center, window.width
    dataset.VOILUTFunction = window.function
    return np.asarray(apply_windowing(hu.astype(np.int32), dataset))


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(-600, 1500), (35.5, 99.5)])
def test_window_equals_pydicom(center: float, width: float, function: str, bits: int) -> None:
    window = Window(center, width, function)
    expected = pydicom_window(RAMP, window, bits)
    luma = apply_window(RAMP, window, bit_depth=bits)
    assert luma.dtype == (np.uint8 if bits == 8 else np.uint16)
    # A value half way between two levels may go to either.
    assert np.abs(luma - expected).max() <= 0.5 + 1e-3


def test_linear_by_hand() -> None:
    # PS3.3 C.11.2.1.2.1: ((x - 39.5) / 79 + 0.5) * 255; black up to 0, white above 79.
    hu = np.array([[-1, 0, 1, 40, 78, 79, 80]], dtype=np.float32)
    assert_array_equal(apply_window(hu, Window(40, 80)), [[0, 0, 3, 129, 252, 255, 255]])


def test_linear_exact_by_hand() -> None:
    # PS3.3 C.11.2.1.3.2: ((x - 40) / 80 + 0.5) * 255.
    hu = np.array([[-1, 0, 1, 40, 79, 80, 81]], dtype=np.float32)
    expected = [[0, 0, 3, 128, 252, 255, 255]]
    assert_array_equal(apply_window(hu, Window(40, 80, "LINEAR_EXACT")), expected)


def test_sigmoid_by_hand() -> None:
    # PS3.3 C.11.2.1.3.1: 1023 / (1 + exp(-4 (x - 40) / 80)).
    hu = np.array([[-1e6, 0, 40, 80, 1e6]], dtype=np.float32)
    expected = [[0, 122, 512, 901, 1023]]
    assert_array_equal(apply_window(hu, Window(40, 80, "SIGMOID"), bit_depth=10), expected)


def test_width_of_one_is_a_threshold() -> None:
    hu = np.array([[39, 39.5, 39.6, 40]], dtype=np.float32)
    assert_array_equal(apply_window(hu, Window(40, 1)), [[0, 0, 255, 255]])


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_tiny_width_is_a_threshold(function: str) -> None:
    hu = np.array([[39, 41]], dtype=np.float32)
    assert_array_equal(apply_window(hu, Window(40, 1e-300, function)), [[0, 255]])


@pytest.mark.parametrize("bits", [8, 10])
def test_inverted_is_the_negative(bits: int) -> None:
    window = Window(40, 400)
    luma = apply_window(RAMP, window, bit_depth=bits)
    negative = apply_window(RAMP, window, bit_depth=bits, inverted=True)
    assert negative.dtype == luma.dtype
    assert_array_equal(negative, 2**bits - 1 - luma)


def test_input_is_not_modified() -> None:
    hu = RAMP.copy()
    hu.flags.writeable = False
    for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        apply_window(hu, Window(40, 80, function), inverted=True)
    assert_array_equal(hu, RAMP)


def test_bit_depth_is_checked() -> None:
    with pytest.raises(ValueError, match="8 or 10"):
        apply_window(RAMP, Window(40, 80), bit_depth=12)


@pytest.mark.parametrize("name", sorted(NAMED_WINDOWS))
def test_names_are_parsed(name: str) -> None:
    assert parse_window(name) is NAMED_WINDOWS[name]
    assert parse_window(f" {name.upper().replace('-', '_')} ") is NAMED_WINDOWS[name]


def test_usual_presets() -> None:
    assert NAMED_WINDOWS["brain"] == Window(40, 80)
    assert NAMED_WINDOWS["lung"] == Window(-600, 1500)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("40/80", Window(40, 80)),
        ("-600/1500", Window(-600, 1500)),
        (" 35.5 / 99.5 ", Window(35.5, 99.5)),
        ("+.5/1", Window(0.5, 1)),
        ("auto", None),
        ("AUTO", None),
    ],
)
def test_texts_are_parsed(text: str, window: Window | None) -> None:
    assert parse_window(text) == window


@pytest.mark.parametrize(
    "text",
    [
        *("", "brian", "40", "40/", "/80", "40/80/1", "40,80", "nan/80", "40/inf", "1e3/2", "٤/٨"),
        *("40/0", "40/-80", "40/0.5", "9" * 400 + "/80", "40/" + "9" * 400, "a\nb", "x" * 1000),
    ],
)
def test_other_texts_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_window(text)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300


def test_unknown_name_lists_the_names() -> None:
    with pytest.raises(InputError, match=r"brain.*lung.*temporal-bone"):
        parse_window("brian")


@given(st.text())
def test_any_text_is_a_window_or_an_input_error(text: str) -> None:
    message = ""
    try:
        window = parse_window(text)
    except InputError as error:
        window, message = None, str(error)
    assert window is None or window.width >= 1
    assert message.isprintable()


@given(
    st.floats(-3000, 3000),
    st.floats(1, 6000),
)
def test_center_and_width_survive_parsing(center: float, width: float) -> None:
    assert parse_window(f"{center:.3f}/{width:.3f}") == Window(
        float(f"{center:.3f}"), float(f"{width:.3f}")
    )


@pytest.mark.parametrize(
    ("center", "width", "function"),
    [
        (float("nan"), 80, "LINEAR"),
        (40, float("inf"), "LINEAR"),
        (40, 0.5, "LINEAR"),
        (40, 0, "LINEAR_EXACT"),
        (40, 80, "CUBIC"),
    ],
)
def test_impossible_windows_are_refused(center: float, width: float, function: str) -> None:
    with pytest.raises(InputError):
        Window(center, width, function)
