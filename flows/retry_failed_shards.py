"""Retry failed shards: read the score tables → ask for what is to be made again → score shards, as they last were."""

from __future__ import annotations

from typing import Any

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from flows.dispatch import cancel_children
from flows.score_shards import score_shards
from tasks.retry import mark, runs
from vlfilter.scoring.retry import RetryParams


def _run_name() -> str:
    params = RetryParams.model_validate(runtime.flow_run.parameters["params"])
    rows = " ".join([*params.status, *([f"“{params.reason}”"] if params.reason else [])])
    return f"retry {' + '.join(params.scorer)} {rows} · {params.output}".replace("  ", " ")


@flow(name="retry-failed-shards", flow_run_name=_run_name, persist_result=False, on_cancellation=[cancel_children])
def retry_failed_shards(params: RetryParams) -> State[Any]:
    """Score again what the output lacks and, if asked, the shards that hold rows with a status or a reason."""
    repeat = runs(params)
    if params.asks_for_rows:
        mark(params)
    states = [score_shards(run, return_state=True) for run in repeat]
    said = "\n".join(state.message or "" for state in states)
    return Completed(message=said) if all(state.is_completed() for state in states) else Failed(message=said)
