"""`make deploy` against a real server: everything is there afterwards, a second time changes nothing, a changed
definition is changed in its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitUpdate,
    VariableUpdate,
    WorkPoolUpdate,
)

from deployments import automations, blocks, limits, pools
from deployments.apply import apply, wanting
from deployments.blocks import apply_variables, container_environment
from deployments.pools import apply_pools
from vlfilter.errors import VlfilterError

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def applied(client: SyncPrefectClient) -> SyncPrefectClient:
    """A server to which all was applied before."""
    list(apply(client))
    return client


@pytest.fixture(scope="module")
def deployed(prefect_api: str) -> Any:
    """Runs `make deploy`'s command and returns the server's deployments, by flow and name."""

    def deploy() -> dict[str, Any]:
        environment = {**os.environ, "PREFECT_API_URL": prefect_api}
        environment.pop("VLFILTER_POOL_TYPE", None)
        command = [sys.executable, "-m", "deployments.apply"]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        with get_client(sync_client=True) as client:
            flows = {flow.id: flow.name for flow in client.read_flows()}
            return {f"{flows[one.flow_id]}/{one.name}": one for one in client.read_deployments()}

    return deploy


def test_a_second_time_changes_nothing(applied: SyncPrefectClient) -> None:
    before = {
        name: applied.request("POST", f"/{name}/filter", json={}).json()
        for name in ("work_pools", "work_queues", "automations", "v2/concurrency_limits")
    }
    assert list(apply(applied)) == []
    for name, were in before.items():
        assert applied.request("POST", f"/{name}/filter", json={}).json() == were
    assert {pool["name"] for pool in before["work_pools"]} >= {"cpu", "gpu"}
    assert {limit["name"] for limit in before["v2/concurrency_limits"]} >= set(limits.LIMITS)


def test_what_differs_is_changed_in_its_place(applied: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = applied.read_work_pool("gpu")
    applied.update_work_pool("gpu", WorkPoolUpdate(description="somebody's"))
    name = "judge-requests-openai"
    applied.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=1, active=False))
    (old,) = applied.read_automations_by_name("vlfilter: silent runs have crashed")
    monkeypatch.setattr(automations, "SILENCE", automations.SILENCE * 2)
    monkeypatch.setitem(pools.QUEUES, "gpu", {"default": 1, "groups": 3})

    assert list(apply(applied)) == [
        "work pool gpu: updated",
        "work queue gpu/groups: updated",
        f"limit {name}: updated",
        "automation 'vlfilter: silent runs have crashed': updated",
    ]
    again = applied.read_work_pool("gpu")
    assert (again.id, again.description) == (pool.id, pools.POOLS["gpu"])
    limit = applied.read_global_concurrency_limit_by_name(name)
    assert (limit.limit, limit.active) == (10, False)  # whether it is switched on is the operator's
    (new,) = applied.read_automations_by_name(old.name)
    assert new.id == old.id
    assert new.trigger.within.total_seconds() == 180  # type: ignore[union-attr]
    monkeypatch.undo()
    list(apply(applied))


def test_an_automation_that_is_switched_off_stays_off(
    applied: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = applied.read_automations_by_name("vlfilter: late runs are reported")
    applied.pause_automation(found.id)
    monkeypatch.setattr(automations, "LATE", automations.LATE * 2)
    assert len(list(apply(applied))) == 1
    (found,) = applied.read_automations_by_name(found.name)
    assert not found.enabled
    applied.resume_automation(found.id)
    monkeypatch.undo()
    list(apply(applied))


def test_a_notification_block_is_used_where_it_is_there(applied: SyncPrefectClient) -> None:
    assert any(blocks.ALERTS in line for line in wanting(applied))
    block = CustomWebhookNotificationBlock(name="x", url="http://127.0.0.1:9/")
    block.save(blocks.ALERTS, _sync=True)  # type: ignore[call-arg]
    assert len(list(apply(applied))) == 2  # the two that report
    (late,) = applied.read_automations_by_name("vlfilter: late runs are reported")
    assert [action.type for action in late.actions] == ["send-notification"]
    assert not any(blocks.ALERTS in line for line in wanting(applied))
    CustomWebhookNotificationBlock.delete(blocks.ALERTS, _sync=True)  # type: ignore[call-arg]
    list(apply(applied))


def test_a_pool_of_another_type_is_not_touched(applied: SyncPrefectClient) -> None:
    with pytest.raises(VlfilterError, match="the work pool cpu is of the type process"):
        list(apply(applied, "docker"))
    assert applied.read_work_pool("cpu").type == "process"
    with pytest.raises(VlfilterError, match="is none of process, docker, kubernetes"):
        list(apply(applied, "lambda"))


def test_secrets_and_variables_are_references(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "POOLS", {"test-containers": "For a test."})
    monkeypatch.setitem(pools.QUEUES, "test-containers", {"default": 1})
    list(apply_variables(client))
    client.update_variable(VariableUpdate(name="vlfilter_image", value="registry/vlfilter:2"))
    assert list(apply_variables(client)) == []  # the operator's value stays
    list(apply_pools(client, "docker", container_environment(client)))
    assert "AWS_SECRET_ACCESS_KEY" not in json.dumps(client.read_work_pool("test-containers").base_job_template)

    Secret(value="hush-hush").save("aws-secret-access-key", _sync=True)  # type: ignore[call-arg]
    assert list(apply_pools(client, "docker", container_environment(client))) == ["work pool test-containers: updated"]
    template = client.read_work_pool("test-containers").base_job_template
    reference = "{{ prefect.blocks.secret.aws-secret-access-key }}"
    assert template["variables"]["properties"]["env"]["default"]["AWS_SECRET_ACCESS_KEY"] == reference
    assert "hush-hush" not in json.dumps(template)
    Secret.delete("aws-secret-access-key", _sync=True)  # type: ignore[call-arg]


def test_a_second_time_deployments_and_switched_on_schedules_stay(deployed: Any, client: SyncPrefectClient) -> None:
    first = deployed()
    assert set(first) >= {"score-shards/main", "score-shards/gpu", "score-shards/nightly", "score-shard-group/gpu"}
    assert all("vlfilter" in one.tags and one.description for one in first.values())
    schedules = {name: schedule for name, one in first.items() for schedule in one.schedules}
    assert set(schedules) >= {"score-shards/nightly", "poll-batches/main"}
    assert not any(schedule.active for schedule in schedules.values())

    nightly = first["score-shards/nightly"]
    client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=True)
    nightly.schedules[0].active = True
    assert _content(deployed()) == _content(first)
    client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)


def _content(deployments: dict[str, Any]) -> dict[str, Any]:
    """Without the times of writing; schedules and their ids included."""
    times = {"updated", "last_polled", "status", "version_id", "version_info", "created_by", "updated_by"}
    return {
        name: one.model_dump(mode="json", exclude={*times, "schedules"})
        | {"schedules": [schedule.model_dump(mode="json", exclude={"updated"}) for schedule in one.schedules]}
        for name, one in deployments.items()
    }
