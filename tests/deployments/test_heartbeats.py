"""Whatever starts a run, it beats often enough for the automation that ends silent ones."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments import automations, templates
from vlfilter.cli import prefect

ROOT = Path(__file__).parent.parent.parent
NAME = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"


def described(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


BEATS = {
    "a worker's run": lambda: templates.ENVIRONMENT[NAME],
    "the command line": lambda: prefect.DEFAULTS[NAME],
    "this folder": lambda: tomllib.loads((ROOT / "prefect.toml").read_text())["flows"]["heartbeat_frequency"],
    "Kubernetes": lambda: described("infra/kubernetes/worker.yaml")["items"][0]["data"][NAME],
    "compose": lambda: described("infra/compose.yaml")["x-client"][NAME],
}


@pytest.mark.parametrize("where", BEATS)
def test_one_lost_beat_is_no_silence(where: str) -> None:
    assert timedelta(seconds=2 * int(BEATS[where]())) < automations.SILENCE
