"""Flow runs of a deployment as the children of one run: handed out a few at a time, watched by one question for all.

A child whose run crashes is handed out again a bounded number of times; so is one that has died without a word. A
parent that is run again finds the children that are still alive by their tag and waits for them too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import httpx
from prefect import get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.states import Crashed

from tasks.silence import silent
from vlfilter.data.shards import Shard
from vlfilter.errors import VlfilterError
from vlfilter.scoring.params import Dispatch

T = TypeVar("T")
LIVE = [state.value for state in StateType if state.value not in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")]
POLL_FIRST, POLL_MOST = 1.0, 20.0  # seconds between two questions: more while nothing changes
LISTEN = 60.0  # seconds between two questions whether the children are alive
PATIENCE = 1800.0  # seconds that the server may be away before the parent gives up


@dataclass
class Child:
    """A group for a flow run. `name` is unique among the children; `state` is the name that Prefect shows."""

    name: str
    parameters: dict[str, Any]
    shards: Sequence[Shard]
    attempt: int = 0
    run: UUID | None = None
    state: str = "waiting"
    message: str = ""


@dataclass
class Family:
    """All children of this run. `again` tells whether what has ended may be handed out again; `show` is called at
    every look, `ended` once a child."""

    settings: Dispatch
    again: Callable[[FlowRun], bool]
    show: Callable[[Sequence[Child]], None]
    ended: Callable[[Child], None]
    children: list[Child] = field(default_factory=list)

    def adopt(self, run: FlowRun, shards: Sequence[Shard]) -> None:
        """A child that an earlier try of this run has left alive."""
        self.children.append(Child(run.name, run.parameters, shards, attempt=1, run=run.id, state=_state_name(run)))

    def run(self) -> None:
        """Hand out what waits and return when all has ended.

        Ctrl-C cancels the children; a parent that is killed leaves them to its next try.
        """
        try:
            self._run()
        except KeyboardInterrupt:
            cancel_family(family_tag())
            raise

    def _run(self) -> None:
        waiting = [child for child in reversed(self.children) if child.run is None]
        live = {child.run: child for child in self.children if child.run is not None}
        pause, listened = POLL_FIRST, time.monotonic()
        while waiting or live:
            while waiting and len(live) < self.settings.in_flight:
                child = waiting.pop()
                run = self._start(child)
                live[run.id] = child
            self.show(self.children)
            time.sleep(pause)
            found = patiently(lambda: _read({"id": {"any_": list(live)}}))
            changed = False
            for gone in live.keys() - {run.id for run in found}:  # somebody has deleted it
                live.pop(gone).state = "Deleted"
            for run in found:
                child = live[run.id]
                changed |= child.state != _state_name(run)
                child.state, child.message = _state_name(run), (run.state.message if run.state else "") or ""
                if run.state is None or not run.state.is_final():
                    continue
                del live[run.id]
                if self.again(run) and child.attempt < self.settings.max_attempts:
                    get_run_logger().warning("%s: %s (%s); handed out again", child.name, child.state, child.message)
                    waiting.append(child)
                else:
                    self.ended(child)
            if time.monotonic() > listened + LISTEN:
                patiently(partial(_end_silent, found))  # seen to have ended at the next look
                listened = time.monotonic()
            pause = POLL_FIRST if changed else min(pause * 1.5, POLL_MOST)

    def _start(self, child: Child) -> FlowRun:
        child.attempt += 1
        child.state, child.message = "Scheduled", ""
        name = child.name if child.attempt == 1 else f"{child.name} (try {child.attempt})"
        parent = runtime.flow_run
        run: Any = patiently(
            lambda: run_deployment(
                self.settings.deployment,
                parameters=child.parameters,
                timeout=0,
                flow_run_name=name,
                tags=[family_tag()],
                # An answer that was lost on its way must not make a second run; a retried parent gives each a new one.
                idempotency_key=f"{parent.id}:{parent.run_count}:{child.name}:{child.attempt}",
            )
        )
        child.run = run.id
        started: FlowRun = run  # sync here; its type also tells of the async form
        return started


def server_configured() -> bool:
    return bool(get_current_settings().api.url)


def check_deployment(name: str) -> None:
    """Raises `VlfilterError` when the server does not know the deployment."""
    try:
        with get_client(sync_client=True) as client:
            client.read_deployment_by_name(name)
    except ObjectNotFound:
        raise VlfilterError(
            f"the server knows no deployment {name}: `make deploy` creates those of prefect.yaml."
        ) from None


def family_tag() -> str:
    return _tag(runtime.flow_run.root_flow_run_id or runtime.flow_run.id)


def live_children() -> list[FlowRun]:
    """The children of this run that have not ended."""
    live = {"tags": {"all_": [family_tag()]}, "state": {"type": {"any_": LIVE}}}
    return patiently(lambda: _read(live))


def cancel_children(flow: Any, flow_run: FlowRun, state: Any) -> None:  # noqa: ARG001 - Prefect names them
    """A hook for `on_cancellation`: the server would do it too, half a minute later."""
    cancel_family(_tag(flow_run.id))


def cancel_family(tag: str) -> None:
    """What has not begun is cancelled; what runs is asked to end."""
    pending, running = ["SCHEDULED", "PENDING", "PAUSED"], ["RUNNING"]
    with get_client(sync_client=True) as client:
        for types, state, force in ((pending, "CANCELLED", True), (running, "CANCELLING", False)):
            wanted = FlowRunFilter.model_validate({"tags": {"all_": [tag]}, "state": {"type": {"any_": types}}})
            body = {
                "flow_runs": wanted.model_dump(mode="json", exclude_unset=True),
                "state": {"type": state, "message": "the parent run was cancelled"},
                "force": force,
            }
            path: Any = "/flow_runs/bulk_set_state"  # its type lists paths, without this one
            while client.request("POST", path, json=body).json()["results"]:
                continue


def patiently(call: Callable[[], T]) -> T:
    """The answer of a server that may be restarting: the children go on without it, so the parent can wait."""
    deadline, pause = time.monotonic() + PATIENCE, 1.0
    while True:
        try:
            return call()
        except (httpx.TransportError, httpx.HTTPStatusError) as error:
            refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
            if refused or time.monotonic() > deadline:
                raise
            get_run_logger().warning("the Prefect server does not answer (%s); asking again", error or type(error))
            time.sleep(pause)
            pause = min(pause * 2, 15.0)


def _read(wanted: dict[str, Any]) -> list[FlowRun]:
    """One page holds all children that are out at a time."""
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted), limit=200)


def _end_silent(runs: Sequence[FlowRun]) -> None:
    with get_client(sync_client=True) as client:
        for run in silent(client, runs):
            # Not forced: a run that has ended meanwhile stays as it ended.
            client.set_flow_run_state(run.id, Crashed(message="nothing was heard of it any more"))


def _state_name(run: FlowRun) -> str:
    return run.state.name if run.state and run.state.name else "Scheduled"


def _tag(run: object) -> str:
    return f"part-of:{run}"
