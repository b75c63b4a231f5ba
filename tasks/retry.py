"""Tasks of a retry: what was asked for last, and which whole tables are to be made again."""

from __future__ import annotations

from prefect import get_run_logger, runtime, task

from tasks.score import RETRIED
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.retry import RetryParams, mark_rows, runs_to_repeat


@task(name="recorded-runs", **RETRIED)
def runs(params: RetryParams) -> list[ScoreParams]:
    """The runs that made the output, as they were asked for."""
    return runs_to_repeat(params)


@task(name="mark-rows", **RETRIED)
def mark(params: RetryParams) -> None:
    """Ask for the tables with such rows to be made again, once a run: *Retry* goes on with what is left."""
    for scorer, tables in mark_rows(params, str(runtime.flow_run.id)).items():
        get_run_logger().info("%s: %d tables hold such rows and are made again", scorer, tables)
