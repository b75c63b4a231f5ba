"""infra/ through the tools that know the formats; none of them needs a daemon, a cluster or a network."""

from __future__ import annotations

import subprocess

import kubernetes_validate
import pytest

from tests.infra.files import INFRA, ROOT, SECRETS, STACKS, compose, manifests, tool


def test_the_container_file() -> None:
    done = subprocess.run([tool("hadolint"), INFRA / "Containerfile"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_yaml() -> None:
    command = [tool("yamllint"), "--strict", "--config-file", "infra/yamllint.yaml", "infra"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("files", STACKS, ids="+".join)
def test_a_stack(files: tuple[str, ...]) -> None:
    done = compose("config", "--quiet", files=files, MODEL="/models/some", **SECRETS)
    assert done.returncode == 0, done.stderr
    assert "variable is not set" not in done.stderr


@pytest.mark.parametrize("missing", SECRETS)
def test_a_stack_does_not_start_without_a_secret(missing: str) -> None:
    given = {name: value for name, value in SECRETS.items() if name != missing}
    done = compose("config", "--quiet", files=STACKS[-1], MODEL="/models/some", **given)
    assert done.returncode != 0
    assert f"required variable {missing} is missing a value" in done.stderr


def test_kubernetes_objects() -> None:
    found = list(manifests())
    for one in found:
        kubernetes_validate.validate(one, "1.34", strict=True)
    assert {"Deployment", "Job", "NetworkPolicy"} <= {one["kind"] for one in found}


def test_what_is_no_kubernetes_object_is_refused() -> None:
    wrong = next(one for one in manifests() if one["kind"] == "Deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["imgae"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.34", strict=True)
