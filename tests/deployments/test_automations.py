"""What the server does by itself, on a whole server (the one that tests share runs no automations), in short times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments import automations
from deployments.automations import apply_automations
from tasks.judge import paid_judge
from tests import helpers
from tests.llm.vendor import VendorServer
from tests.operations import Operator
from tests.recovery.services import PrefectServer
from vlfilter.llm.client import BudgetExceededError, JudgeSettings
from vlfilter.llm.types import Request

pytestmark = [pytest.mark.operations, pytest.mark.timeout(600)]

STRANGE = "somebody-elses"


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    from tests.prefect_server import migrated_database

    folder = tmp_path_factory.mktemp("automations")
    database = folder / "prefect.db"
    database.write_bytes(migrated_database().read_bytes())
    with (
        PrefectServer(folder, f"sqlite+aiosqlite:///{database}") as server,
        temporary_settings({PREFECT_API_URL: server.url}),
        pytest.MonkeyPatch.context() as patch,
        get_client(sync_client=True) as client,
    ):
        patch.setattr(automations, "SILENCE", timedelta(seconds=10))
        patch.setattr(automations, "SETTLED", timedelta(seconds=10))
        patch.setattr(automations, "time_to_begin", lambda _: timedelta(seconds=10))
        list(apply_automations(client, "process", alerts=None))
        operator = Operator(server.url, folder)
        operator.deploy("score-shards", "main", "cpu", "flows.score_shards.score_shards")
        operator.deploy(STRANGE, "main", "cpu", "strange.flow")
        yield operator


def start(operator: Operator, *tags: str, flow_name: str = "score-shards") -> str:
    """A run of the deployment that no worker takes."""
    deployment = operator.ask("GET", f"/deployments/name/{flow_name}/main")["id"]
    body = {"tags": ["vlfilter", *tags], "state": {"type": "SCHEDULED"}}
    return str(operator.ask("POST", f"/deployments/{deployment}/create_flow_run", body)["id"])


def beat_once(operator: Operator, run: str, flow_name: str = "score-shards") -> None:
    """The run begins, sends one heartbeat as the engine does, and is not heard of again."""
    operator.set_state(run, type="PENDING")
    operator.set_state(run, type="RUNNING")
    related = [{"prefect.resource.id": f"prefect.flow.{uuid4()}", "prefect.resource.role": "flow"}]
    related[0]["prefect.resource.name"] = flow_name
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": related,
    }
    operator.ask("POST", "/events", [event])


def until(met: Callable[[], bool], what: str) -> None:
    """The server looks every few seconds, and a silence must be over first."""
    helpers.until(met, what, seconds=240)


def states(operator: Operator, run: str) -> list[str]:
    found: list[dict[str, Any]] = operator.ask("GET", f"/flow_run_states/?flow_run_id={run}")
    return [state["name"] for state in sorted(found, key=lambda state: str(state["timestamp"]))]


def test_a_silent_run_has_crashed_and_starts_again_a_few_times(operator: Operator) -> None:
    run = start(operator, "restart")
    for _ in range(automations.ATTEMPTS - 1):
        beat_once(operator, run)
        until(lambda: operator.read(run)["state_name"] == "AwaitingRetry", "scheduled again")
        assert states(operator, run)[-2:] == ["Crashed", "AwaitingRetry"]
    beat_once(operator, run)
    until(lambda: operator.read(run)["state_type"] == "CRASHED", "crashed")
    other = start(operator, "restart")  # by the time that this one is scheduled again, the first would have been too
    beat_once(operator, other)
    until(lambda: operator.read(other)["state_name"] == "AwaitingRetry", "scheduled again")
    assert operator.read(run)["state_type"] == "CRASHED"
    assert operator.read(run)["run_count"] == automations.ATTEMPTS


def test_runs_that_others_start_again_or_own_are_left_alone(operator: Operator) -> None:
    part, strange = start(operator), start(operator, "restart", flow_name=STRANGE)
    beat_once(operator, part)
    beat_once(operator, strange, STRANGE)
    until(lambda: operator.read(part)["state_type"] == "CRASHED", "crashed")
    witness = start(operator, "restart")
    beat_once(operator, witness)
    until(lambda: operator.read(witness)["state_name"] == "AwaitingRetry", "scheduled again")
    assert operator.read(part)["state_type"] == "CRASHED"
    assert operator.read(strange)["state_type"] == "RUNNING"


def test_a_run_whose_first_heartbeat_was_lost_is_noticed_too(operator: Operator) -> None:
    run = start(operator)
    operator.set_state(run, type="PENDING")
    operator.set_state(run, type="RUNNING")
    until(lambda: operator.read(run)["state_type"] == "CRASHED", "crashed")
    assert operator.read(run)["state"]["message"].startswith("No heartbeat for ")


def test_a_run_that_a_worker_took_and_never_began_has_crashed(operator: Operator) -> None:
    run, waiting = start(operator), start(operator)
    operator.set_state(run, type="PENDING")
    operator.set_state(run, type="PENDING", name="Submitting")
    until(lambda: operator.read(run)["state_type"] == "CRASHED", "crashed")
    assert operator.read(run)["state"]["message"].startswith("Not begun after ")
    assert operator.read(waiting)["state_type"] == "SCHEDULED"  # no worker has taken it; that is reported as late


def test_a_used_up_budget_pauses_the_deployment(operator: Operator, vendor: VendorServer, tmp_path: Path) -> None:
    settings = JudgeSettings("openai:gpt-4o", base_url=vendor.openai_url, cache=str(tmp_path), max_usd=1e-9)

    @flow(name="inner")
    def inner() -> None:
        with paid_judge(settings) as judge:
            judge.ask_all([Request("how good is this?")])

    @flow(name="score-shards")
    def outer() -> None:
        inner()

    with get_client(sync_client=True) as client:
        with pytest.raises(BudgetExceededError):
            run_flow(outer, flow_run=client.read_flow_run(UUID(start(operator))))
        name = "score-shards/main"
        until(lambda: bool(client.read_deployment_by_name(name).paused), "paused")
    assert vendor.questions() == []
