"""What can be encoded: folders, files, series, volumes, arrays and frames."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dicom_files import CANARY, write_series
from numpy.testing import assert_array_equal
from video_files import SOFT_TISSUE, ct_volume, frames_of, plane, slices_of, windowed

from ssimrdo import (
    EncodeSettings,
    FrameFormat,
    InputError,
    Observer,
    Volume,
    Window,
    encode,
    encode_frames,
    find_series,
    load_volume,
    open_series,
)
from ssimrdo.dicom import Geometry, load_hu

SLICES, ROWS, COLUMNS = 6, 48, 256
SOFT = Window(*SOFT_TISSUE)
FAST = {"preset": "veryfast"}
UIDS = "1.2.826"


@pytest.fixture(scope="module")
def hu():
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def folder(hu, tmp_path_factory):
    folder = tmp_path_factory.mktemp(CANARY)
    write_series(folder, hu, PixelSpacing=[0.75, 0.5])
    return folder


@pytest.fixture(scope="module")
def of_folder(folder, tmp_path_factory):
    """The coded slices of the folder at a window that it does not come with."""
    output = tmp_path_factory.mktemp("out") / "folder.h264"
    result = encode(folder, output, window=SOFT, **FAST)
    return output.read_bytes(), result


def spaced(hu, **more):
    return Volume(hu, pixel_spacing_mm=(0.75, 0.5), **more)


OF_FOLDER = {
    "text": str,
    "series": lambda folder: open_series(folder)[0],
    "found series": lambda folder: find_series(folder).series[0],
    "loaded volume": load_volume,
}
OF_ARRAY = {
    "array": spaced,
    "array of doubles": lambda hu: spaced(hu.astype(float)),
    "read-only view": lambda hu: spaced(np.broadcast_to(hu[::-1][::-1], hu.shape)),
    "list": lambda hu: spaced(list(hu)),
    "nested lists": lambda hu: spaced(hu.tolist()),
    "generator": lambda hu: spaced(one for one in hu),
    "window of its own": lambda hu: spaced(hu, window=Window(0, 10)),
}


@pytest.mark.parametrize("name", [*OF_FOLDER, *OF_ARRAY])
def test_the_same_slices_give_the_same_bytes(name, folder, hu, of_folder, tmp_path):
    output = tmp_path / "out.h264"
    source = OF_FOLDER[name](folder) if name in OF_FOLDER else OF_ARRAY[name](hu)
    result = encode(source, output, window=SOFT, **FAST)
    expected, of_files = of_folder
    assert output.read_bytes() == expected
    assert result.quality == of_files.quality
    assert result.grey == of_files.grey
    assert result.geometry.pixel_spacing_mm == (0.75, 0.5)


def test_a_single_file_is_a_series_of_one(folder, tmp_path):
    path = sorted(folder.iterdir())[0]
    result = encode(path, tmp_path / "out.mp4", **FAST)
    assert (result.frames, len(result.slices)) == (1, 1)


def test_a_volume_has_the_slices_of_the_folder(folder, hu):
    volume = load_volume(folder)
    series, _ = open_series(folder)
    assert volume.hu.dtype == np.float32
    assert_array_equal(volume.hu, [load_hu(header) for header in series.slices])
    assert_array_equal(volume.hu, hu)
    assert volume.window == series.header_window == Window(40, 80)
    assert (len(volume), len(series)) == (SLICES, SLICES)
    assert volume.pixel_spacing_mm == (0.75, 0.5)
    assert volume.positions_mm == tuple(range(0, 2 * SLICES, 2))
    assert volume.geometry.orientation == (1, 0, 0, 0, 1, 0)


def test_a_volume_of_a_single_file_or_of_some_files(folder):
    first, second, *_ = sorted(path.name for path in folder.iterdir())
    assert len(load_volume(folder / first)) == 1
    assert len(load_volume(folder, files=[second, first])) == 2


def test_one_of_several_series_is_chosen(hu, tmp_path):
    write_series(tmp_path / "ct/a", hu[:2])
    write_series(tmp_path / "ct/b", hu[:3], SeriesInstanceUID="1.2.3.4")
    with pytest.raises(InputError, match="2 CT series"):
        load_volume(tmp_path / "ct")
    assert len(load_volume(tmp_path / "ct", series_uid="1.2.3.4")) == 3
    result = encode(tmp_path / "ct", tmp_path / "out.mp4", series_uid="1.2.3.4", **FAST)
    assert result.frames == 3


def test_damaged_headers_are_left_out_of_a_volume(hu, tmp_path):
    files = write_series(tmp_path, hu)
    files[1].write_bytes(files[1].read_bytes()[:2000])
    with pytest.raises(InputError, match=files[1].name):
        load_volume(tmp_path)
    volume = load_volume(tmp_path, skip_bad=True)
    assert_array_equal(volume.hu, np.delete(hu, 1, axis=0))
    assert volume.positions_mm == (0, 4, 6, 8, 10)


def test_monochrome1_is_inverted_through_a_volume_as_well(hu, tmp_path):
    write_series(tmp_path / "ct", hu, PhotometricInterpretation="MONOCHROME1")
    results = []
    for name, source in (("a", tmp_path / "ct"), ("b", load_volume(tmp_path / "ct"))):
        results.append(encode(source, tmp_path / f"{name}.h264", window=SOFT, qp=4))
    assert (tmp_path / "a.h264").read_bytes() == (tmp_path / "b.h264").read_bytes()
    assert all(result.grey.inverted for result in results)
    shown = plane(frames_of(tmp_path / "b.h264")[0])
    assert np.abs(shown - (255 - windowed(hu[0]))).max() <= 6


@pytest.mark.parametrize("window", [None, Window(-600, 1500)])
def test_a_volume_is_shown_in_its_own_window(window, hu, tmp_path, caplog):
    result = encode(Volume(hu, window=window), tmp_path / "out.mp4", **FAST)
    used = (result.window.center, result.window.width)
    assert used == ((40, 400) if window is None else (-600, 1500))
    assert ("has no window" in caplog.text) is (window is None)


def test_positions_come_with_an_array(hu, tmp_path):
    positions = [1.5, 4, 6.5, 9, 11.5, 14]
    result = encode(Volume(hu, positions_mm=positions, window=SOFT), tmp_path / "a.mp4", **FAST)
    assert result.geometry == Geometry(along_mm=tuple(positions))
    assert [one["position_mm"] for one in result.slices] == positions
    assert encode(Volume(hu, window=SOFT), tmp_path / "b.mp4", **FAST).geometry == Geometry()


@pytest.mark.parametrize("several", [{"bitrate_kbps": 200}, {"min_ssim": 0.9}, {"over": "mean"}])
def test_an_iterator_is_good_for_one_pass(several, hu, tmp_path):
    luma = [windowed(one).astype(np.uint8) for one in hu]
    for work, field in (
        (lambda: encode(Volume(iter(hu), window=SOFT), tmp_path / "a.mp4", **several), "hu"),
        (lambda: encode_frames(iter(luma), tmp_path / "a.mp4", **several), "frames"),
    ):
        with pytest.raises(InputError, match="an iterator can be encoded in one pass") as caught:
            work()
        assert caught.value.field == field
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []
    encode(Volume(list(hu), window=SOFT), tmp_path / "a.mp4", bitrate_kbps=200, **FAST)
    encode_frames(luma, tmp_path / "b.mp4", bitrate_kbps=200, **FAST)


@pytest.mark.parametrize("found", [False, True])
@pytest.mark.parametrize(
    "elements", [{"PixelSpacing": [100, 1]}, {"compress": "1.2.840.10008.1.2.4.80"}]
)
def test_messages_hold_no_control_character_of_a_path(elements, found, hu, tmp_path):
    folder = tmp_path / "ct\n\x1b[31m"
    for path in write_series(folder, hu, **elements):
        path.write_bytes(path.read_bytes()[:-600] + b"\0" * 598 + b"\xff\xd9")
    source = open_series(folder)[0] if found else folder
    with pytest.raises(InputError) as caught:
        encode(source, tmp_path / "out.mp4", skip_bad=True, **FAST)
    assert "ct??[31m" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_generator_is_not_kept_in_memory(tmp_path):
    """Slices are made as they are asked for, a few ahead of the encoder."""
    made, done = [], []

    def slices():
        for index in range(60):
            made.append(index)
            yield np.full((16, 16), index, np.int16)

    ahead = []

    def watch(event):
        done.append(event.done)
        ahead.append(len(made) - event.done)

    encode(Volume(slices(), window=SOFT), tmp_path / "out.mp4", observer=Observer(watch), **FAST)
    assert done == list(range(1, 61))
    assert max(ahead) < 10


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        *(({"hu": hu}, "hu") for hu in (5, None, np.zeros((4, 4)), np.zeros((0, 16, 16)))),
        *(({"pixel_spacing_mm": wrong}, "pixel_spacing_mm") for wrong in (1, (1,), "ab")),
        *(({"pixel_spacing_mm": (1, mm)}, "pixel_spacing_mm") for mm in (0, -1, np.nan, np.inf)),
        *(({"positions_mm": wrong}, "positions_mm") for wrong in (5, [0, 1], ["a"] * SLICES)),
        ({"positions_mm": [np.nan] * SLICES}, "positions_mm"),
        *(({"window": window}, "window") for window in ("lung", (40, 400))),
        ({"geometry": {"along_mm": ()}}, "geometry"),
        ({"geometry": Geometry(along_mm=(1.0,))}, "positions_mm"),
    ],
)
def test_wrong_volumes_are_refused_by_name(arguments, field, hu):
    with pytest.raises(InputError) as caught:
        Volume(**{"hu": hu, **arguments})
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("slices", "named"),
    [
        ([], "hu: is empty"),
        ([np.zeros(16)], "rows and columns"),
        ([np.zeros((16, 16)), np.zeros((16, 18))], r"slice 2 is \(16, 18\)"),
        ([np.zeros((16, 16)), np.full((16, 16), np.nan)], "slice 2 has values that are no finite"),
        ([np.zeros((15, 16))], "the volume: slices of 16x15 cannot be encoded"),
    ],
)
@pytest.mark.parametrize("kind", [list, iter])
def test_slices_that_make_no_volume(slices, named, kind, tmp_path):
    with pytest.raises(InputError, match=named) as caught:
        encode(Volume(kind(slices), window=SOFT), tmp_path / "out.mp4", **FAST)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("positions", [2, 4])
def test_an_iterator_with_another_number_of_positions(positions, hu, tmp_path):
    volume = Volume(iter(hu[:3]), positions_mm=range(positions), window=SOFT)
    with pytest.raises(InputError, match=f"{positions} positions for") as caught:
        encode(volume, tmp_path / "out.mp4", **FAST)
    assert caught.value.field == "positions_mm"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", [5, None, b"ct", ["ct"], np.zeros((3, 16, 16))])
def test_other_things_are_no_series(source, tmp_path):
    with pytest.raises(InputError, match="neither a path nor a series nor a volume") as caught:
        encode(source, tmp_path / "out.mp4")
    assert caught.value.field == "series"


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_frames_are_what_a_series_comes_to(bit_depth, hu, tmp_path):
    write_series(tmp_path / "ct", hu)
    luma = np.array([windowed(one, bit_depth=bit_depth) for one in hu])
    luma = luma.astype(np.uint8 if bit_depth == 8 else np.uint16)
    options = {"bit_depth": bit_depth, "crf": 30, **FAST}
    of_series = encode(tmp_path / "ct", tmp_path / "a.h264", window=SOFT, **options)
    kinds = {"array": luma, "list": list(luma), "generator": (frame for frame in luma)}
    for name, frames in kinds.items():
        result = encode_frames(frames, tmp_path / f"{name}.h264", **options)
        assert (tmp_path / f"{name}.h264").read_bytes() == (tmp_path / "a.h264").read_bytes()
        assert result.quality == of_series.quality
        assert (result.grey, result.window, result.geometry) == (None, None, Geometry())
        assert [one["position_mm"] for one in result.slices] == [None] * SLICES
    sidecar = json.loads((tmp_path / "array.json").read_text())
    assert (sidecar["grey"], sidecar["window"]) == (None, None)


def test_a_format_tells_all_of_the_frames(tmp_path):
    shown = FrameFormat(32, 48, 10, fps=EncodeSettings.of(fps=5).fps)
    frames = [np.full((32, 48), 400, np.uint16)] * 3
    result = encode_frames(frames, tmp_path / "out.mp4", frame_format=shown, **FAST)
    assert (result.bit_depth, result.fps) == (10, "5")
    assert frames_of(tmp_path / "out.mp4")[1].time == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("frames", "options", "named"),
    [
        ([], {}, "frames: is empty"),
        ([], {"frame_format": FrameFormat(16, 16)}, "frames: is empty"),
        (iter(()), {}, "frames: is empty"),
        (5, {}, "frames: 5 are no frames"),
        ([np.zeros(16, np.uint8)], {}, "frames: a frame has rows and columns"),
        ([np.zeros((16, 16))], {}, r"frame 1: a frame is \(16, 16\) float64, not"),
        ([np.zeros((16, 16), np.uint8), np.zeros((16, 18), np.uint8)], {}, "frame 2: a frame is"),
        ([np.zeros((16, 16), np.uint8), "frame"], {}, "frame 2"),
        (
            [np.full((16, 16), 1024, np.uint16)],
            {"bit_depth": 10},
            "frame 1: a frame has luma of 1024, above 1023",
        ),
        ([np.zeros((16, 16), np.uint8)], {"frame_format": FrameFormat(16, 18)}, "frame 1"),
        ([np.zeros((8, 16), np.uint8)], {}, "slices of 16x8 cannot be encoded"),
    ],
)
def test_frames_that_cannot_be_encoded(frames, options, named, tmp_path):
    with pytest.raises(InputError, match=named) as caught:
        encode_frames(frames, tmp_path / "out.mp4", **options, **FAST)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_settings_come_whole_or_as_options(folder, tmp_path):
    output = tmp_path / "out.mp4"
    with pytest.raises(InputError) as caught:
        encode(folder, output, EncodeSettings(), crf=20)
    assert caught.value.field == "crf"
    with pytest.raises(InputError) as caught:
        encode(folder, output, {"crf": 20})
    assert caught.value.field == "settings"
    with pytest.raises(InputError, match="'cfr' is not an option"):
        encode(folder, output, cfr=20)
    whole = encode(folder, output, EncodeSettings.of(crf=20, window="lung", **FAST))
    options = encode(folder, tmp_path / "b.mp4", crf=20, window="lung", **FAST)
    assert slices_of(output) == slices_of(tmp_path / "b.mp4")
    assert (options.window.center, options.window.width) == (-600, 1500)
    assert whole.quality == options.quality


def test_reprs_are_short_and_name_nobody(folder, hu, tmp_path):
    series, _ = open_series(folder)
    volume = load_volume(folder)
    result = encode(folder, tmp_path / f"{CANARY}.mp4", **FAST)
    shown = {
        f"Series({SLICES} slices of {COLUMNS}x{ROWS})": series,
        f"Volume({SLICES} slices of {COLUMNS}x{ROWS})": volume,
        "Volume(some slices)": Volume(iter(hu)),
        f"Volume({SLICES} slices)": Volume(list(hu)),
        f"SliceHeader({COLUMNS}x{ROWS}, position=(0.0, 0.0, 0.0))": series.slices[0],
        f"Geometry(pixel_spacing_mm=(0.75, 0.5), slices={SLICES})": volume.geometry,
    }
    assert {repr(thing): thing for thing in shown.values()} == shown
    assert repr(result).startswith(f"EncodeResult({SLICES} slices, ")
    for thing in (*shown.values(), result):
        assert len(repr(thing)) < 120
        assert CANARY not in repr(thing)
        assert UIDS not in repr(thing)
        assert str(tmp_path) not in repr(thing)


def test_the_length_of_an_iterator_is_not_known(hu):
    with pytest.raises(TypeError, match="not known"):
        len(Volume(iter(hu)))
