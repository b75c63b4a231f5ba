"""Job templates of the pools, filled in by Prefect's own templating with their defaults: what a worker would start."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.utilities.templating import apply_values

from deployments.templates import TYPES


def filled(kind: str, gpu: bool, **values: Any) -> Any:
    template = TYPES[kind](gpu, {"PLACE": "here"})
    fields = template["variables"]["properties"]
    told = {name: field["default"] for name, field in fields.items() if "default" in field} | values
    return apply_values(template["job_configuration"], told)


@pytest.mark.parametrize("gpu", [False, True])
def test_a_container_may_write_to_tmp_only_and_run_what_it_compiles_there(gpu: bool) -> None:
    job = filled("docker", gpu, image="vlfilter:1")
    made = job["container_create_kwargs"]
    assert (job["image"], made["read_only"], made["cap_drop"]) == ("vlfilter:1", True, ["ALL"])
    assert made["user"] not in ("", "0", "root")
    assert "exec" in made["tmpfs"]["/tmp"].split(",")
    assert made["shm_size"] == "8g"
    devices = [{"driver": "nvidia", "count": -1, "capabilities": [["gpu"]]}]
    assert made.get("device_requests") == (devices if gpu else None)


@pytest.mark.parametrize("gpu", [False, True])
def test_a_pod_asks_for_a_gpu_where_it_needs_one(gpu: bool) -> None:
    job = filled("kubernetes", gpu, image="vlfilter:1", gpus=2)
    spec = job["job_manifest"]["spec"]
    pod = spec["template"]["spec"]
    [container] = pod["containers"]
    assert container["image"] == "vlfilter:1"
    assert container["resources"]["limits"].get("nvidia.com/gpu") == (2 if gpu else None)
    assert [one["key"] for one in pod["tolerations"]] == ["nvidia.com/gpu"] * gpu
    assert spec["backoffLimit"] == 0
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
