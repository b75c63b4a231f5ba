"""`vlfilter doctor`: runs that have fallen silent, and concurrency slots that nobody holds any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.exceptions import ObjectNotFound
from prefect.types import DateTime

from vlfilter.doctor.check import Check

SILENCE = timedelta(minutes=7)  # two heartbeats at Prefect's own pace of three minutes, and then some
MOST = 20  # running runs that are looked at, the oldest first
PAGE = 200
ALIVE = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
OF_DEPLOYMENT = "deployment:"  # how Prefect names the limit of a deployment; its id follows


def check_runs(client: SyncPrefectClient) -> Check:
    """Runs that say Running and have sent no heartbeat for a while: their process or machine is gone."""
    running = _alive(StateType.RUNNING)
    running.start_time = FlowRunFilterStartTime(before_=DateTime.now("UTC") - SILENCE)
    runs = client.read_flow_runs(flow_run_filter=running, sort=FlowRunSort.START_TIME_ASC, limit=MOST)
    silent = [run for run in runs if not has_a_pulse(client, run)]
    if not silent:
        return Check("runs", "ok", f"none of {len(runs)} older running runs is silent" if runs else "none hangs")
    names = ", ".join(run.name for run in silent[:3]) + (" …" if len(silent) > 3 else "")
    minutes = int(SILENCE.total_seconds() // 60)
    text = f"{len(silent)} runs say Running and sent no heartbeat for {minutes} min: {names}"
    return Check("runs", "warn", text, "look at their worker; set them to Crashed in the UI, and press Retry")


def has_a_pulse(client: SyncPrefectClient, run: FlowRun) -> bool:
    heartbeats = EventFilter(
        event=EventNameFilter(name=["prefect.flow-run.heartbeat"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
        occurred=EventOccurredFilter(since=DateTime.now("UTC") - SILENCE),
    )
    return bool(client.read_events(heartbeats, limit=1).events)


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
    alive = _alive(*ALIVE)
    if limit.name.startswith(OF_DEPLOYMENT):
        of = DeploymentFilter(id=DeploymentFilterId(any_=[UUID(limit.name.removeprefix(OF_DEPLOYMENT))]))
        return client.count_flow_runs(flow_run_filter=alive, deployment_filter=of)
    if client.count_flow_runs(flow_run_filter=alive):
        return limit.active_slots
    tasks = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=ALIVE)))
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
