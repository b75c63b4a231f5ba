"""A real server, the deployment of prefect.yaml, a real process worker: run it, see a shard fail, retry it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers import make_shards, make_tar, pairs
from tests.toy import NAME

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def python(prefect_api: str, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Runs `python -m …` against the session's server, with the checkout importable for the worker's processes."""
    environment = {
        **os.environ,
        "PREFECT_API_URL": prefect_api,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PYTHONPATH": str(ROOT),
        "TOY_LOG": str(tmp_path / "toy.log"),
    }

    def run(*arguments: str) -> None:
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def test_retry_in_the_ui_runs_only_the_failed_shard(python, prefect_api: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    api = httpx.Client(base_url=prefect_api, timeout=30)

    def read(run: str) -> dict[str, Any]:
        return api.get(f"/flow_runs/{run}").raise_for_status().json()

    def scored() -> int:
        lines = (tmp_path / "toy.log").read_text().splitlines()
        return sum(json.loads(line)["scored"] for line in lines if line != "load")

    make_shards(tmp_path / "data", 4, 5)
    (tmp_path / "data" / "00002.tar").write_bytes(b"not a tar" * 200)
    (tmp_path / "toy.txt").write_text("1.0")
    python("deployments.apply")

    deployment = api.get("/deployments/name/score-shards/main").raise_for_status().json()
    params = {"shards": str(tmp_path / "data"), "output": str(tmp_path / "out"), "scorer": [NAME]}
    params |= {"model": {NAME: str(tmp_path / "toy.txt")}}
    created = api.post(
        f"/deployments/{deployment['id']}/create_flow_run",
        json={"parameters": {"params": params}, "state": {"type": "SCHEDULED"}},
    )
    run = created.raise_for_status().json()["id"]
    python("prefect", "worker", "start", "--pool", "cpu", "--type", "process", "--run-once")
    first = read(run)
    assert first["state_type"] == "FAILED"
    assert first["state"]["message"] == "1 of 4 shards have no score table: 00002"
    assert scored() == 15

    # What the button does: the same run is scheduled again.
    make_tar(tmp_path / "data" / "00002.tar", pairs(5, 10))
    state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
    api.post(f"/flow_runs/{run}/set_state", json={"state": state, "force": True}).raise_for_status()
    python("prefect", "worker", "start", "--pool", "cpu", "--type", "process", "--run-once")
    second = read(run)
    assert second["state_type"] == "COMPLETED", second["state"]
    assert second["run_count"] == 2
    assert second["name"].startswith(f"score {NAME} · ")
    assert scored() == 20
