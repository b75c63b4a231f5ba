"""A benchmark as a task: its tables of answers show what is done, and the rest is asked."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks.evaluate_artifacts import artifact_key
from tasks.policy import RETRIED
from vlfilter.evaluation import benchmarking
from vlfilter.evaluation.benchmarking import Answerers
from vlfilter.evaluation.params import BenchmarkStep, EvaluateParams


@task(name="evaluate", task_run_name="evaluate {step.benchmark}", **RETRIED)
def evaluate_step(params: EvaluateParams, step: BenchmarkStep, who: Answerers) -> dict[str, Any]:
    """The scores, and a bar on the run's page that follows the shards of questions."""
    # Sync here; its type also tells of the async form.
    key = artifact_key(step.benchmark, "progress")
    bar = cast(UUID, create_progress_artifact(0.0, key=key, description=step.benchmark))

    def show(done: int, shards: int) -> None:
        update_progress_artifact(bar, 100 * done / shards, f"{step.benchmark}: {done} of {shards} shards of questions")

    told = benchmarking.evaluate_step(params, step, who, show)
    update_progress_artifact(bar, 100.0, step.benchmark)
    for entry in told["reasons"]:
        get_run_logger().warning("%s: %d rows: %s", told["benchmark"], entry["rows"], entry["reason"])
    return told
