"""prefect.yaml as it is deployed: schedules that people switched on or off in the UI stay so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound
from prefect.utilities.importtools import import_object

ROOT = Path(__file__).parent.parent


def with_schedules_as_they_are(client: SyncPrefectClient) -> dict[str, Any]:
    """What prefect.yaml says, but with every schedule that the server has as active as it is there."""
    described: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    for deployment in described["deployments"]:
        if not deployment.get("schedules"):
            continue
        name = f"{flow_name(deployment['entrypoint'])}/{deployment['name']}"
        try:
            found = client.read_deployment_by_name(name)
        except ObjectNotFound:
            continue
        active = {schedule.slug: schedule.active for schedule in found.schedules}
        deployment["schedules"] = [one | {"active": active.get(one["slug"], False)} for one in deployment["schedules"]]
    return described


def flow_name(entrypoint: str) -> str:
    return str(import_object(entrypoint).name)
