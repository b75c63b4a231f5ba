"""The container file against the repository: what it copies is there, and nothing else reaches the builder."""

from __future__ import annotations

import fnmatch
import re
import tomllib

import pytest
import yaml

from deployments import templates
from tests.infra.files import INFRA, ROOT

LINES = (INFRA / "Containerfile").read_text().replace("\\\n", " ").splitlines()
STAGES = {line.split()[3]: line.split()[1] for line in LINES if line.startswith("FROM")}


def stage(name: str) -> list[str]:
    """The instructions of a stage and of those that it starts from, in order."""
    start = next(i for i, line in enumerate(LINES) if line.startswith("FROM") and line.endswith(f" AS {name}"))
    own = []
    for line in LINES[start + 1 :]:
        if line.startswith("FROM"):
            break
        own.append(line)
    return (stage(STAGES[name]) if STAGES[name] in STAGES else []) + own


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_target_ends_as_a_user_with_a_number(target: str) -> None:
    users = [line.split()[1] for line in stage(target) if line.startswith("USER")]
    assert users[-1] == f"{templates.UID}:{templates.UID}"
    assert [line for line in stage(target) if line.startswith("ENTRYPOINT")] == ['ENTRYPOINT ["tini", "--"]']


@pytest.mark.parametrize("target", ["build-cpu", "build-gpu"])
def test_versions_are_those_that_were_tried_together(target: str) -> None:
    installs = [line for line in stage(target) if "uv pip install" in line]
    assert len(installs) == 2
    assert "--constraint constraints.txt --requirements pyproject.toml" in installs[0]
    assert "--no-deps ." in installs[1]


def test_all_that_a_library_writes_goes_where_it_may() -> None:
    text = "\n".join(stage("cpu"))
    for name in ("HOME", "HF_HOME", "VLFILTER_CACHE", "PREFECT_HOME", "PREFECT_SERVER_UI_STATIC_DIRECTORY"):
        place = re.search(rf"\s{name}=(\S+)", text)
        assert place, name
        assert place[1].startswith(("/tmp", "/models")), name
    assert f" {templates.MODELS} /state" in text


def test_the_builder_gets_what_the_package_is_made_of_and_no_more() -> None:
    rules = [
        line for line in (INFRA / "Containerfile.dockerignore").read_text().splitlines() if line[:1] not in ("", "#")
    ]
    assert rules[0] == "*"
    given = {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in given)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    needed = packages | {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    copied = {
        name
        for line in LINES
        if line.startswith("COPY") and "--from" not in line
        for name in line.split()[1:-1]
        if name != "."
    }
    assert given == needed | copied
    assert not any(fnmatch.fnmatch(".env", rule[1:]) for rule in rules if rule.startswith("!"))


def test_prefect_yaml_finds_its_flows_in_the_image() -> None:
    entrypoints = [one["entrypoint"] for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]]
    assert entrypoints
    assert all(entrypoint.startswith("flows.") for entrypoint in entrypoints)
