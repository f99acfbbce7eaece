"""Results and sidecars: what they tell of each slice, of the rate, of grey levels and geometry."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from dicom_files import CANARY, SERIES_UID, write_series
from skimage.metrics import peak_signal_noise_ratio
from video_files import SOFT_TISSUE, ct_volume, frames_of, packets_of, plane, windowed

import ssimrdo
from ssimrdo import EncodeSettings, Window, encode, metrics
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.record.sidecar import MODEL, SCHEMA, sidecar_path, write_sidecar
from ssimrdo.record.summary import SliceSummary

SLICES, ROWS, COLUMNS = 9, 48, 256
SOFT = Window(*SOFT_TISSUE)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
GEOMETRY = {
    "orientation": CORONAL,
    "step": (0.25, 1.5, 0.0),
    "PixelSpacing": [0.75, 0.5],
    "SliceThickness": 3.0,
}
OLD_KEYS = {
    *("output", "frames", "width", "height", "bit_depth", "window", "bytes", "kbps", "ssim"),
    *("weighted_ssim", "psnr", "worst_slice", "seconds", "x264", "skipped"),
}
"""What version 0.1.0 recorded of every encode."""
OLD_SEARCH_KEYS = {
    *("min_ssim", "ssim", "target", "crf", "raised_slices", "encodes", "payload_bytes"),
    *("plain_crf", "plain_payload_bytes", "saved_percent"),
}


@pytest.fixture(scope="module")
def hu():
    return ct_volume(SLICES, ROWS, COLUMNS)


@pytest.fixture(scope="module")
def series(hu, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, hu, **GEOMETRY)
    return folder


def sidecar_of(output):
    return json.loads(sidecar_path(output).read_text())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".h264"])
@pytest.mark.parametrize("settings", [{}, {"bitrate_kbps": 300}, {"qp": 30, "measure": "ms_ssim"}])
def test_slices_sum_up_to_the_result(suffix, settings, hu, series, tmp_path):
    output = tmp_path / f"out{suffix}"
    result = encode(series, output, window=SOFT, **settings)
    slices = result.slices
    assert [one["number"] for one in slices] == list(range(1, SLICES + 1))
    assert [one["position_mm"] for one in slices] == [1.5 * index for index in range(SLICES)]
    names = ["ssim", "weighted_ssim", "psnr"] + (["ms_ssim"] if "measure" in settings else [])
    assert sorted(result.quality) == sorted(names)
    for one in slices:
        assert list(one)[:4] == ["number", "position_mm", "frame_type", "bytes"]
        assert set(list(one)[4:]) == {*names, "ssim_body", "max_error_body"}
    for name, summary in result.quality.items():
        values = [one[name] for one in slices]
        assert summary.mean == pytest.approx(np.mean(values), rel=1e-12)
        assert summary.worst == min(values)
    assert slices[result.worst_slice]["ssim"] == result.ssim.worst
    # Beside slices only the SEI that x264 writes ahead of the first one, which a raw stream has
    # in its first packet.
    payload = sum(one["bytes"] for one in slices)
    extra = result.kbps * 1000 / 8 * SLICES / 25 - payload
    in_file = sum(packet.size for packet in packets_of(output))
    if suffix == ".h264":
        assert extra == pytest.approx(0, abs=1e-6)
        assert output.stat().st_size == payload
    else:
        assert extra == pytest.approx(in_file - payload, abs=16)
        assert 300 < extra < 1000
    # The packets come in decoding order; sizes tell which is which.
    shown = frames_of(output)
    order = sorted(range(SLICES), key=lambda index: shown[index].pts or 0)
    assert order == list(range(SLICES))
    kinds = {"IDR": "I", "I": "I", "P": "P", "B": "B", "BREF": "B"}
    found = [kinds[one["frame_type"]] for one in slices]
    assert found == ["-IPB"[int(frame.pict_type)] for frame in shown]
    for one, frame, source in zip(slices, shown, hu, strict=True):
        psnr = peak_signal_noise_ratio(windowed(source), plane(frame).astype(int), data_range=255)
        assert one["psnr"] == pytest.approx(psnr, abs=1e-3)


def test_slices_make_a_table(series, tmp_path):
    """As pandas.DataFrame takes it: one mapping of plain numbers and texts for each slice."""
    slices = encode(series, tmp_path / "out.mp4").slices
    assert len({tuple(one) for one in slices}) == 1
    assert {type(value) for one in slices for value in one.values()} == {int, float, str}


def test_results_have_the_keys_of_before(series, tmp_path):
    result = encode(series, tmp_path / "out.mp4", min_ssim=0.9, preset="veryfast")
    record = result.as_dict()
    assert OLD_KEYS | {"search"} <= record.keys()
    assert record["search"].keys() >= OLD_SEARCH_KEYS
    search = record["search"]
    assert (search["min_ssim"], search["ssim"], search["target"]) == (
        search["goal"],
        search["reached"],
        search["over"],
    )
    assert set(record["ssim"]) == set(record["psnr"]) == {"mean", "min"}
    assert set(record["window"]) == {"center", "width"}
    assert set(record["x264"]) == {"build", "settings"}
    assert set(record["seconds"]) == {"load", "analyse", "encode", "verify", "total"}
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("kbps", [60, 3000])
def test_a_bit_rate_that_is_missed_is_told(kbps, series, tmp_path, caplog):
    """Nine slices are too few for two passes to come close."""
    result = encode(series, tmp_path / "out.mp4", bitrate_kbps=kbps, preset="veryfast")
    missed = 100 * (result.kbps - kbps) / kbps
    assert result.bitrate_error_percent == pytest.approx(missed)
    record = sidecar_of(tmp_path / "out.mp4")
    assert record["asked_kbps"] == kbps
    assert record["bitrate_error_percent"] == result.bitrate_error_percent
    assert abs(missed) > 10
    messages = [one.getMessage() for one in caplog.records if one.name == "ssimrdo.encoding.encode"]
    assert messages[0].startswith(f"the bit rate is {missed:+.0f} % beside the one asked for")
    assert messages[1:] == [warning.text for warning in result.warnings]


def test_a_bit_rate_that_is_met_is_no_warning(tmp_path, caplog):
    write_series(tmp_path / "ct", ct_volume(120, 80, 112))
    result = encode(tmp_path / "ct", tmp_path / "out.mp4", bitrate_kbps=200, preset="veryfast")
    assert abs(result.bitrate_error_percent) < 10
    assert not [one for one in caplog.records if "bit rate" in one.getMessage()]


def test_without_a_bit_rate_none_is_missed(series, tmp_path):
    result = encode(series, tmp_path / "out.mp4", preset="veryfast")
    assert result.bitrate_error_percent is None
    assert not {"asked_kbps", "bitrate_error_percent"} & result.as_dict().keys()


def test_a_sidecar_says_what_made_it_and_how(series, tmp_path):
    settings = EncodeSettings.of(qp=30, window="40/400", effort="fast", fps="25/2")
    result = encode(series, tmp_path / "out.mkv", settings, note={"batch": {"inputs": "abc"}})
    record = sidecar_of(tmp_path / "out.mkv")
    assert record["schema"] == SCHEMA == 2
    assert record["version"] == ssimrdo.__version__
    assert record["model"] == MODEL
    assert isinstance(MODEL, int)
    assert record["objective"] == "balanced"
    codec = record["codec"]
    assert (codec["name"], codec["label"]) == ("x264", "x264 effort=fast")
    assert codec["version"] == X264().version
    assert codec["settings"].encode() in (tmp_path / "out.mkv").read_bytes()
    assert record["settings"] == settings.as_dict()
    assert record["output"] == "out.mkv"
    assert record["fps"] == "25/2"
    assert record["batch"] == {"inputs": "abc"}
    assert record["slices"] == [dict(one) for one in result.slices]
    assert OLD_KEYS | {"settings"} <= record.keys()
    plain = encode(series, tmp_path / "plain.mp4", rdo="off", preset="veryfast")
    assert plain.objective is None
    assert sidecar_of(tmp_path / "plain.mp4")["objective"] is None


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(
    ("function", "bit_depth"), [("LINEAR", 8), ("LINEAR_EXACT", 10), ("SIGMOID", 10)]
)
def test_the_grey_mapping_leads_back_to_luma(inverted, function, bit_depth, hu, tmp_path):
    """With window, function, inversion and depth alone the source's luma can be made again."""
    write_series(
        tmp_path / "ct",
        hu[:3],
        WindowCenter=30,
        WindowWidth=350,
        VOILUTFunction=function,
        PhotometricInterpretation="MONOCHROME1" if inverted else "MONOCHROME2",
    )
    encode(tmp_path / "ct", tmp_path / "out.mp4", qp=1, rdo="off", bit_depth=bit_depth)
    grey = sidecar_of(tmp_path / "out.mp4")["grey"]
    assert grey == {
        "center": 30.0,
        "width": 350.0,
        "function": function,
        "inverted": inverted,
        "bit_depth": bit_depth,
    }
    x = hu[0].astype(float)
    center, width = grey["center"], grey["width"]
    share = {
        "LINEAR": (x - (center - 0.5)) / (width - 1) + 0.5,
        "LINEAR_EXACT": (x - center) / width + 0.5,
        "SIGMOID": 1 / (1 + np.exp(-4 * (x - center) / width)),
    }[grey["function"]]
    expected = np.clip(share, 0, 1) * (2 ** grey["bit_depth"] - 1)
    expected = 2**bit_depth - 1 - expected if grey["inverted"] else expected
    shown = plane(frames_of(tmp_path / "out.mp4")[0])
    assert np.abs(shown - expected).mean() < 1


def test_the_geometry_is_that_of_the_headers(series, tmp_path):
    encode(series, tmp_path / "out.mp4", preset="veryfast")
    geometry = sidecar_of(tmp_path / "out.mp4")["geometry"]
    assert geometry == {
        "pixel_spacing_mm": [0.75, 0.5],
        "orientation": list(CORONAL),
        "positions_mm": [[0.25 * i, 1.5 * i, 0.0] for i in range(SLICES)],
        "along_mm": [1.5 * i for i in range(SLICES)],
        "thickness_mm": 3.0,
    }


@pytest.mark.parametrize("how", ["header", "pixels"])
def test_damaged_slices_have_no_place_in_the_geometry(how, hu, tmp_path):
    syntax = "1.2.840.10008.1.2.4.80"
    files = write_series(tmp_path / "ct", hu, **GEOMETRY, compress=syntax)
    data = files[4].read_bytes()
    start = data.index(b"\xff\xd8\xff\xf7") + 2
    damaged = data[:start] + bytes(len(data) - start - 4) + data[-4:]
    files[4].write_bytes(data[:1000] if how == "header" else damaged)
    options = {"preset": "veryfast", "skip_bad": True}
    for name, rate in (("a", {}), ("b", {"bitrate_kbps": 300}), ("c", {"min_ssim": 0.9})):
        output = tmp_path / f"{name}.mp4"
        result = encode(tmp_path / "ct", output, **rate, **options)
        record = sidecar_of(output)
        kept = [index for index in range(SLICES) if index != 4]
        assert record["geometry"]["along_mm"] == [1.5 * i for i in kept]
        assert record["geometry"]["positions_mm"] == [[0.25 * i, 1.5 * i, 0.0] for i in kept]
        assert [one["position_mm"] for one in record["slices"]] == [1.5 * i for i in kept]
        assert [one["number"] for one in record["slices"]] == list(range(1, SLICES))
        assert result.frames == len(result.slices) == SLICES - 1
        assert record["skipped"] == [{"reason": result.skipped[0].reason, "files": 1}]


def test_a_sidecar_holds_no_text_of_a_header(hu, tmp_path):
    """Every text in it is a name of ours, a version, or what the user gave."""
    write_series(tmp_path / "ct", hu, **GEOMETRY)
    encode(tmp_path / "ct", tmp_path / "out.mp4", preset="veryfast")
    text = (tmp_path / "out.json").read_text()
    assert CANARY not in text
    assert SERIES_UID not in text
    assert not re.search(r"\d+(\.\d+){4,}", text)
    assert not re.search(r"\.dcm|19700101|STANDARD|AXIAL|ORIGINAL", text)


def test_a_sidecar_is_text_with_a_line_for_every_slice(series, tmp_path):
    encode(series, tmp_path / "out.mp4", preset="veryfast")
    lines = (tmp_path / "out.json").read_text().splitlines()
    assert sum(line.strip().startswith('{"number": ') for line in lines) == SLICES
    assert max(map(len, lines)) < 2000


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"a": {}, "b": [], "c": None, "d": True},
        {"a": {"b": {"c": {"d": [1, 2]}}}, 'k"y': "ü\n"},
        {"a": [{"b": 1}, {"b": [{"c": 2}]}], "e": [[1, 2], [3]]},
        {"a": ({"b": 1}, 2)},
    ],
)
def test_sidecars_are_json_whatever_they_hold(record, tmp_path):
    write_sidecar(tmp_path / "a.json", record)
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads(json.dumps(record))


@pytest.mark.parametrize(
    "value", [float("nan"), [{"a": float("inf")}], {"b": {"c": float("-inf")}}]
)
def test_what_json_does_not_know_is_refused(value, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_sidecar(tmp_path / "a.json", {"a": value})


def test_summaries_tell_the_worst_by_the_direction_of_the_index():
    values = [0.9, 0.8, 0.95]
    better = SliceSummary.of(iter(values), metrics.SSIM)
    assert (better.mean, better.worst, better.min) == (pytest.approx(np.mean(values)), 0.8, 0.8)
    assert better.as_dict() == {"mean": better.mean, "min": 0.8}
    index = metrics.QualityIndex("error", "Error", lambda _: 0.0, higher_is_better=False)
    worse = SliceSummary.of(values, index)
    assert worse.worst == 0.95
    assert worse.as_dict() == {"mean": worse.mean, "max": 0.95}
    with pytest.raises(AttributeError, match="lower is better"):
        _ = worse.min


@pytest.mark.parametrize(
    ("output", "sidecar"),
    [("a.mp4", "a.json"), ("a.b.mkv", "a.b.json"), ("folder.x/a.h264", "folder.x/a.json")],
)
def test_a_sidecar_stands_beside_its_video(output, sidecar, tmp_path):
    assert sidecar_path(tmp_path / output) == tmp_path / sidecar
