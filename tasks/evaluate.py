"""A benchmark as a task: its tables of answers show what is done, and the rest is asked."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks.artifacts import tolerant
from tasks.evaluate_artifacts import artifact_key, category_artifacts
from tasks.policy import RETRIED
from vlfilter.evaluation import benchmarking
from vlfilter.evaluation.benchmarking import Answerers, OnShard
from vlfilter.evaluation.params import BenchmarkStep, EvaluateParams


@task(name="evaluate", task_run_name="evaluate {step.benchmark}", **RETRIED)
def evaluate_step(params: EvaluateParams, step: BenchmarkStep, who: Answerers) -> dict[str, Any]:
    """The scores, by category as a table and a picture on the run's page."""
    told = benchmarking.evaluate_step(params, step, who, None if step.answers else _bar(step.benchmark))
    category_artifacts(told)
    for entry in told["reasons"]:
        get_run_logger().warning("%s: %d rows: %s", told["benchmark"], entry["rows"], entry["reason"])
    return told


def _bar(benchmark: str) -> OnShard:
    """A bar on the run's page that follows the shards of questions."""
    # Sync here; its type also tells of the async form.
    key = artifact_key(benchmark, "progress")
    bar = cast(UUID | None, tolerant(create_progress_artifact)(0.0, key=key, description=benchmark))

    def show(done: int, shards: int) -> None:
        if bar:
            text = f"{benchmark}: {done} of {shards} shards of questions"
            tolerant(update_progress_artifact)(bar, 100 * done / shards, text)

    return show
