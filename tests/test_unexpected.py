"""What nobody foresees, and what comes at the worst moment: one line, and nothing half."""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import subprocess
import sys
import time
from fractions import Fraction
from functools import partial

import av
import numpy as np
import pytest
from dicom_files import CANARY, write_series
from messages import error_of
from video_files import ct_volume, frames_of, run_command

from ssimrdo import Volume, encode, encode_frames
from ssimrdo.codecs.base import Packet, check_format
from ssimrdo.codecs.x264.codec import X264
from ssimrdo.codecs.x264.encoder import Encoder, EncoderParameters
from ssimrdo.encoding import encode as encoding
from ssimrdo.errors import EncoderError, InputError, cause_of
from ssimrdo.files import scratch_folder, whole_folder
from ssimrdo.frames import FrameFormat
from ssimrdo.observer import Observer
from ssimrdo.video.decode import PacketDecoder, decoded_luma
from ssimrdo.video.mux import packet_writer

SSIMRDO = [sys.executable, "-m", "ssimrdo"]


@pytest.fixture
def ssimrdo(capfd):
    return partial(run_command, capfd)


@pytest.fixture
def series(tmp_path):
    write_series(tmp_path / "ct", ct_volume(6, 48, 64))
    return tmp_path / "ct"


# Errors of no kind that is known


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (EOFError(CANARY), "unexpected EOFError in"),
        (av.error.EOFError(541478725, CANARY, CANARY), "unexpected EOFError in"),
        (av.error.BugError(558323010, CANARY, CANARY), "unexpected BugError in"),
        (ValueError(CANARY), "unexpected ValueError in"),
        (RecursionError(CANARY), "unexpected RecursionError in"),
        (KeyError(CANARY), "unexpected KeyError in"),
        (MemoryError(CANARY), "out of memory"),
    ],
)
def test_unexpected_errors_are_one_line_without_their_message(
    ssimrdo, series, tmp_path, monkeypatch, error, named
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(encoding, "open_source", fail)
    done = ssimrdo("encode", series, "-o", tmp_path / "a.mp4")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"ssimrdo: error: {named}")
    assert error_of(done.err)
    assert CANARY not in done.err
    assert "interrupted" not in done.err
    # Whoever is to report it gets to see more.
    if named != "out of memory":
        done = ssimrdo("encode", series, "-o", tmp_path / "a.mp4", "-v")
        assert any(line.endswith(", in fail") for line in done.err.splitlines())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EACCES, None), "Permission denied"),
        (OSError("something"), "it failed (OSError)"),
        (TimeoutError(), "it failed (TimeoutError)"),
    ],
)
def test_causes_are_never_nothing(error, said):
    assert cause_of(error) == said


# FFmpeg


def video(path):
    frames = [np.full((32, 32), 40 * number, np.uint8) for number in range(5)]
    encode_frames(frames, path, preset="ultrafast", rdo="off")
    return path


@pytest.mark.parametrize("data", [b"", b"no video" * 99, b"\0" * 4000, b"ftyp", None])
def test_files_that_do_not_decode_are_errors_of_the_file(tmp_path, data):
    path = tmp_path / "a.mp4"
    path.write_bytes(video(tmp_path / "b.mp4").read_bytes()[:300] if data is None else data)
    with pytest.raises(OSError, match=r"a\.mp4") as caught:
        list(decoded_luma(path))
    assert caught.value.filename == str(path)
    assert caught.value.strerror


def test_a_file_without_a_picture(tmp_path):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.rate = 8000
        out.mux(stream.encode(frame))
    with pytest.raises(OSError, match="it has no video"):
        list(decoded_luma(path))


def test_packets_that_cannot_be_muxed_are_an_error_of_the_file(tmp_path):
    source = video(tmp_path / "b.h264").read_bytes()
    path = tmp_path / "a.mp4"

    def write():
        with packet_writer(path, "mp4", syntax="h264", headers=source, fps=Fraction(25)) as write:
            for time_stamp in (9, 5, 1):
                write(Packet(source, time_stamp, time_stamp, True, "I", None))

    with pytest.raises(OSError, match="FFmpeg: ") as caught:
        write()
    assert caught.value.filename == str(path)


@pytest.mark.parametrize("data", [b"", b"nothing", bytes(300), b"\0\0\1\x65" + bytes(99)])
def test_packets_that_cannot_be_decoded_are_an_error_of_the_encoder(data):
    def decode():
        decoder = PacketDecoder("h264")
        for number in range(3):
            list(decoder.decode(data, number))
        list(decoder.flush())

    with pytest.raises(EncoderError, match="the stream cannot be decoded: FFmpeg: "):
        decode()


SIZES = [(16256, 16256), (16384, 16384), (16384, 16120), (16240, 16240), (16368, 16112)]


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_sizes_are_taken_that_ffmpeg_takes(rows, columns):
    """Its own rule, asked of an encoder of its own."""
    with av.open(io.BytesIO(), "w", format="matroska") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = columns, rows, "yuvj420p"
        try:
            stream.codec_context.open()
            taken = True
        except av.error.FFmpegError:
            taken = False
    if taken:
        check_format(X264(), FrameFormat(rows, columns), "x")
    else:
        with pytest.raises(InputError, match=f"x: slices of {columns}x{rows} are too large"):
            check_format(X264(), FrameFormat(rows, columns), "x")


def test_too_large_slices_are_refused_before_any_work(tmp_path):
    large = np.broadcast_to(np.uint8(0), (16384, 16384))
    for work in (
        lambda: encode_frames([large], tmp_path / "a.mp4"),
        lambda: encode(Volume(large[np.newaxis], pixel_spacing_mm=(1, 1)), tmp_path / "a.mp4"),
    ):
        with pytest.raises(InputError, match="slices of 16384x16384 are too large for FFmpeg"):
            work()
    assert list(tmp_path.iterdir()) == []


# x264's border


def test_luma_above_its_depth_never_gets_to_x264():
    luma = np.full((32, 32), 1024, np.uint16)
    parameters = EncoderParameters(32, 32, bit_depth=10)
    with Encoder(parameters) as encoder, pytest.raises(ValueError, match="above 1023"):
        encoder.encode(luma, pts=0)
    with pytest.raises(ValueError, match="above 1023"):
        FrameFormat(32, 32, 10).check(luma)
    FrameFormat(32, 32, 10).check(luma - 1)
    FrameFormat(32, 32, 16).check(luma)


# Files that change meanwhile


def cut_after(path, slices):
    """Return an observer that cuts a file when so many slices are done."""

    def tell(event):
        if event.done == slices:
            path.write_bytes(path.read_bytes()[:-3000])

    return Observer(tell)


@pytest.mark.parametrize("options", [{"min_ssim": 0.9}, {"bitrate_kbps": 100}])
@pytest.mark.parametrize("skip_bad", [True, False])
def test_file_that_goes_bad_between_passes_is_named(series, tmp_path, options, skip_bad):
    victim = sorted(series.iterdir())[2]
    compressed = series.parent / "jpegls"
    write_series(compressed, ct_volume(6, 48, 64), compress="1.2.840.10008.1.2.4.80")
    victim = sorted(compressed.iterdir())[2]

    def tell(event):
        if event.done == 6:
            victim.write_bytes(victim.read_bytes()[:-500])

    with pytest.raises(InputError, match=f"{victim.name}: .*") as caught:
        encode(
            compressed,
            tmp_path / "a.mp4",
            skip_bad=skip_bad,
            observer=Observer(tell),
            preset="ultrafast",
            **options,
        )
    assert ("it could be read before" in str(caught.value)) == skip_bad
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.mp4"))


def test_file_that_gets_good_between_passes_is_named(tmp_path):
    folder = tmp_path / "ct"
    write_series(folder, ct_volume(6, 48, 64), compress="1.2.840.10008.1.2.4.80")
    victim = sorted(folder.iterdir())[2]
    whole = victim.read_bytes()
    start = whole.index(b"\xff\xd8\xff\xf7") + 40
    victim.write_bytes(whole[:start] + bytes(len(whole) - start - 4) + whole[-4:])

    def tell(event):
        if event.done == 5:
            victim.write_bytes(whole)

    with pytest.raises(InputError, match="can be read now, but could not be before"):
        encode(
            folder,
            tmp_path / "a.mp4",
            skip_bad=True,
            observer=Observer(tell),
            preset="ultrafast",
            min_ssim=0.9,
        )


# Signals and streams


def started(command, folder, until=".*.partial", **options):
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )
    deadline = time.monotonic() + 300
    while process.poll() is None and not any(folder.glob(until)):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return process


@pytest.mark.parametrize("gap_s", [0.0, 0.005, 0.03])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGHUP),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGHUP, signal.SIGTERM),
    ],
)
def test_second_signal_disturbs_no_clean_up(phantom_folder, tmp_path, first, second, gap_s):
    process = started(
        [*SSIMRDO, "encode", phantom_folder, "-o", tmp_path / "a.mp4", "--preset", "placebo"],
        tmp_path,
    )
    process.send_signal(first)
    time.sleep(gap_s)
    process.send_signal(second)
    out, err = process.communicate(timeout=60)
    # Which of two that come at a time is first is for the kernel to say; and the second may come
    # when all is cleaned up and the interpreter is about to end.
    assert process.returncode in (129, 130, 143, -first, -second)
    assert out == ""
    assert "Traceback" not in err
    assert "Exception" not in err
    assert list(tmp_path.iterdir()) == []


CALLBACK = """
import ctypes, os, signal, sys, time
import ssimrdo.cli.main as cli

cli._unwind_at_signals()
called = ctypes.CFUNCTYPE(None)

@called
def callback():
    # What is raised here C does not hand on.
    os.kill(os.getpid(), int(sys.argv[1]))
    for _ in range(1000):
        pass

try:
    callback()
    print("lost", flush=True)
    time.sleep(20)
    print("never heeded")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_that_c_swallows_is_heeded_all_the_same(number):
    done = subprocess.run(
        [sys.executable, "-c", CALLBACK, str(int(number))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "never heeded" not in done.stdout
    assert done.stderr == ""
    if number == signal.SIGINT:
        assert done.stdout == "lost\ninterrupted\n"
    else:
        assert (done.returncode, done.stdout) == (143, "lost\n")


@pytest.mark.parametrize("delay_s", [0.02, 0.05, 0.1, 0.2])
def test_interrupt_while_it_starts_shows_nothing(tmp_path, delay_s):
    process = subprocess.Popen(
        [*SSIMRDO, "encode", tmp_path, "-o", tmp_path / "a.mp4"],
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    err = process.communicate()[1]
    assert "ssimrdo/cli" not in err
    assert process.returncode in (-2, 130, 2, 1)


def run_with(stream, *arguments):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        return subprocess.run([*SSIMRDO, *arguments], text=True, check=False, **streams)


def test_full_stderr_costs_no_result(series, tmp_path):
    (series / "bad.dcm").write_bytes(b"")
    done = run_with("stderr", "encode", series, "-o", tmp_path / "a.mp4", "-v", "--skip-bad")
    assert done.returncode == 0
    assert "6 slices" in done.stdout
    assert len(frames_of(tmp_path / "a.mp4")) == 6
    done = run_with("stderr", "encode", series, "-o", tmp_path / "a.mp4")
    assert done.returncode == 2
    for more in ([], ["--json-log"]):
        out = tmp_path / f"out{len(more)}"
        done = run_with("stderr", "batch", series.parent, "-o", out, "--inside-root", *more)
        assert done.returncode == 3
        assert "1 failed" in done.stdout


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_full_stdout_is_named(series, tmp_path, more):
    done = run_with("stdout", "encode", series, "-o", tmp_path / "a.mp4", *more)
    assert done.returncode == 1
    assert done.stderr.endswith("ssimrdo: error: stdout: No space left on device\n")
    assert "Traceback" not in done.stderr
    assert len(frames_of(tmp_path / "a.mp4")) == 6


@pytest.mark.parametrize("what", ["scratch", "folder"])
def test_no_room_is_told_with_the_place(tmp_path, monkeypatch, what):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    block = scratch_folder() if what == "scratch" else whole_folder(tmp_path / "a", overwrite=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill():
        with block as folder, (folder / "x").open("wb", buffering=0) as stream:
            stream.write(bytes(1000))
            stream.write(bytes(1000))
            os.write(stream.fileno(), bytes(1000))

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
        with pytest.raises(OSError, match="File too large") as caught:
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert caught.value.filename == str(tmp_path if what == "scratch" else tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
