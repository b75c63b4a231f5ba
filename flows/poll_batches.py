"""Fetch the answers of batch jobs that have ended, for runs that are not there any more or not yet again.

A run that asks in batches waits for its own jobs. Where it has ended or died, its answers wait at the vendor, who keeps
them for some weeks; this flow, by its schedule, caches them and settles the account, and the next run finds them there.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from tasks.batches import batch_table, collect
from vlfilter.errors import VlfilterError
from vlfilter.llm.batches import Collected
from vlfilter.llm.form import PollParams


def _run_name() -> str:
    return f"poll batches · {PollParams.model_validate(runtime.flow_run.parameters['params']).cache}"


@flow(name="poll-batches", flow_run_name=_run_name, persist_result=False)
def poll_batches(params: PollParams) -> State[Any]:
    """Fetch and cache the answers of vendors' batch jobs that have ended."""
    found: list[Collected] = []
    failed: list[str] = []
    for settings in params.judges():
        try:
            found += collect(settings)
        except VlfilterError as error:  # one vendor's key may be missing, the other's jobs are collected all the same
            failed.append(f"{settings.model}: {error}")
    batch_table(found)
    states = Counter(job.state for job in found)
    said = ", ".join(f"{count} {state}" for state, count in states.items()) or "no jobs"
    message = f"{said}; {sum(job.answers for job in found)} answers fetched"
    if failed:
        return Failed(message="\n".join([*failed, message]))
    return Completed(message=message)
