"""A Dask scheduler and workers as processes that talk over TCP on the loopback interface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

TESTS = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(TESTS),
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
}


class Cluster:
    """A scheduler and its workers, as processes."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        file = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", file
        )
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text().endswith("}"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]

    def add_worker(self, *options, **environment):
        """Start a worker process of one thread."""
        arguments = [self.address, "--nthreads", "1", "--local-directory", self._folder, *options]
        return self._start("worker", *arguments, **environment)

    def _start(self, kind, *arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + kind, "--no-dashboard", *arguments],
            env={**ENVIRONMENT, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Python puts the working folder before all others.
            cwd=self._folder,
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


@contextmanager
def cluster(folder):
    with ExitStack() as stack:
        yield Cluster(stack, folder)
