"""What an operator does, for tests: deployments made, workers started, runs started, watched and retried by the API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
Run = dict[str, Any]


@dataclass
class Operator:
    """At the API of a server; `folder` is where workers run and leave their logs."""

    url: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer as JSON; waits for a server that is just starting again."""
        for left in range(120, -1, -1):
            try:
                answer = httpx.request(method, self.url + path, json=body, timeout=30)
                if answer.status_code < 500 or not left:
                    break
            except httpx.TransportError:
                if not left:
                    raise
            time.sleep(0.5)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deploy(self, flow: str, name: str, pool: str, entrypoint: str) -> None:
        """A deployment of an installed flow; the pool too, where it is missing."""
        if httpx.get(f"{self.url}/work_pools/{pool}").status_code == 404:
            self.ask("POST", "/work_pools/", {"name": pool, "type": "process"})
        made = self.ask("POST", "/flows/", {"name": flow})
        body = {"flow_id": made["id"], "name": name, "work_pool_name": pool, "entrypoint": entrypoint, "pull_steps": []}
        self.ask("POST", "/deployments/", body)

    def start(self, deployment: str, parameters: dict[str, Any]) -> str:
        """Its id."""
        found = self.ask("GET", f"/deployments/name/{deployment}")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        run: str = self.ask("POST", f"/deployments/{found['id']}/create_flow_run", body)["id"]
        return run

    def read(self, run: str) -> Run:
        found: Run = self.ask("GET", f"/flow_runs/{run}")
        return found

    def runs(self, flow: str) -> list[Run]:
        """Oldest first."""
        body = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_ASC"}
        found: list[Run] = self.ask("POST", "/flow_runs/filter", body)
        return sorted(found, key=lambda run: str(run["created"]))

    def set_state(self, run: str, **state: str) -> None:
        self.ask("POST", f"/flow_runs/{run}/set_state", {"state": state, "force": True})

    def retry(self, run: str) -> None:
        """What the button in the UI does."""
        self.set_state(run, type="SCHEDULED", name="AwaitingRetry", message="Retry from the UI")

    def wait(self, run: str, *types: str, seconds: float = 120) -> Run:
        """Until the run is in a state of one of these types, any final one by default."""
        deadline = time.monotonic() + seconds
        while (now := self.read(run))["state_type"] not in (types or FINAL):
            assert time.monotonic() < deadline, f"{now['name']} is still {now['state']}"
            time.sleep(0.3)
        return now

    def worker(self, pool: str, **environment: str) -> Program:
        """A process worker that runs one flow at a time, as there is one a GPU."""
        command = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--limit", "1"]
        own = {"PREFECT_API_URL": self.url, "PREFECT_WORKER_QUERY_SECONDS": "1", "PYTHONPATH": str(ROOT)}
        return Program([sys.executable, *command], self.folder, {**self.environment, **own, **environment})


class Program:
    """A process in a session of its own; `with` ends it and all that it started."""

    def __init__(self, command: list[str], folder: Path, environment: Mapping[str, str], cwd: Path | None = None):
        self.log = folder / "programs.log"
        everything = {**os.environ, **environment}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=everything, cwd=cwd or folder, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """SIGKILL for the process and all its descendants, as a machine that goes dark."""
        kill(*descendants(self.process.pid))
        self.process.wait()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def kill(*pids: int) -> None:
    """SIGKILL for those that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """The process itself, then its children and theirs."""
    found, waiting = [], [pid]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting.extend(map(int, children.read_text().split()))
            except (OSError, ValueError):
                continue
    return found
