"""Commands that are ended at any moment: nothing may be half, and the next run has to go on."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av

from ssimrdo.files import PARTIAL
from ssimrdo.phantom import PhantomSettings, write_phantom

SSIMRDO: Final = (sys.executable, "-m", "ssimrdo")
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
COMMANDS: Final = {
    "encode": ("encode", "{ct}", "-o", "{out}/a.mp4", "--preset", "veryslow"),
    "encode in two passes": ("encode", "{ct}", "-o", "{out}/a.mkv", "--bitrate", "300"),
    "search": ("encode", "{ct}", "-o", "{out}/a.mp4", "--min-ssim", "0.95"),
    "overwrite": ("encode", "{ct}", "-o", "{out}/old.mp4", "--overwrite"),
    "batch": ("batch", "{root}", "-o", "{out}/videos", "--jobs", "2"),
    "compare": (
        *("compare", "{ct}", "-o", "{out}/report", "--no-cache", "--preset", "ultrafast"),
        *("--metric", "ssim"),
    ),
    "inspect": ("inspect", "{ct}", "-o", "{out}/maps.html"),
    "metrics": ("metrics", "{ct}", "{ct}", "-o", "{out}/a.html", "--map", "{out}/maps", "--all"),
    "phantom": ("phantom", "{out}/phantom", "--slices", "3", "--size", "128"),
}
GRACE_S: Final = 60.0


@dataclass(frozen=True)
class Trial:
    """What came of one command that was ended.

    Parameters
    ----------
    command : str
        Which.
    sent : str
        Signals, and when.
    status : int
        Exit status.
    problems : tuple of str
        What is wrong; empty if nothing is.
    """

    command: str
    sent: str
    status: int
    problems: tuple[str, ...]


def main(seed: int, count: int) -> int:
    """End so many commands; print what came of them."""
    statuses: Counter[str] = Counter()
    failed = 0
    for number, trial in enumerate(trials(seed, count), seed):
        statuses[str(trial.status)] += 1
        for problem in trial.problems:
            failed += 1
            print(f"signals {number}: {trial.command}, {trial.sent}: {problem}", flush=True)
    shown = ", ".join(f"{number} x {status}" for status, number in statuses.most_common())
    print(f"signals {seed} to {seed + count - 1}: exit statuses {shown}; {failed} failures")
    return int(failed > 0)


def trials(seed: int, count: int) -> Iterator[Trial]:
    """Yield what comes of commands, each ended at a moment that follows from its number."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "in")
        for name, slices in (("a", 6), ("b", 4), ("c", 3)):
            settings = PhantomSettings(slices=slices, size=128, seed=slices)
            (root / name).parent.mkdir(exist_ok=True)
            write_phantom(root / name, settings)
        for number in range(seed, seed + count):
            yield _trial(number, root, Path(folder, f"out{number}"))


def _trial(number: int, root: Path, out: Path) -> Trial:
    rng = random.Random(number)
    name = rng.choice(tuple(COMMANDS))
    out.mkdir()
    places = {"ct": root / "a", "root": root, "out": out}
    command = [*SSIMRDO, *(word.format_map(places) for word in COMMANDS[name])]
    old = b"old"
    if name == "overwrite":
        (out / "old.mp4").write_bytes(old)
        (out / "old.json").write_bytes(old)
    first = rng.choice(SIGNALS)
    delay = rng.choice((rng.uniform(0, 1.5), rng.uniform(0.5, 4)))
    second = rng.choice((None, None, *SIGNALS[:3]))
    gap = rng.choice((0.0, 0.01, 0.05, 0.5))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    process.send_signal(first)
    if second is not None:
        time.sleep(gap)
        process.send_signal(second)
    problems = []
    try:
        said = process.communicate(timeout=GRACE_S)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[1]
        problems.append(f"does not end within {GRACE_S:g} s")
    sent = f"{first.name} after {delay:.2f} s" + (
        f", {second.name} after {gap} s" if second else ""
    )
    is_killed = first == signal.SIGKILL
    # Before the interpreter has come to our code it ends in its own ways.
    if "Traceback" in said and "ssimrdo/cli/main.py" in said:
        problems.append(f"a traceback: {said[-300:]!r}")
    problems += _half(out, is_killed=is_killed or process.returncode < 0, old=old)
    if name == "batch":
        problems += _goes_on(command, out / "videos")
    return Trial(name, sent, process.returncode, tuple(problems))


def _half(out: Path, *, is_killed: bool, old: bytes) -> Iterator[str]:
    """Yield what is half."""
    for path in out.rglob("*"):
        if PARTIAL.fullmatch(path.name) or any(
            PARTIAL.fullmatch(parent.name) for parent in path.parents
        ):
            if not is_killed:
                yield f"{path.name} is left"
        elif path.suffix in (".mp4", ".mkv"):
            yield from _half_video(path, old)
        elif path.suffix == ".json" and path.read_bytes() != old:
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".html" and not path.read_text(encoding="utf-8").rstrip().endswith(
            "</html>"
        ):
            yield f"{path.name} is cut off"
        elif path.suffix == ".dcm" and len(list(path.parent.glob("*.dcm"))) != 3:
            yield "a part of a phantom"


def _half_video(path: Path, old: bytes) -> Iterator[str]:
    sidecar = path.with_suffix(".json")
    if path.read_bytes() == old:
        if sidecar.exists() and sidecar.read_bytes() != old:
            yield "a new sidecar beside an old video"
        return
    if not sidecar.exists():
        # The video gets its name first; whoever finds the sidecar finds the video.
        return
    record = json.loads(sidecar.read_text(encoding="utf-8"))
    if record["bytes"] != path.stat().st_size:
        yield f"{path.name} is not as long as its sidecar says"
    with av.open(str(path)) as container:
        if sum(1 for _ in container.decode(video=0)) != record["frames"]:
            yield f"{path.name} does not decode to all its slices"


def _goes_on(command: list[str], out: Path) -> Iterator[str]:
    """Yield what is wrong once the same batch has run to its end."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield f"the next run ends with {done.returncode}: {done.stderr[-200:]!r}"
        return
    videos = sorted(path.name for path in out.glob("*.mp4"))
    if videos != ["a.mp4", "b.mp4", "c.mp4"]:
        yield f"the next run leaves {videos}"
    left = [path.name for path in out.rglob("*") if PARTIAL.fullmatch(path.name)]
    if left:
        yield f"the next run leaves {left}"
    if not re.search(r"3 series|done before", done.stdout):
        yield f"the next run says {done.stdout[:100]!r}"
