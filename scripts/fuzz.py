"""Feed ssimrdo damaged input; exit status 1 unless each gives a result or a one-line error.

Kinds: headers and pixels of DICOM files, series of any geometry, manifests, journals with sidecars,
names of folders and files, enhanced CT, phases, archives with DICOMDIR, volumes of NIfTI and NumPy,
and videos with their records and templates. Each input follows from its kind and its number, is
worked on by a child process, and has 5 s and 2 GB.

--privacy plants markers wherever a DICOM file may hold text, and in names of files and folders, has
the commands work on them, and searches every byte of what they write. --signals ends commands at
any moment, and looks for what is half.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

import fuzz_batch
import fuzz_inputs
import fuzz_videos
import numpy as np
from fuzz_dicom import MARKER, damaged_header, damaged_pixels

from ssimrdo.dicom import SliceHeader, Window, apply_window, find_series, load_hu, open_series
from ssimrdo.dicom.read.find import read_file
from ssimrdo.dicom.read.header import Membership, SkippedFile, read_membership
from ssimrdo.dicom.read.pixels import OUT_OF_MEMORY
from ssimrdo.encoding.settings import EncodeSettings
from ssimrdo.encoding.warmup import load_kernels
from ssimrdo.errors import BadSliceError, SsimrdoError
from ssimrdo.frames import FrameFormat

FILES: Final[dict[str, Callable[[int], bytes]]] = {
    "headers": damaged_header,
    "pixels": damaged_pixels,
}
WORKS: Final[dict[str, Callable[[int, Path], tuple[str, str]]]] = {
    **fuzz_batch.KINDS,
    **fuzz_inputs.KINDS,
    **fuzz_videos.KINDS,
}
KINDS: Final = (*FILES, *WORKS)
MAX_SECONDS: Final = 5.0
HANG_SECONDS: Final = 60.0
"""Of the wall, where others use the processors too."""

MAX_BYTES: Final = 2 << 30


@dataclass(frozen=True)
class Outcome:
    """What reading one file came to.

    Parameters
    ----------
    result : str
        ``slice``, ``bad header``, ``bad pixels`` or ``skipped``; or ``failure``.
    message : str
        The error that a user would see, or what is wrong with how it went.
    seconds, megabytes : float
        Time of the processor, and the most memory that the process had so far.
    """

    result: str
    message: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0


def main() -> int:
    """Run the kinds asked for; print what came of them and the inputs that failed."""
    arguments = _arguments()
    if arguments.file is not None:
        _limit_memory()
        for path in arguments.file:
            print(json.dumps(asdict(timed(path))), flush=True)
        return 0
    if arguments.child:
        serve()
        return 0
    if arguments.privacy:
        import fuzz_privacy

        return fuzz_privacy.main(arguments.seed)
    if arguments.signals:
        import fuzz_signals

        return fuzz_signals.main(arguments.seed, arguments.count)
    failed = 0
    for kind in arguments.only:
        started = time.monotonic()
        counts: Counter[str] = Counter()
        slowest = largest = 0.0
        for number, outcome in run(kind, arguments.seed, arguments.count, arguments.minutes):
            counts[outcome.result] += 1
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
            if outcome.result == "failure":
                failed += 1
                print(f"{kind} {number}: {outcome.message}", flush=True)
        shown = ", ".join(f"{count} {result}" for result, count in counts.most_common())
        print(
            f"{kind} {arguments.seed} to {arguments.seed + counts.total() - 1}: {shown}; "
            f"at most {slowest:.2f} s and {largest:.0f} MB; "
            f"{time.monotonic() - started:.0f} s in all"
        )
    return int(failed > 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="inputs of each kind [1000]")
    parser.add_argument("--seed", type=int, default=0, help="number of the first input [0]")
    parser.add_argument("--minutes", type=float, help="end each kind after so long")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(KINDS))
    parser.add_argument("--privacy", action="store_true", help="look for markers in outputs")
    parser.add_argument("--signals", action="store_true", help="end commands, COUNT times")
    parser.add_argument("--file", type=Path, nargs="+", help="read these; print what came of each")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def run(
    kind: str, seed: int, count: int, minutes: float | None = None
) -> Iterator[tuple[int, Outcome]]:
    """Yield number and outcome of inputs of a kind."""
    number, end = seed, seed + count
    until = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    while number < end and time.monotonic() < until:
        with _child() as (child, messages):
            while number < end and time.monotonic() < until:
                outcome = _asked(child, messages, kind, number)
                yield number, outcome
                number += 1
                if child.poll() is not None:
                    break


@contextmanager
def _child() -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Yield a child that reads inputs, and the file of what it says on stderr."""
    command = [sys.executable, "-W", "error", __file__, "--child"]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryFile("w+") as messages,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            bufsize=1,
            env=environment,
        ) as child,
    ):
        try:
            # Importing is not what is timed.
            if child.stdout is None or child.stdout.readline() != "ready\n":
                raise RuntimeError("the child does not start")
            yield child, messages
        finally:
            child.kill()


def _asked(child: subprocess.Popen[str], messages: IO[str], kind: str, number: int) -> Outcome:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{kind} {number}\n")
    if not select.select([child.stdout], [], [], HANG_SECONDS)[0]:
        child.kill()
        child.wait()
        return Outcome("failure", "takes too long", HANG_SECONDS)
    line = child.stdout.readline()
    if not line:
        return Outcome("failure", f"the process died ({child.wait()})")
    outcome = Outcome(**json.loads(line))
    messages.seek(0)
    said = messages.read()
    messages.seek(0)
    messages.truncate()
    return Outcome("failure", f"stderr: {said!r:.200}") if said else outcome


def serve() -> None:
    """Read the inputs that stdin names; print their outcomes."""
    # What quotes a header would be seen; warnings of our own are none.
    logging.getLogger("ssimrdo").addHandler(logging.NullHandler())
    load_kernels(FrameFormat(16, 16), EncodeSettings().objective, EncodeSettings().indices)
    _limit_memory()
    print("ready", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            kind, number = line.split()
            place = Path(folder, number)
            place.mkdir()
            print(json.dumps(asdict(_work(kind, int(number), place))), flush=True)
            shutil.rmtree(place)


def _work(kind: str, number: int, folder: Path) -> Outcome:
    if kind in FILES:
        path = folder / f"{MARKER[:3]}.dcm"
        path.write_bytes(FILES[kind](number))
        return timed(path)

    def examined() -> Outcome:
        result, message = WORKS[kind](number, folder)
        problem = _problem(message)
        return Outcome("failure", problem) if problem else Outcome(result, message)

    return measured(examined)


def _limit_memory() -> None:
    """Let the process have so much more address space than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MAX_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def timed(path: Path) -> Outcome:
    """Read a file as an encode would; return what came of it."""
    return measured(lambda: examine(path))


def measured(work: Callable[[], Outcome]) -> Outcome:
    """Return what came of some work, with what it took."""
    started = time.process_time()
    try:
        outcome = work()
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        outcome = Outcome("failure", f"{type(error).__name__} at {where}: {error!r:.200}")
    seconds = time.process_time() - started
    megabytes = _peak_kilobytes() / 1024
    if seconds > MAX_SECONDS or megabytes > MAX_BYTES >> 20:
        outcome = Outcome("failure", f"takes too much; {outcome.result} {outcome.message}")
    return Outcome(outcome.result, outcome.message, seconds, megabytes)


def _peak_kilobytes() -> int:
    # Not getrusage, which counts what the parent had.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def examine(path: Path) -> Outcome:
    """Read a file, hold what must be true against it, and say what it gave."""
    found = find_series(path)
    member = read_file(path, path.name, _membership)
    left_out = (*found.skipped, *found.bad)
    for file in (*left_out, *([] if isinstance(member, Membership) else [member])):
        if problem := _problem(file.reason):
            return Outcome("failure", problem)
    if left_out:
        return Outcome("bad header" if found.bad else "skipped", left_out[0].reason)
    ((header,),) = (series.slices for series in found.series)
    try:
        series, _ = open_series(path)
        hu = load_hu(header)
    except SsimrdoError as error:
        message = error.cause if isinstance(error, BadSliceError) else str(error)
        # The limit of the process hides how much was asked for.
        is_failure = bool(_problem(message)) or OUT_OF_MEMORY in message
        return Outcome("failure" if is_failure else "bad pixels", message)
    if problem := _wrong_picture(header, hu, series.header_window):
        return Outcome("failure", problem)
    return Outcome("slice")


def _membership(path: Path, name: str) -> Membership | SkippedFile:
    with path.open("rb", buffering=0) as stream:
        return read_membership(stream, name)


def _problem(message: str) -> str:
    """Say what is wrong with a message, "" if nothing is."""
    if not message.isprintable() or len(message) > 400:
        return f"no line for a terminal: {message!r:.200}"
    return "header text in a message" if MARKER[:8] in message else ""


def _wrong_picture(header: SliceHeader, hu: Any, window: Window | None) -> str:
    if hu.shape != (header.rows, header.columns) or not np.isfinite(hu).all():
        return "HU of another shape, or not finite"
    luma = apply_window(hu, window or Window(40, 400), inverted=header.inverted)
    return "" if luma.shape == hu.shape and luma.dtype == np.uint8 else "luma is wrong"


if __name__ == "__main__":
    sys.exit(main())
