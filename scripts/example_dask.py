"""Example: a batch on a Dask cluster, with a scheduler and two workers started here.

Usage: .venv/bin/python scripts/example_dask.py ROOT OUT

On real nodes the same two commands run there instead, "dask scheduler" on one and
"dask worker tcp://SCHEDULER:8786 --nthreads 1 --nworkers CORES" on each of the others. All must
have the same version of ssimrdo, and see ROOT and OUT under the same paths or URLs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ssimrdo import Event, Observer
from ssimrdo.batch import BatchEvent, BatchSettings, run


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """Yield the address of a scheduler that has some workers."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def start(kind: str, *arguments: str) -> None:
            command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard"]
            process = stack.enter_context(
                subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL)
            )
            # Called in reverse: first the process is told to end, then it is waited for.
            stack.callback(process.terminate)

        # Port 0 is any that is free; the scheduler writes which into this file.
        file = folder / "scheduler.json"
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        while not file.exists() or not file.read_text().endswith("}"):
            time.sleep(0.1)
        address: str = json.loads(file.read_text())["address"]
        for _ in range(workers):
            # One thread each: an encode has a process for itself, and dies alone.
            start("worker", address, "--nthreads", "1", "--local-directory", str(folder))
        yield address


def tell(event: Event) -> None:
    """Print each series as it is done, and where."""
    if isinstance(event, BatchEvent) and event.record is not None:
        print(f"{event.record.output}: {event.record.status} on {event.record.worker}")


def main(root: str, out: str) -> None:
    """Encode what is below a folder on two workers."""
    with cluster(workers=2) as address:
        print(f"the scheduler is at {address}")
        result = run(root, out, BatchSettings(dask=address), observer=Observer(tell))
    totals = result.totals
    print(
        f"{totals.encoded} encoded, {totals.done_before} done before, {result.failed} failed; "
        f"{totals.input_bytes / 1e6:.1f} MB became {totals.output_bytes / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
