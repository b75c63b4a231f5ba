"""`vlfilter doctor`: runs that have fallen silent, and concurrency slots that nobody holds any more."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from tasks.silence import HEARTBEATS, LIVING, silent
from vlfilter.doctor.check import Check

PAGE = 200
OF_DEPLOYMENT = "deployment:"  # how Prefect names the limit of a deployment; its id follows


def check_runs(client: SyncPrefectClient) -> Check:
    """Runs that say they are alive and of which nothing is heard: their process or machine is gone."""
    runs = client.read_flow_runs(flow_run_filter=_alive(*LIVING), sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=PAGE)
    lost = silent(client, runs)
    if not lost:
        return Check("runs", "ok", f"none of {len(runs)} living runs is silent" if runs else "none is under way")
    names = ", ".join(f"{run.name} ({run.state_name})" for run in lost[:3]) + (" …" if len(lost) > 3 else "")
    minutes = int(HEARTBEATS.total_seconds() // 60)
    text = f"{len(lost)} runs claim to live, and nothing was heard of them for {minutes} min: {names}"
    return Check("runs", "warn", text, "look at their worker; set them to Crashed in the UI, and press Retry")


def check_slots(client: SyncPrefectClient) -> Iterator[Check]:
    """Slots of concurrency limits that no living run can be holding. Rate limits free theirs by themselves."""
    held, stuck = 0, []
    for limit in _limits(client):
        if not limit.active_slots or limit.slot_decay_per_second:
            continue
        held += limit.active_slots
        lost = limit.active_slots - _most_holders(client, limit)
        if lost > 0:
            stuck.append(limit)
            text = (
                f"{lost} of {limit.limit} slots of {_name(client, limit)} are held by no run, and others wait for them"
            )
            left = limit.active_slots - lost
            yield Check("slots", "warn", text, f"prefect gcl update {limit.name} --active-slots {left}")
    if not stuck:
        yield Check("slots", "ok", f"{held} held, all by living runs" if held else "none is held")


def _limits(client: SyncPrefectClient) -> Iterator[GlobalConcurrencyLimitResponse]:
    offset = 0
    while page := client.read_global_concurrency_limits(limit=PAGE, offset=offset):
        yield from page
        offset += len(page)


def _most_holders(client: SyncPrefectClient, limit: GlobalConcurrencyLimitResponse) -> int:
    """How many slots living runs can hold at most. Who holds a slot is not to be learnt over the API: for a
    deployment's limit it is the number of its living runs, for others any living run may hold any number."""
    alive = _alive(*LIVING)
    if limit.name.startswith(OF_DEPLOYMENT):
        of = DeploymentFilter(id=DeploymentFilterId(any_=[UUID(limit.name.removeprefix(OF_DEPLOYMENT))]))
        return client.count_flow_runs(flow_run_filter=alive, deployment_filter=of)
    if client.count_flow_runs(flow_run_filter=alive):
        return limit.active_slots
    tasks = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=list(LIVING))))
    return limit.active_slots if client.read_task_runs(task_run_filter=tasks, limit=1) else 0


def _name(client: SyncPrefectClient, limit: GlobalConcurrencyLimitResponse) -> str:
    if limit.name.startswith(OF_DEPLOYMENT):
        try:
            return f"the deployment {client.read_deployment(limit.name.removeprefix(OF_DEPLOYMENT)).name}"
        except ObjectNotFound:
            return "a deployment that is gone"
    return limit.name


def _alive(*states: StateType) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))))
