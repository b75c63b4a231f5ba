"""Bring a server to the state that this folder and prefect.yaml describe: `python -m deployments.apply`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

POOLS = {"default": "process", "gpu": "process"}  # name → worker type
ROOT = Path(__file__).parent.parent


def make_pools() -> list[str]:
    """Create the work pools that are missing; those that exist stay as they are. Returns the new ones' names."""
    made = []
    with get_client(sync_client=True) as client:
        for name, kind in POOLS.items():
            try:
                client.create_work_pool(WorkPoolCreate(name=name, type=kind))
            except ObjectAlreadyExists:
                continue
            made.append(name)
    return made


def main() -> None:
    for name in make_pools():
        print(f"work pool {name} created")  # noqa: T201
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    sys.exit(subprocess.run(command, cwd=ROOT).returncode)  # noqa: S603 - our own command


if __name__ == "__main__":
    main()
