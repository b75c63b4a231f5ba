"""Least privilege: not root, nothing writable that need not be, no capability, no secret in a file, no floating tag."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deployments import templates
from tests.infra.files import INFRA, KUBERNETES, ROOT, SECRETS, STACKS, pods, service_names, services
from vlfilter import __version__

STACK = STACKS[-1]
SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|AUTH|AUTH_STRING|CONNECTION_URL|CREDENTIALS)$", re.IGNORECASE)


def every_container() -> list[Any]:
    found = [(name, pod, container) for name, pod in pods() for container in pod["containers"]]
    for gpu in (False, True):
        template = templates.kubernetes(gpu, {})["job_configuration"]["job_manifest"]
        pod = template["spec"]["template"]["spec"]
        found += [(f"run-on-{'gpu' if gpu else 'cpu'}", pod, container) for container in pod["containers"]]
    return [pytest.param(pod, container, id=name) for name, pod, container in found]


@pytest.mark.parametrize("name", service_names(*STACK))
def test_a_service_has_no_privilege(name: str) -> None:
    service = services(*STACK)[name]
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    for wide in ("privileged", "cap_add", "pid", "ipc", "devices", "userns_mode", "uts"):
        assert wide not in service
    assert service.get("network_mode") in (None, "none")
    for volume in service.get("volumes", []):
        assert volume["type"] == "volume" or volume["read_only"], volume
        assert "docker.sock" not in volume["source"]


@pytest.mark.parametrize("name", service_names(*STACK))
def test_a_port_is_open_to_this_machine_only(name: str) -> None:
    service = services(*STACK)[name]
    assert [port["host_ip"] for port in service.get("ports", [])] == ["127.0.0.1"] * len(service.get("ports", []))


@pytest.mark.parametrize("name", service_names(*STACK))
def test_a_service_that_stays_says_when_it_is_well(name: str) -> None:
    service = services(*STACK)[name]
    assert ("healthcheck" in service) == (service["restart"] != "no")


def test_only_the_server_reaches_the_database() -> None:
    on = {name for name, one in services(*STACK).items() if "database" in (one.get("networks") or {})}
    assert on == {"database", "server"}
    assert yaml.safe_load((INFRA / "compose.yaml").read_text())["networks"]["database"] == {"internal": True}


def test_a_gpu_has_one_worker_that_runs_one_thing() -> None:
    workers = {name: one for name, one in services(*STACK).items() if name.startswith("worker-gpu")}
    devices = [w["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for w in workers.values()]
    assert sorted(devices) == [["0"], ["1"]]
    container_file = (INFRA / "Containerfile").read_text()
    assert '"--pool", "gpu", "--type", "process", "--limit", "1"' in container_file
    assert all(worker["image"].endswith("-gpu") for worker in workers.values())


@pytest.mark.parametrize(("pod", "container"), every_container())
def test_a_container_has_no_privilege(pod: dict[str, Any], container: dict[str, Any]) -> None:
    may = pod["securityContext"] | container["securityContext"]
    assert may["runAsNonRoot"] is True
    assert may["runAsUser"] == templates.UID
    assert may["readOnlyRootFilesystem"] is True
    assert may["allowPrivilegeEscalation"] is False
    assert may["capabilities"] == {"drop": ["ALL"]}
    assert may["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all("hostPath" not in volume for volume in pod["volumes"])


@pytest.mark.parametrize(("pod", "container"), every_container())
def test_a_container_has_bounds(pod: dict[str, Any], container: dict[str, Any]) -> None:
    resources = container["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]
    gpu = any(toleration.get("key") == "nvidia.com/gpu" for toleration in pod.get("tolerations", []))
    assert ("nvidia.com/gpu" in resources["limits"]) == gpu


@pytest.mark.parametrize("name", ["server-values.yaml", "worker-values.yaml"])
def test_a_chart_is_told_to_give_no_privilege(name: str) -> None:
    values = yaml.safe_load((KUBERNETES / name).read_text())
    contexts = dict(_called("containerSecurityContext", values)) | dict(_called("securityContext", values))
    assert contexts
    for where, context in contexts.items():
        assert context["runAsUser"] > 0, where
        assert context["runAsNonRoot"], where
        assert context["readOnlyRootFilesystem"], where
        assert context["allowPrivilegeEscalation"] is False, where
        assert context["capabilities"] == {"drop": ["ALL"]}, where
    assert [auth["enabled"] and auth["existingSecret"] for _, auth in _called("basicAuth", values)] == ["prefect-auth"]


def _called(key: str, values: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Everything of that name in nested values, with its path."""
    for name, value in values.items() if isinstance(values, dict) else ():
        if name == key:
            yield f"{where}.{name}", value
        yield from _called(key, value, f"{where}.{name}")


def test_no_image_floats() -> None:
    images = {one["image"] for one in services(*STACK).values()}
    images |= {container["image"] for _, pod in pods() for container in pod["containers"]}
    lines = (INFRA / "Containerfile").read_text().splitlines()
    stages = {line.split()[3] for line in lines if line.startswith("FROM")}
    images |= {base for line in lines if line.startswith("FROM") and (base := line.split()[1]) not in stages}
    for name in ("server-values.yaml", "worker-values.yaml"):
        for _, image in _called("image", yaml.safe_load((KUBERNETES / name).read_text())):
            images.add(f"{image['repository']}:{image['prefectTag']}")
    assert len(images) > 5
    for image in images:
        _, colon, tag = image.rpartition(":")
        assert colon, image
        assert re.search(r"\d+\.\d+\.\d+|\d+\.\d+", tag), image
        assert "latest" not in tag, image
    assert {image for image in images if image.startswith("vlfilter:")} == {
        f"vlfilter:{__version__}-cpu",
        f"vlfilter:{__version__}-gpu",
    }


def test_a_secret_stands_in_no_file() -> None:
    """What is called a key or a password is asked for from outside (`${…}`, a secret's name), never written down."""
    wrong = []
    for path in sorted([*INFRA.rglob("*.yaml"), ROOT / "prefect.yaml"]):
        for document in yaml.safe_load_all(path.read_text()):
            wrong += [f"{path.name}: {name}" for name, value in _texts(document) if _is_secret(name, value)]
    for path in [ROOT / ".env.example", *INFRA.rglob("*.env.example")]:
        for line in path.read_text().splitlines():
            name, equals, value = line.lstrip("# ").partition("=")
            if equals and SECRET_NAME.search(name) and value.strip():
                wrong.append(f"{path.name}: {name}")
    assert wrong == []


def _is_secret(name: str, value: str) -> bool:
    return bool(SECRET_NAME.search(name)) and bool(value) and not re.fullmatch(r"\$\{\w+(:[-?][^}]*)?\}", value)


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(name, text) of every leaf; the pair `name:`/`value:` of an environment counts as one."""
    if isinstance(value, dict):
        if set(value) == {"name", "value"}:
            yield value["name"], str(value["value"])
            return
        for key, inner in value.items():
            if key not in ("key", "secretKeyRef", "existingSecret"):  # a secret's name, or the name of an entry in it
                yield from _texts(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, name)
    elif isinstance(value, str):
        yield name, value


def test_a_written_secret_would_be_found() -> None:
    planted = {"environment": {"S3_SECRET_KEY": "abc"}, "env": [{"name": "HF_TOKEN", "value": "abc"}]}
    assert [name for name, value in _texts(planted) if _is_secret(name, value)] == ["S3_SECRET_KEY", "HF_TOKEN"]
    assert not _is_secret("S3_SECRET_KEY", "${S3_SECRET_KEY:?of the store}")
    assert _is_secret("S3_SECRET_KEY", "${S3_SECRET_KEY:?x}abc")


def test_secrets_reach_those_who_need_them() -> None:
    holders = {
        secret: {name for name, one in services(*STACK).items() if value in json.dumps(one.get("environment", {}))}
        for secret, value in SECRETS.items()
    }
    workers = {"worker-cpu", "worker-gpu-0", "worker-gpu-1"}
    assert holders == {
        "PREFECT_AUTH": {"server", "deploy"} | workers,
        "POSTGRES_PASSWORD": {"server", "database"},
        "S3_ACCESS_KEY": {"store"} | workers,
        "S3_SECRET_KEY": {"store"} | workers,
        "VLLM_API_KEY": {"vllm"} | workers,
    }


def test_the_bucket_policy_lets_workers_write_results_only() -> None:
    policy = json.loads((INFRA / "s3-policy.json").read_text())
    writable = set()
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        assert all("*" not in action for action in statement["Action"])
        places = statement["Resource"]
        places = [places] if isinstance(places, str) else places
        assert all(place.startswith("arn:aws:s3:::BUCKET") for place in places)
        if any(action.startswith(("s3:Put", "s3:Delete")) for action in statement["Action"]):
            writable |= set(places)
    assert writable == {"arn:aws:s3:::BUCKET/scores/*", "arn:aws:s3:::BUCKET/kept/*"}
