"""Runs that say they are alive and of which nothing is heard: their process or machine is gone.

The server's automations end such runs within minutes (deployments/automations.py). But the server keeps events in
memory until they are dealt with: if it is killed just then, it forgets a death that it had noticed, or the heartbeat
by which it would have. So whoever depends on a run asks again, later.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType

HEARTBEATS = timedelta(minutes=7)  # two at Prefect's own pace of three minutes, and then some
CLOCKS = timedelta(days=1)  # a run's clock may be ahead
LIVING = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)  # other runs wait for a worker or for people


def time_to_begin(pool_type: str | None) -> timedelta:
    """The most from a worker's taking a run to its first line of code. For a container a machine may have to be found,
    and an image fetched."""
    return timedelta(minutes=3) if pool_type == "process" else timedelta(minutes=30)


def silent(client: SyncPrefectClient, runs: Sequence[FlowRun]) -> list[FlowRun]:
    """Those of `runs` that took up their state long ago and sent no heartbeat since; one question for all."""
    now = _server_time(client)
    pools = {pool.name: pool.type for pool in client.read_work_pools()}
    overdue = []
    for run in runs:
        if run.state and run.state.type in LIVING:
            begins = run.state.type == StateType.PENDING
            patience = time_to_begin(pools.get(run.work_pool_name or "")) if begins else HEARTBEATS
            if run.state.timestamp < now - patience:
                overdue.append(run)
    heard = _heard(client, overdue, now) if overdue else set()
    return [run for run in overdue if _resource(run) not in heard]


def _server_time(client: SyncPrefectClient) -> datetime:
    """By which states are dated; this machine's own clock may have jumped."""
    answer = client.request("GET", "/admin/version")
    answer.raise_for_status()
    return parsedate_to_datetime(answer.headers["date"])


def _heard(client: SyncPrefectClient, runs: Sequence[FlowRun], now: datetime) -> set[str]:
    """Those that sent a heartbeat lately, as resources."""
    lately = {"since": (now - HEARTBEATS).isoformat(), "until": (now + CLOCKS).isoformat()}
    beats = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "occurred": lately}
    body = {"filter": {**beats, "resource": {"id": [_resource(run) for run in runs]}}}
    path: Any = "/events/count-by/{countable}"
    found = client.request("POST", path, path_params={"countable": "resource"}, json=body)
    found.raise_for_status()
    return {one["value"] for one in found.json()}


def _resource(run: FlowRun) -> str:
    return f"prefect.flow-run.{run.id}"
