"""Efforts as docs/method.md describes them, in what x264 records and in the stream's bytes."""

from __future__ import annotations

import numpy as np
import pytest
from x264_sessions import run

from ssimrdo import objective
from ssimrdo.codecs.base import ConstantQuality, ConstantQuantizer, Steering, StreamSettings
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x264.encoder import Encoder, EncoderParameters
from ssimrdo.codecs.x264.steering import quantizer_offsets
from ssimrdo.dicom import NAMED_WINDOWS, open_series
from ssimrdo.dicom.luma import load_luma
from ssimrdo.frames import FrameFormat

# As x264 records the search of I- and P-frames.
RECORDED = {
    "fast": {"ref=3", "me=umh", "me_range=16", "subme=7", "analyse=0x3:0x113"},
    "default": {"ref=5", "me=esa", "me_range=8", "subme=10", "analyse=0x3:0x133"},
    "high": {"ref=5", "me=esa", "me_range=8", "subme=10", "analyse=0x3:0x133"},
    "max": {"ref=5", "me=esa", "me_range=16", "subme=10", "analyse=0x3:0x133"},
}
RECORDED_IN_ALL = {
    *("chroma_me=0", "deblock=1:0:0", "mbtree=1", "qcomp=0.60", "psy=0", "aq=1:0.00", "trellis=2"),
    *("bframes=3", "b_pyramid=2", "b_adapt=0", "scenecut=0", "open_gop=0", "keyint=250"),
    *("weightp=2", "weightb=1", "8x8dct=1", "mixed_ref=1", "rc_lookahead=40", "cabac=1"),
}

OWN = {
    "fast": "me=umh",
    "default": "ref=5:me=esa:merange=8:subme=10:partitions=all",
    "high": "ref=5:me=esa:merange=8:subme=10:partitions=all",
    "max": "ref=5:me=esa:merange=16:subme=10:partitions=all",
}
REFERENCED = {
    "fast": "ref=1:me=hex:trellis=1",
    "default": "ref=1:subme=9:trellis=1",
    "high": "ref=1",
    "max": "ref=1",
}
DISPOSABLE = {**REFERENCED, "high": "ref=1:subme=9:trellis=1"}
PATTERN = ("IDR", "B", "BREF", "B", "P", "B", "BREF", "B", "P")
CRF_23 = ConstantQuality(23)
FORMAT = FrameFormat(256, 256)


@pytest.fixture(scope="module", params=[8, 10])
def frames(phantom_folder, request):
    series, _ = open_series(phantom_folder)
    window = NAMED_WINDOWS["soft-tissue"]
    return [
        np.ascontiguousarray(load_luma(header, window, bit_depth=request.param)[120:376, 120:376])
        for header in series.slices[8 : 8 + len(PATTERN)]
    ]


def format_of(luma):
    return FrameFormat(256, 256, 8 if luma.dtype == np.uint8 else 10)


def pairs(text):
    return tuple(tuple(part.split("=", 1)) for part in text.split(":"))


def driven_by_hand(effort, frames, roles):
    """Return packets of x264 with the documented settings for every frame."""
    options = (
        *pairs("b-adapt=0:bframes=3:b-pyramid=normal:scenecut=0:chroma-me=0"),
        *pairs("dct-decimate=0:trellis=2"),
        *pairs(OWN[effort]),
        *pairs("threads=1:fps=25/1:fullrange=on:crf=23:psy=0:aq-mode=1:aq-strength=0.00001"),
    )
    parameters = EncoderParameters(
        width=256,
        height=256,
        bit_depth=format_of(frames[0]).bit_depth,
        options=options,
        variants=(pairs(REFERENCED[effort]), pairs(DISPOSABLE[effort])),
        repeat_headers=False,
    )
    packets = []
    with Encoder(parameters) as encoder:
        for index, (luma, kind) in enumerate(zip(frames, PATTERN, strict=True)):
            steering = Steering(objective.SSIM.lagrange_ratio(luma, format_of(luma)), roles[index])
            packets.append(
                encoder.encode(
                    luma,
                    quantizer_offsets(luma, steering, data_range=format_of(luma).peak),
                    pts=index,
                    frame_type=kind,
                    variant={"BREF": 1, "B": 2}.get(kind, 0),
                )
            )
        packets += encoder.flush()
    return {packet.pts: packet for packet in packets if packet}


def settings(rate=CRF_23, shown=FORMAT):
    return StreamSettings(shown, rate, steered=True, threads=1)


@pytest.mark.parametrize("effort", OWN)
def test_a_stream_is_that_of_the_documented_settings(effort, frames):
    codec = X264(effort)
    found, _ = run(codec, settings(shown=format_of(frames[0])), frames)
    expected = driven_by_hand(effort, frames, [codec.role(index) for index in range(9)])
    assert tuple(found[index].frame_type for index in range(9)) == PATTERN
    for index in range(9):
        assert found[index].data == expected[index].data, f"frame {index}"


@pytest.mark.parametrize("effort", RECORDED)
def test_x264_records_the_documented_settings(effort):
    with X264(effort).open(settings()) as session:
        recorded = set(session.settings.split())
    assert recorded >= RECORDED[effort] | RECORDED_IN_ALL


def test_at_a_constant_quantizer_mb_tree_and_qcomp_are_out_of_use():
    with X264().open(settings(ConstantQuantizer(27))) as session:
        recorded = set(session.settings.split())
    assert recorded >= {"rc=crf", "crf=27.0", "mbtree=0", "qcomp=1.00", "aq=1:0.00"}


def test_the_default_is_the_default():
    assert X264() == X264("default")
