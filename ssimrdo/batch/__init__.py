"""Many series at once: search, jobs that can be resumed, executors and results."""

from ssimrdo.batch.ct import CTSettings
from ssimrdo.batch.estimate import Estimate
from ssimrdo.batch.job import BatchJob, run_job
from ssimrdo.batch.journal import BatchRecord
from ssimrdo.batch.plan import Plan, Todo
from ssimrdo.batch.runner import (
    BatchEvent,
    BatchResult,
    Totals,
    dry_run,
    is_running,
    read_results,
    run,
)
from ssimrdo.batch.settings import BatchSettings
from ssimrdo.batch.stale import StaleOutput, prune, stale_outputs
from ssimrdo.executors import DaskExecutor, LocalExecutor, open_executor

__all__ = [
    "BatchEvent",
    "BatchJob",
    "BatchRecord",
    "BatchResult",
    "BatchSettings",
    "CTSettings",
    "DaskExecutor",
    "Estimate",
    "LocalExecutor",
    "Plan",
    "StaleOutput",
    "Todo",
    "Totals",
    "dry_run",
    "is_running",
    "open_executor",
    "prune",
    "read_results",
    "run",
    "run_job",
    "stale_outputs",
]
