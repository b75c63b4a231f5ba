"""What the server does by itself about dead runs, late runs and empty purses.

Open-source Prefect notices no run that died with its machine: its last state stays "Running" or "Pending" for good. The
first two automations end such runs, the third starts again what is worth it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState, DoNothing, PauseDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

import flows
from tasks.judge import OVER_BUDGET
from tasks.silence import time_to_begin

SILENCE = timedelta(seconds=90)  # three heartbeats (deployments/templates.py)
ATTEMPTS = 3  # of a run in all; a crash before the first one is for people: the pool or the image is wrong
LATE = timedelta(minutes=5)
SETTLED = timedelta(seconds=15)  # after a crash: the worker that notices it still has a word to say
RESTART = "restart"  # the tag of deployments whose crashed runs start again by themselves
RUN = {"prefect.resource.id": "prefect.flow-run.*"}


def automations(kind: str, alerts: str | None) -> list[AutomationCore]:
    """For pools of the type `kind`. `alerts` is the id of a notification block; without one, what is reported is an
    event in the UI's feed."""
    begin = time_to_begin(kind)
    ours = [{"prefect.resource.role": "flow", "prefect.resource.name": flow_names()}]
    return [
        AutomationCore(
            name="vlfilter: silent runs have crashed",
            description=f"A run that sent no heartbeat for {SILENCE.seconds} s died with its process or machine.",
            trigger=_absence(
                # Running too: the first heartbeat may be lost with a server that is killed just then.
                after={"prefect.flow-run.heartbeat", "prefect.flow-run.Running"},
                within=SILENCE,
                match=RUN,
                # By flow: runs inside a run have no deployment, and others' runs may beat more slowly.
                related=ours,
            ),
            actions=[_set_state(StateType.CRASHED, None, f"No heartbeat for {SILENCE.seconds} s.")],
        ),
        AutomationCore(
            name="vlfilter: runs that do not begin have crashed",
            description=f"A worker took it {begin.seconds // 60} minutes ago, and died before the run began.",
            trigger=_absence(
                after={f"prefect.flow-run.{name}" for name in ("Pending", "Submitting", "InfrastructurePending")},
                within=begin,
                match=RUN,
                related=ours,
            ),
            actions=[_set_state(StateType.CRASHED, None, f"Not begun after {begin.seconds // 60} minutes.")],
        ),
        AutomationCore(
            name="vlfilter: crashed runs start again",
            description=f"Of deployments tagged `{RESTART}`, {ATTEMPTS} times in all; what is done is not done again.",
            trigger=_absence(
                after={"prefect.flow-run.Crashed"},
                within=SETTLED,
                match=RUN | {"prefect.run-count": [str(n) for n in range(1, ATTEMPTS)]},
                related=[
                    {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{RESTART}"},
                    {"prefect.resource.role": "deployment"},  # runs inside a run cannot start by themselves
                ],
            ),
            actions=[_set_state(StateType.SCHEDULED, "AwaitingRetry", "Again after a crash.")],
        ),
        AutomationCore(
            name="vlfilter: late runs are reported",
            description=f"{LATE.seconds // 60} minutes late: is a worker polling the pool?",
            trigger=_absence(
                after={"prefect.flow-run.Late"},
                within=LATE,
                match=RUN,
                related=[{"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.vlfilter"}],
            ),
            actions=_report(
                alerts, "vlfilter: a run is late", "{{ flow_run.name }} waits for a worker: {{ flow_run|ui_url }}"
            ),
        ),
        AutomationCore(
            name="vlfilter: over budget pauses the schedule",
            description="A run used up its max_usd: its deployment starts nothing by itself until somebody resumes it.",
            trigger=EventTrigger(expect={OVER_BUDGET}, posture=Posture.Reactive, threshold=1),
            actions=[
                PauseDeployment(source="inferred", deployment_id=None),
                *_report(alerts, "vlfilter: a budget is used up", "{{ event.payload.message }} {{ flow_run|ui_url }}"),
            ],
        ),
    ]


def apply_automations(client: SyncPrefectClient, kind: str, alerts: str | None) -> Iterator[str]:
    """Make or update the automations; tells what changed. Whether one is switched on stays as it is."""
    for wanted in automations(kind, alerts):
        found = client.read_automations_by_name(wanted.name)
        if not found:
            client.create_automation(wanted)
            yield f"automation {wanted.name!r}: created"
        elif _content(found[0]) != _content(wanted):
            changed = wanted.model_copy(update={"enabled": found[0].enabled})
            client.update_automation(found[0].id, changed)
            yield f"automation {wanted.name!r}: updated"


def flow_names() -> list[str]:
    """The names of all flows in the package `flows`."""
    modules = [importlib.import_module(f"flows.{module.name}") for module in pkgutil.iter_modules(flows.__path__)]
    return sorted({value.name for module in modules for value in vars(module).values() if isinstance(value, Flow)})


def _absence(after: set[str], within: timedelta, match: dict[str, Any], related: list[dict[str, Any]]) -> EventTrigger:
    """Fires for a run of which nothing is heard for `within` after one of these events."""
    return EventTrigger(
        after=after,
        expect={"prefect.flow-run.*"},
        match=ResourceSpecification(match),
        match_related=[ResourceSpecification(one) for one in related],
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )


def _set_state(state: StateType, name: str | None, message: str) -> ChangeFlowRunState:
    return ChangeFlowRunState(state=state, name=name, message=message, force=False)


def _report(alerts: str | None, subject: str, body: str) -> list[ActionTypes]:
    """The fired automation is an event of its own; a block sends it where people see it."""
    if alerts is None:
        return [DoNothing()]
    return [SendNotification(block_document_id=UUID(alerts), subject=subject, body=body)]


def _content(automation: AutomationCore) -> dict[str, Any]:
    return automation.model_dump(mode="json", include={"description", "trigger", "actions"})
