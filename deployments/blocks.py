"""Secrets, variables, notifications: known here by name only. People make them in the UI; their values stay there."""

from __future__ import annotations

from collections.abc import Iterator

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate

from vlfilter import __version__

ALERTS = "vlfilter-alerts"  # a notification block of any kind (Slack, mail, …), which automations use where it is there

# Secret blocks that judges load themselves (tasks/judge.py).
KEYS = ("openai-api-key", "anthropic-api-key")
# Secret blocks and variables that become environment variables of runs in containers, where they are there. Runs of
# process workers have their worker's environment.
SECRETS = {"aws-access-key-id": "AWS_ACCESS_KEY_ID", "aws-secret-access-key": "AWS_SECRET_ACCESS_KEY"}
SETTINGS = {"vlfilter_s3_endpoint": "AWS_ENDPOINT_URL", "vlfilter_s3_region": "AWS_DEFAULT_REGION"}

VARIABLES = {"vlfilter_image": f"vlfilter:{__version__}"}  # made once; the value is the operator's from then on


def apply_variables(client: SyncPrefectClient) -> Iterator[str]:
    """Make the variables that are missing; tells which."""
    for name, value in VARIABLES.items():
        if client.read_variable_by_name(name) is None:
            client.create_variable(VariableCreate(name=name, value=value, tags=["vlfilter"]))
            yield f"variable {name}: created with {value!r}"


def container_environment(client: SyncPrefectClient) -> dict[str, str]:
    """Environment variables of runs in containers, as references that the worker resolves when it starts a run."""
    there = secrets(client)
    environment = {
        variable: f"{{{{ prefect.blocks.secret.{name} }}}}" for name, variable in SECRETS.items() if name in there
    }
    for name, variable in SETTINGS.items():
        if client.read_variable_by_name(name) is not None:
            environment[variable] = f"{{{{ prefect.variables.{name} }}}}"
    return environment


def secrets(client: SyncPrefectClient) -> set[str]:
    """The names of the Secret blocks among ours that are there."""
    wanted = [*KEYS, *SECRETS]
    return {name for name, kind, _ in _documents(client, wanted) if kind == "secret"}


def alerts(client: SyncPrefectClient) -> str | None:
    """The id of the notification block, where somebody has made it."""
    return next((number for _, _, number in _documents(client, [ALERTS])), None)


def _documents(client: SyncPrefectClient, names: list[str]) -> list[tuple[str, str, str]]:
    """(name, slug of the type, id); no values: the server leaves secrets out unless it is asked for them."""
    asked = {"block_documents": {"name": {"any_": names}, "is_anonymous": {"eq_": False}}, "include_secrets": False}
    found = client.request("POST", "/block_documents/filter", json=asked).json()
    return [(one["name"], one["block_type"]["slug"], one["id"]) for one in found]
