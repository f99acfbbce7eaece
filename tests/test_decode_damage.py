"""Damaged and hostile videos: told in a line, and no memory for what they claim."""

from __future__ import annotations

import io
import subprocess
import sys

import av
import numpy as np
import pytest
from dicom_files import write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from video_files import SOFT_TISSUE, ct_volume

from ssimrdo import Window, encode
from ssimrdo.decoding import decode
from ssimrdo.dicom.read.elements import DamagedError
from ssimrdo.dicom.read.video import FileParts, encapsulated_video
from ssimrdo.errors import InputError

FAST = {"window": Window(*SOFT_TISSUE), "effort": "fast"}

CLAIM = """
import sys
from pathlib import Path
from ssimrdo.decoding.video import decoded_frames, facts_of, record_of
from ssimrdo.errors import InputError

def most_kb():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])

path = Path(sys.argv[1])
record = record_of(path, path, Path(sys.argv[2]))
before = most_kb()
for read in (facts_of, lambda *some: list(decoded_frames(*some))):
    try:
        read(path, path, record)
        print("not refused")
    except InputError as error:
        print(error)
print((most_kb() - before) // 1024)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    write_series(folder / "in", ct_volume(4, 48, 64))
    for name in ("a.mkv", "b.mp4", "c.dcm"):
        encode(folder / "in", folder / name, **FAST)
    return folder


def damage(data: bytes, draw: st.DataObject) -> bytes:
    kind = draw.draw(st.sampled_from(["cut", "overwrite", "insert", "remove"]))
    at = draw.draw(st.integers(0, len(data) - 1))
    size = draw.draw(st.integers(1, 64))
    if kind == "cut":
        return data[:at]
    if kind == "remove":
        return data[:at] + data[at + size :]
    junk = draw.draw(st.binary(min_size=size, max_size=size))
    return data[:at] + junk + data[at + (size if kind == "overwrite" else 0) :]


@pytest.mark.parametrize("name", ["a.mkv", "b.mp4", "c.dcm"])
@settings(max_examples=40)
@given(draw=st.data())
def test_damaged_videos_are_refused_in_a_line_or_decode_exactly(name, written, draw):
    folder = written / f"damaged-{name}"
    folder.mkdir(exist_ok=True)
    data = damage((written / name).read_bytes(), draw)
    (folder / name).write_bytes(data)
    output = folder / "ct"
    sidecar = written / name.replace(name.split(".")[1], "json")
    try:
        result = decode(folder / name, output, record=sidecar, overwrite=True)
    except InputError as error:
        said = str(error)
    else:
        # The check sums hold: every frame is the one that was encoded.
        assert result.slices == 4
        return
    assert "\n" not in said
    assert said.startswith(str(folder))


@settings(max_examples=150)
@given(draw=st.data())
def test_damaged_objects_are_refused_or_hold_parts_of_the_file(written, draw):
    path = written / "damaged.dcm"
    data = (written / "c.dcm").read_bytes()[:3000]
    path.write_bytes(damage(data, draw))
    try:
        parts = encapsulated_video(path)
    except DamagedError:
        return
    with parts:
        assert len(parts.read()) <= len(data)


@settings(max_examples=60)
@given(
    pieces=st.lists(st.binary(max_size=9), max_size=5),
    steps=st.lists(
        st.tuples(st.sampled_from([0, 1, 2]), st.integers(-30, 40), st.integers(-1, 20))
    ),
)
def test_parts_of_a_file_read_as_if_joined(pieces, steps, tmp_path_factory):
    path = tmp_path_factory.mktemp("parts") / "file"
    path.write_bytes(b"".join(b"##" + piece for piece in pieces))
    starts = np.cumsum([0, *(len(piece) + 2 for piece in pieces)])[:-1] + 2
    expected = io.BytesIO(b"".join(pieces))
    size = len(expected.getvalue())
    with FileParts(path, list(zip(starts.tolist(), map(len, pieces), strict=True))) as parts:
        for whence, offset, count in steps:
            base = (0, expected.tell(), size)[whence]
            expected.seek(max(0, base + offset))
            assert parts.seek(offset, whence) == expected.tell()
            wanted = expected.read(count)
            found = parts.readall() if count < 0 else b""
            # A raw stream may give less than asked for.
            while count > len(found) and (more := parts.read(count - len(found))):
                found += more
            assert found == wanted
            assert parts.tell() == expected.tell()


def test_a_stream_of_another_size_gets_no_memory(written, tmp_path):
    # 6000 x 6000 black, which takes next to nothing to claim.
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width = stream.height = 6_000
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast"}
        frame = av.VideoFrame(6_000, 6_000, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    command = [sys.executable, "-c", CLAIM, path, written / "a.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *said, megabytes = done.stdout.splitlines()
    assert len(said) == 2
    assert "is 6000x6000, its record 64x48" in said[0]
    assert "not refused" not in said
    # A frame alone has 54.
    assert int(megabytes) < 40
