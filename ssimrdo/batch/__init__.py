"""Many series at once: search, jobs that can be resumed, executors and results."""

from ssimrdo.batch.job import Job, run_job
from ssimrdo.batch.plan import Plan, Todo
from ssimrdo.batch.record import Record
from ssimrdo.batch.runner import (
    BatchResult,
    Event,
    Listener,
    Totals,
    dry_run,
    is_running,
    read_results,
    run,
)
from ssimrdo.batch.settings import BatchSettings
from ssimrdo.executors import DaskExecutor, Executor, LocalExecutor, open_executor

__all__ = [
    "BatchResult",
    "BatchSettings",
    "DaskExecutor",
    "Event",
    "Executor",
    "Job",
    "Listener",
    "LocalExecutor",
    "Plan",
    "Record",
    "Todo",
    "Totals",
    "dry_run",
    "is_running",
    "open_executor",
    "read_results",
    "run",
    "run_job",
]
