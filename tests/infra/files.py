"""The files of infra/, read as the tools read them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
INFRA = ROOT / "infra"
KUBERNETES = INFRA / "kubernetes"
STACKS = [("compose.yaml",), ("vllm/compose.yaml",), ("compose.yaml", "vllm/compose.yaml")]
# What a stack must be told; every value is one that no file may hold.
SECRETS = {
    name: f"planted-{name.lower()}"
    for name in ("PREFECT_AUTH", "POSTGRES_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY", "VLLM_API_KEY")
}


def tool(name: str) -> str:
    """The path of a linter that the dev extra installs beside Python, as far as there is one for this machine."""
    here = Path(sys.executable).parent / name
    if here.exists():
        return str(here)
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} has no wheel for this machine")
    return found


def compose(*arguments: str, files: tuple[str, ...], **environment: str) -> subprocess.CompletedProcess[str]:
    """`docker compose` with nothing in its environment but what is given: no daemon is asked."""
    named = [part for file in files for part in ("--file", str(INFRA / file))]
    command = [tool("docker-compose"), *named, "--profile", "*", *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@cache
def services(*files: str) -> dict[str, dict[str, Any]]:
    """All services of a stack as compose resolves them."""
    done = compose("config", "--format", "json", files=files, MODEL="/models/some", **SECRETS)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


def service_names(*files: str) -> list[str]:
    """The services of a stack by name, without asking a tool."""
    return sorted(name for file in files for name in yaml.safe_load((INFRA / file).read_text())["services"])


def manifests() -> Iterator[dict[str, Any]]:
    """Every Kubernetes object that is not a chart's values."""
    for path in sorted(KUBERNETES.glob("*.yaml")):
        if path.name.endswith("-values.yaml"):
            continue
        for document in yaml.safe_load_all(path.read_text()):
            yield from document["items"] if document["kind"] == "List" else [document]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, pod's specification) of every workload."""
    for one in manifests():
        if "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]
