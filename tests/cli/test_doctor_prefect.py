"""What `vlfilter doctor` says about a real Prefect server: pools, workers, late and silent runs, stuck slots."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelled, Completed, Pending, Running

from deployments.automations import automations
from tasks import silence
from tasks.silence import LIVING, silent
from tests.helpers import until
from vlfilter.cli.doctor_prefect import SILENT_RUNS, check_pools, check_prefect, judge_settings, judge_version
from vlfilter.cli.doctor_slots import check_runs, check_slots
from vlfilter.doctor.check import Check

AT_ONCE = timedelta(seconds=-5)  # the server tells its time in whole seconds


@pytest.fixture
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    """The session's server, on which no run of another test lives any more."""
    with get_client(sync_client=True) as client:
        alive = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(LIVING))))
        for run in client.read_flow_runs(flow_run_filter=alive):
            client.set_flow_run_state(run.id, Cancelled(), force=True)
        yield client


@pytest.fixture
def pool(client: SyncPrefectClient) -> Iterator[str]:
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    yield name
    client.delete_work_pool(name)


@pytest.fixture
def deployment(client: SyncPrefectClient, pool: str) -> Iterator[UUID]:
    """A deployment that may run twice at a time."""
    flow = client.create_flow_from_name("doctor-test")
    made = client.create_deployment(flow, "doctor", work_pool_name=pool, concurrency_limit=2)
    yield made
    client.delete_deployment(made)


def about(client: SyncPrefectClient, pool: str) -> Check:
    return next(check for check in check_pools(client) if f"{pool} (process)" in check.text)


def test_a_pool_that_nobody_polls_and_one_that_somebody_does(client: SyncPrefectClient, pool: str) -> None:
    found = about(client, pool)
    assert (found.level, found.text) == ("warn", f"no worker polls {pool} (process)")
    assert found.advice.startswith(f"prefect worker start --pool {pool}")
    client.send_worker_heartbeat(pool, "one", heartbeat_interval_seconds=30)
    client.send_worker_heartbeat(pool, "two", heartbeat_interval_seconds=30)
    assert about(client, pool) == Check("work pools", "ok", f"{pool} (process): 2 workers poll it")
    client.update_work_pool(pool, WorkPoolUpdate(is_paused=True))
    assert about(client, pool).advice == f"prefect work-pool resume {pool}"


def test_late_runs_that_nobody_will_start_are_a_failure(client: SyncPrefectClient, pool: str, deployment: UUID) -> None:
    run = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(run.id, State(type=StateType.SCHEDULED, name="Late"), force=True)
    found = about(client, pool)
    assert (found.level, found.text) == ("fail", f"no worker polls {pool} (process), 1 runs are late")
    client.send_worker_heartbeat(pool, "one", heartbeat_interval_seconds=30)
    assert about(client, pool).level == "warn"


def test_slots_of_a_deployment_that_no_run_holds(client: SyncPrefectClient, deployment: UUID) -> None:
    limit = f"deployment:{deployment}"
    client.increment_concurrency_slots([limit], 2, "concurrency")
    assert stuck(client, limit) == [
        "2 of 2 slots of the deployment doctor are held by no run, and others wait for them"
    ]
    run = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(run.id, Running(), force=True)
    assert len(stuck(client, limit)) == 1
    client.set_flow_run_state(run.id, Completed(), force=True)


def stuck(client: SyncPrefectClient, limit: str) -> list[str]:
    return [check.text for check in check_slots(client) if f"gcl update {limit} " in check.advice]


def test_slots_of_a_limit_that_no_run_holds(client: SyncPrefectClient, deployment: UUID) -> None:
    name = f"doctor-{uuid.uuid4().hex[:8]}"
    decaying = f"{name}-rate"
    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=3))
    client.create_global_concurrency_limit(
        GlobalConcurrencyLimitCreate(name=decaying, limit=3, slot_decay_per_second=0.001)
    )
    try:
        assert stuck(client, name) == []
        client.increment_concurrency_slots([name, decaying], 1, "concurrency")
        assert stuck(client, name) == [f"1 of 3 slots of {name} are held by no run, and others wait for them"]
        assert stuck(client, decaying) == []
        run = client.create_flow_run_from_deployment(deployment)
        client.set_flow_run_state(run.id, Running(), force=True)
        assert stuck(client, name) == []  # it may be this run's
        client.set_flow_run_state(run.id, Completed(), force=True)
    finally:
        client.delete_global_concurrency_limit_by_name(name)
        client.delete_global_concurrency_limit_by_name(decaying)


def test_a_run_that_has_fallen_silent(
    client: SyncPrefectClient, deployment: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = client.create_flow_run_from_deployment(deployment, name="silent-one")
    client.set_flow_run_state(run.id, Running(), force=True)
    waits = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(waits.id, Pending(), force=True)
    assert check_runs(client) == Check("runs", "ok", "none of 2 living runs is silent")  # they have just begun
    monkeypatch.setattr(silence, "HEARTBEATS", AT_ONCE)
    found = check_runs(client)
    text = "1 runs claim to live, and nothing was heard of them for 7 min: silent-one (Running)"
    assert (found.level, found.text) == ("warn", text)
    for one in (run, waits):
        client.set_flow_run_state(one.id, Completed(), force=True)
    assert check_runs(client) == Check("runs", "ok", "none is under way")


def test_a_heartbeat_is_a_sign_of_life(
    client: SyncPrefectClient, deployment: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "HEARTBEATS", AT_ONCE)
    made = [client.create_flow_run_from_deployment(deployment) for _ in range(2)]
    for run in made:
        client.set_flow_run_state(run.id, Running(), force=True)
    runs = [client.read_flow_run(run.id) for run in made]
    assert silent(client, runs) == runs
    beat = {
        "occurred": (datetime.now(UTC) + timedelta(minutes=1)).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{runs[0].id}"},
        "id": str(uuid.uuid4()),
    }
    client.request("POST", "/events", json=[beat])
    until(lambda: silent(client, runs) == runs[1:], "heard")


def test_the_automation_that_ends_silent_runs(client: SyncPrefectClient) -> None:
    def found() -> Check:
        return next(check for check in check_prefect() if check.name == "automations")

    for there in client.read_automations_by_name(SILENT_RUNS):
        client.delete_automation(there.id)
    assert found().level == "warn"
    wanted = next(one for one in automations("process", None) if one.name == SILENT_RUNS)
    made = client.create_automation(wanted)
    assert found() == Check("automations", "ok", "silent runs are marked crashed")
    client.pause_automation(made)
    assert "switched off" in found().text
    client.delete_automation(made)


@pytest.mark.parametrize(
    ("server", "client_version", "level"),
    [("3.8.8", "3.8.8", "ok"), ("3.10.0", "3.9.1", "ok"), ("3.8.8", "3.10.0", "warn"), ("2.20.1", "3.8.8", "fail")],
)
def test_versions(server: str, client_version: str, level: str) -> None:
    found = judge_version(server, client_version, "http://host/api")
    assert (found.level, bool(found.advice)) == (level, level != "ok")


@pytest.mark.parametrize(
    ("batch", "leases", "levels"),
    [(200, "filesystem", []), (1, "filesystem", ["warn"]), (1, "memory", ["warn", "note"])],
)
def test_settings_of_the_server(batch: int, leases: str, levels: list[str]) -> None:
    settings: dict[str, Any] = {
        "server": {
            "services": {"task_run_recorder": {"batch_size": batch}},
            "concurrency": {"lease_storage": f"prefect.server.concurrency.lease_storage.{leases}"},
        }
    }
    assert [check.level for check in judge_settings(settings)] == levels


def test_how_long_ago_a_worker_was_seen() -> None:
    from vlfilter.cli.doctor_prefect import _ago

    assert [_ago(timedelta(minutes=m)) for m in (5, 119, 240)] == ["5 min", "119 min", "4 h"]
