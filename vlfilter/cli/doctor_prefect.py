"""`vlfilter doctor`: the Prefect server, its pools and what has got stuck there. Without a server, one line."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from packaging.version import Version
from prefect import __version__ as client_version
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import Worker, WorkerStatus, WorkPool
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings

from vlfilter.cli.doctor_slots import check_runs, check_slots
from vlfilter.cli.prefect import check_server
from vlfilter.doctor.check import Check
from vlfilter.doctor.secrets import without_user
from vlfilter.errors import VlfilterError

DEPLOY = "make deploy"
SILENT_RUNS = "vlfilter: silent runs have crashed"  # the automation of deployments/automations.py


def check_prefect() -> Iterator[Check]:
    """Raises `VlfilterError` for a server that does not answer or lets nobody in."""
    url = get_current_settings().api.url
    if not url:
        text = "no server is configured: a run starts one of its own; PREFECT_API_URL names one that stays"
        yield Check("prefect", "note", text)
        return
    check_server()
    with get_client(sync_client=True) as client:
        yield judge_version(_server_version(client), client_version, without_user(str(url)))
        yield from judge_settings(client.request("GET", "/admin/settings").json())
        yield _check_deployments(client)
        yield from check_pools(client)
        yield _check_automation(client)
        yield check_runs(client)
        yield from check_slots(client)


def secret_blocks() -> Collection[str]:
    """The names of the Secret blocks on the server; none where there is no server, or none that answers, which
    `check_prefect` has told."""
    if not get_current_settings().api.url:
        return ()
    try:
        check_server()
        with get_client(sync_client=True) as client:
            blocks = client.read_block_documents_by_type("secret", limit=200, include_secrets=False)
    except (VlfilterError, PrefectHTTPStatusError):
        return ()
    return {block.name for block in blocks if block.name}


def _server_version(client: SyncPrefectClient) -> str:
    try:
        return client.api_version()
    except PrefectHTTPStatusError as error:
        if error.response.status_code in (401, 403):
            raise VlfilterError("the Prefect server lets nobody in without PREFECT_API_AUTH_STRING.") from None
        raise


def judge_version(server: str, client: str, url: str) -> Check:
    """A server must have the client's major version; an older one may lack what the client asks for."""
    text = f"{url} answers, version {server}; here {client}"
    theirs, ours = Version(server), Version(client)
    if theirs.major != ours.major:
        return Check("prefect", "fail", text, f"install prefect {ours.major} on the server, or {server} here")
    if theirs < ours:
        return Check("prefect", "warn", text, f"install prefect {client} on the server first, then on the workers")
    return Check("prefect", "ok", text)


def judge_settings(settings: Mapping[str, Any]) -> Iterator[Check]:
    """What a server under a fan-out needs to be told (prefect.toml, infra/compose.yaml)."""
    server = settings["server"]
    if server["services"]["task_run_recorder"]["batch_size"] <= 1:
        yield Check(
            "prefect",
            "warn",
            "the server writes task runs one by one and loses some under a fan-out",
            "start it where prefect.toml lies, or with PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE=200",
        )
    if server["concurrency"]["lease_storage"].endswith(".memory"):
        yield Check(
            "prefect",
            "note",
            "the server forgets who holds a slot when it restarts "
            "(PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem keeps it)",
        )


def _check_deployments(client: SyncPrefectClient) -> Check:
    asked = {"deployments": {"tags": {"all_": ["vlfilter"]}}}
    count = client.request("POST", "/deployments/count", json=asked).json()
    if not count:
        return Check("deployments", "warn", "there are none: nothing can be started from the UI", DEPLOY)
    return Check("deployments", "ok", f"{count} are there")


def check_pools(client: SyncPrefectClient) -> Iterator[Check]:
    """One line a work pool: who polls it, and what waits in it."""
    pools = sorted(client.read_work_pools(limit=200), key=lambda pool: pool.name)
    if not pools:
        yield Check("work pools", "warn", "there are none", DEPLOY)
    for pool in pools:
        late = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Late"])))
        here = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool.name]))
        waiting = client.count_flow_runs(flow_run_filter=late, work_pool_filter=here)
        workers = client.read_workers_for_work_pool(pool.name, limit=200)
        yield judge_pool(pool, workers, waiting, datetime.now(UTC))


def judge_pool(pool: WorkPool, workers: Collection[Worker], late: int, now: datetime) -> Check:
    """Runs that are late while nobody polls, or while the pool is paused, wait for a person: that is a failure."""
    online = [worker for worker in workers if worker.status == WorkerStatus.ONLINE]
    waiting = f", {late} runs are late" if late else ""
    name = f"{pool.name} ({pool.type})"
    if pool.is_paused:
        advice = f"prefect work-pool resume {pool.name}"
        return Check("work pools", "fail" if late else "warn", f"{name} is paused{waiting}", advice)
    if not online and not pool.is_push_pool and not pool.is_managed_pool:
        seen = max((beat for worker in workers if (beat := worker.last_heartbeat_time)), default=None)
        last = f", the last one {_ago(now - seen)} ago" if seen else ""
        advice = f"prefect worker start --pool {pool.name} on a machine of it"
        return Check("work pools", "fail" if late else "warn", f"no worker polls {name}{last}{waiting}", advice)
    if late:
        advice = "start more workers, or raise their --limit and the pool's concurrency limit"
        return Check("work pools", "warn", f"{name}: {len(online)} workers{waiting}", advice)
    return Check("work pools", "ok", f"{name}: {len(online)} workers poll it")


def _check_automation(client: SyncPrefectClient) -> Check:
    """Without it a run whose machine is gone stays Running for good."""
    found = client.read_automations_by_name(SILENT_RUNS)
    if not found:
        return Check("automations", "warn", "runs whose process died stay Running: nothing marks them crashed", DEPLOY)
    if not found[0].enabled:
        return Check("automations", "warn", f"{SILENT_RUNS!r} is switched off", "switch it on in the UI")
    return Check("automations", "ok", "silent runs are marked crashed")


def _ago(duration: Any) -> str:
    minutes = int(duration.total_seconds() // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
