"""Fetching what vendors' batch jobs brought."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_table_artifact

from tasks.judge import make_judge, spending_table
from tasks.policy import RETRIED
from vlfilter.llm.batches import Collected
from vlfilter.llm.client import JudgeSettings


@task(name="collect batches", task_run_name="collect batches of {settings.model}", **RETRIED)
def collect(settings: JudgeSettings) -> list[Collected]:
    """The state of every job of one model. The account, which holds all models', is an artifact."""
    with make_judge(settings) as judge:
        found = judge.collect_batches()
        spending_table(judge.spending())
    return found


def batch_table(jobs: Sequence[Collected]) -> None:
    rows = [
        {
            "job": job.job,
            "model": f"{job.vendor}:{job.model}",
            "state": job.state,
            "questions": str(job.size),
            "answers fetched": str(job.answers),
            "left to who asked": str(job.left),
            "reason": job.reason,
        }
        for job in jobs
    ]
    create_table_artifact(rows, key="poll-batches-jobs", description="Batch jobs")
