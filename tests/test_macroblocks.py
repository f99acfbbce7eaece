from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ssimrdo.video.macroblocks import macroblocks

ROWS, COLUMNS = 64, 96

pytestmark = pytest.mark.skipif(shutil.which("x264") is None, reason="x264 is not installed")


def encoded(tmp_path: Path, frames: np.ndarray, *options: str) -> tuple[Path, str]:
    """Return a file that the stock x264 program makes of frames, and what it says of them."""
    raw, output = tmp_path / "frames.yuv", tmp_path / "video.mkv"
    grey = np.full((ROWS // 2, COLUMNS), 128, np.uint8)
    raw.write_bytes(b"".join(frame.tobytes() + grey.tobytes() for frame in frames))
    size = f"{COLUMNS}x{ROWS}"
    done = subprocess.run(
        ["x264", "--input-res", size, "--fps", "25", *options, "-o", str(output), str(raw)],
        capture_output=True,
        text=True,
        check=True,
    )
    return output, done.stderr


def test_quantizers_are_those_that_the_stock_program_was_told(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, ROWS, COLUMNS), dtype=np.uint8)
    options = ("--qp", "30", "--ipratio", "1.4", "--bframes", "0", "--no-scenecut")
    path, said = encoded(tmp_path, frames, *options)
    found = macroblocks(path, range(6))
    assert list(found) == [*range(6)]
    assert all(one.qp.shape == (4, 6) for one in found.values())
    first = int(float(re.findall(r"frame I:\d+ +Avg QP: ?([\d.]+)", said)[0]))
    assert (found[0].qp == first).all()
    assert first == 27
    for index in range(1, 6):
        assert (found[index].qp == 30).all()
        assert found[index].skipped is not None
        # Noise is never like the picture before.
        assert not found[index].skipped.any()


def test_skipped_macroblocks_are_as_many_as_the_stock_program_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = np.repeat(rng.integers(0, 256, (1, ROWS, COLUMNS), dtype=np.uint8), 9, axis=0)
    # The upper half stands still, and what is below does not.
    frames[:, ROWS // 2 :] = rng.integers(0, 256, (9, ROWS // 2, COLUMNS), dtype=np.uint8)
    path, said = encoded(tmp_path, frames, "--qp", "20", "--bframes", "2", "--b-adapt", "0")
    found = macroblocks(path, range(9))
    masks = [one.skipped for one in found.values()]
    assert all(mask is not None for mask in masks)
    assert not masks[0].any()
    assert all(mask[0].all() and not mask[3].any() for mask in masks[1:])
    shares = [float(one) for one in re.findall(r"mb [PB] .*skip: ?([\d.]+)%", said)]
    counts = [int(one) for one in re.findall(r"frame [PB]:(\d+)", said)]
    expected = sum(share * count for share, count in zip(shares, counts, strict=True)) / 8
    assert 100 * np.mean(masks[1:]) == pytest.approx(expected, abs=0.5)


def test_only_what_is_wanted_is_read(tmp_path: Path) -> None:
    frames = np.zeros((4, ROWS, COLUMNS), np.uint8)
    path, _ = encoded(tmp_path, frames)
    assert list(macroblocks(path, [2])) == [2]
    assert macroblocks(path, []) == {}


def test_other_codecs_tell_nothing(tmp_path: Path) -> None:
    import av

    path = tmp_path / "video.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = COLUMNS, ROWS, "yuv420p"
        frame = av.VideoFrame(COLUMNS, ROWS, "yuv420p")
        for packet in (*stream.encode(frame), *stream.encode()):
            output.mux(packet)
    assert macroblocks(path, [0]) == {}


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "none.mkv"
    path.write_bytes(b"no video")
    with pytest.raises(OSError, match=r"none\.mkv"):
        macroblocks(path, [0])
