"""Bring a server to the state that this folder and prefect.yaml describe: `python -m deployments.apply`.

May be run again at any time: what is right stays as it is, what differs is changed in its place. `VLFILTER_POOL_TYPE`
(process, docker or kubernetes) says how the workers of the pools run things.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import get_current_settings

from deployments.automations import apply_automations
from deployments.blocks import ALERTS, KEYS, alerts, apply_variables, container_environment, secrets
from deployments.limits import apply_limits
from deployments.pools import apply_pools
from deployments.schedules import ROOT, flow_name, with_schedules_as_they_are
from vlfilter.errors import VlfilterError


def apply(client: SyncPrefectClient, kind: str = "process") -> Iterator[str]:
    """All but the deployments; tells what changed, nothing where all is right."""
    if kind == "process":
        yield from apply_pools(client, kind, {})
    else:
        yield from apply_variables(client)
        yield from apply_pools(client, kind, container_environment(client))
    yield from apply_limits(client)
    yield from apply_automations(client, kind, alerts(client))


def deploy(client: SyncPrefectClient) -> list[str]:
    """The deployments of prefect.yaml, by Prefect's own command; their names.

    Raises `VlfilterError` with what the command said, where it fails.
    """
    described = with_schedules_as_they_are(client)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prefect.yaml"
        path.write_text(yaml.safe_dump(described, sort_keys=False))
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(path)]
        environment = {**os.environ, **get_current_settings().to_environment_variables(exclude_unset=True)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)  # noqa: S603 - our own
    if done.returncode:
        raise VlfilterError(f"prefect deploy failed:\n{done.stdout}{done.stderr}")
    return [f"{flow_name(one['entrypoint'])}/{one['name']}" for one in described["deployments"]]


def wanting(client: SyncPrefectClient) -> Iterator[str]:
    """What only people can make, because it is secret or theirs."""
    there = secrets(client)
    for name in KEYS:
        if name not in there:
            yield f"no Secret block {name}: a judge needs the key from the worker's environment, or this block"
    if alerts(client) is None:
        yield f"no notification block {ALERTS}: late runs and used-up budgets show in the UI's event feed only"


def main() -> None:
    try:
        with get_client(sync_client=True) as client:
            for line in apply(client, os.environ.get("VLFILTER_POOL_TYPE", "process")):
                print(line)  # noqa: T201
            print("deployments:", *deploy(client), sep="\n  ")  # noqa: T201
            for line in wanting(client):
                print(line)  # noqa: T201
    except VlfilterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
