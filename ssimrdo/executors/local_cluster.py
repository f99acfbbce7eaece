"""A Dask cluster of this machine, in a process of its own.

``python -m ssimrdo.executors.local_cluster N`` starts N workers. It prints the address of its
scheduler and ends when its standard input does, so it dies with whoever started it.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Any

from ssimrdo.executors.quiet import quieten, quieten_dask


def dask_setup(worker: Any) -> None:
    """Quieten a worker; Dask calls this when one starts."""
    del worker
    quieten()
    quieten_dask()


def main(workers: int) -> None:
    """Run a cluster until standard input ends."""
    quieten()
    quieten_dask()
    # Untyped.
    dask: Any = import_module("dask")
    distributed: Any = import_module("distributed")
    # A worker that died is replaced, which takes longer on a busy machine than the cluster waits
    # before it gives the worker up for good.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
    with distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
        preload=__spec__.name if __spec__ is not None else __name__,
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
