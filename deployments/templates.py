"""Base job templates of the work pools: how a worker of each type starts a run.

A template names secrets and variables; the worker looks them up when it starts a run, so no value is stored here or in
a deployment. The fields under `variables` are what a deployment may set as job variables, and the UI's form for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

UID = 10001  # the user of infra/Containerfile
MODELS = "/models"  # where hub models are kept between runs
Template = dict[str, Any]

# What a run needs to be watched: without frequent heartbeats nobody could tell a dead run from a busy one.
ENVIRONMENT = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "vlfilter,flows,tasks",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "DO_NOT_TRACK": "1",
}


def process(_gpu: bool, environment: Mapping[str, str]) -> Template:
    """A run is a process beside its worker, with the worker's environment. A GPU is the worker's: start one a GPU with
    `CUDA_VISIBLE_DEVICES`."""
    return _template(
        {"stream_output": "{{ stream_output }}", "working_dir": "{{ working_dir }}"},
        {
            "stream_output": _field("Show the run's output in the worker's.", True),
            "working_dir": _field("Folder in which runs start; empty: a new one each.", kind="string"),
        },
        environment,
    )


def docker(gpu: bool, environment: Mapping[str, str]) -> Template:
    """A run is a container on the worker's host: not root, nothing writable but /tmp, models and what is mounted."""
    limits: Template = {
        "user": str(UID),
        "read_only": True,
        # exec: triton and DeepSpeed load what they compile there
        "tmpfs": {"/tmp": "rw,exec,mode=1777,size=8g"},  # noqa: S108 - in the container
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "shm_size": "{{ shared_memory }}",
    }
    if gpu:
        limits["device_requests"] = [{"driver": "nvidia", "count": "{{ gpus }}", "capabilities": [["gpu"]]}]
    return _template(
        {
            "image": "{{ image }}",
            "image_pull_policy": "{{ image_pull_policy }}",
            "networks": "{{ networks }}",
            "volumes": "{{ volumes }}",
            "mem_limit": "{{ memory }}",
            "auto_remove": True,
            "stream_output": True,
            "container_create_kwargs": limits,
        },
        {
            **_image(),
            "networks": _field("Docker networks to join.", [], items="string"),
            "volumes": _field("Mounts, `SOURCE:PATH[:ro]`.", [f"vlfilter-models:{MODELS}"], items="string"),
            "memory": _field("Limit, such as 16g.", "64g" if gpu else "16g"),
            "shared_memory": _field("Of /dev/shm, which data loaders use.", "8g"),
            **({"gpus": _field("How many; -1: all of the host.", -1)} if gpu else {}),
        },
        {**environment, "HF_HOME": MODELS},
    )


def kubernetes(gpu: bool, environment: Mapping[str, str]) -> Template:
    """A run is a Job of one pod. Keys may come from a Kubernetes secret of the name `secret`, where there is one."""
    container: Template = {
        "name": "vlfilter",
        "image": "{{ image }}",
        "imagePullPolicy": "{{ image_pull_policy }}",
        "args": "{{ command }}",
        "envFrom": [{"secretRef": {"name": "{{ secret }}", "optional": True}}],
        "resources": {
            "requests": {"cpu": "{{ cpu }}", "memory": "{{ memory }}"},
            "limits": {"memory": "{{ memory }}", **({"nvidia.com/gpu": "{{ gpus }}"} if gpu else {})},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the container
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
            {"name": "models", "mountPath": MODELS},
        ],
    }
    pod: Template = {
        "restartPolicy": "Never",
        "serviceAccountName": "{{ service_account_name }}",
        "automountServiceAccountToken": False,
        "nodeSelector": "{{ node_selector }}",
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}] if gpu else [],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "fsGroup": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "{{ shared_memory }}"}},
            {"name": "models", "emptyDir": {}},
        ],
    }
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"labels": "{{ labels }}", "namespace": "{{ namespace }}", "generateName": "{{ name }}-"},
        "spec": {
            "backoffLimit": 0,  # Prefect starts a run again, not Kubernetes
            "ttlSecondsAfterFinished": "{{ finished_job_ttl }}",
            "parallelism": 1,
            "completions": 1,
            "template": {"spec": pod},
        },
    }
    return _template(
        {
            "namespace": "{{ namespace }}",
            "job_manifest": manifest,
            "pod_watch_timeout_seconds": "{{ pod_watch_timeout_seconds }}",
            "stream_output": True,
        },
        {
            **_image(),
            "namespace": _field("Where the jobs are made.", "vlfilter"),
            "service_account_name": _field("Whom the pods run as.", "vlfilter"),
            "secret": _field("A Kubernetes secret whose entries become environment variables.", "vlfilter"),
            "cpu": _field("Cores asked for.", "8" if gpu else "2"),
            "memory": _field("Asked for, and the limit.", "64Gi" if gpu else "16Gi"),
            "shared_memory": _field("Of /dev/shm, which data loaders use.", "8Gi"),
            **({"gpus": _field("GPUs of the pod.", 1)} if gpu else {}),
            "node_selector": _field("Labels that a node must have.", {}),
            "finished_job_ttl": _field("Seconds until a finished job is removed.", 3600),
            "pod_watch_timeout_seconds": _field("Seconds a pod may take to start, its node included.", 900),
        },
        {**environment, "HF_HOME": MODELS},
    )


TYPES: dict[str, Callable[[bool, Mapping[str, str]], Template]] = {
    "process": process,
    "docker": docker,
    "kubernetes": kubernetes,
}


def _template(configuration: Template, fields: Template, environment: Mapping[str, str]) -> Template:
    """With what Prefect itself fills in for every run."""
    own = {name: f"{{{{ {name} }}}}" for name in ("name", "command", "labels")}
    common = {
        "name": _field("Of the process, container or job; empty: the run's.", kind="string"),
        "command": _field("Empty: the one that starts a run.", kind="string"),
        "labels": _field("Labels beside Prefect's.", {}),
        # Prefect lets references stand in a default only; a deployment's variables are merged over these.
        "env": _field("Further environment variables. No secrets: they would be stored in clear.", dict(environment)),
    }
    return {
        "job_configuration": own | configuration | {"env": ENVIRONMENT},
        "variables": {"type": "object", "properties": common | fields},
    }


def _image() -> Template:
    return {
        "image": _field(
            "Container image; the variable is changed in one place.", "{{ prefect.variables.vlfilter_image }}"
        ),
        "image_pull_policy": _field("When it is fetched.", "IfNotPresent", choices=["IfNotPresent", "Always", "Never"]),
    }


def _field(
    description: str, default: Any = None, kind: str = "", items: str = "", choices: list[str] | None = None
) -> Template:
    """A JSON schema's property; its type is the default's."""
    types = {bool: "boolean", str: "string", int: "integer", list: "array", dict: "object"}
    field: Template = {"description": description, "type": kind or types[type(default)]}
    if default is not None:
        field["default"] = default
    if field["type"] == "object":
        field["additionalProperties"] = {"type": "string"}
    if items:
        field["items"] = {"type": items}
    return field | ({"enum": choices} if choices else {})
