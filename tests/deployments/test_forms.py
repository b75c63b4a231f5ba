"""What prefect.yaml deploys, and how the forms of its deployments read in the UI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prefect.utilities.callables import parameter_schema
from prefect.utilities.importtools import import_object

from deployments.automations import RESTART, flow_names
from deployments.pools import POOLS, QUEUES
from deployments.schedules import ROOT, flow_name
from vlfilter.forms import Form, Step

DESCRIBED = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
ENTRYPOINTS = sorted({one["entrypoint"] for one in DESCRIBED})
INSIDE = {"data-engine-round"}  # flows that only run inside another one


@pytest.fixture(params=ENTRYPOINTS)
def schema(request: pytest.FixtureRequest) -> dict[str, Any]:
    return parameter_schema(import_object(request.param)).model_dump()


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, definition in schema["definitions"].items():
        for field, shown in definition.get("properties", {}).items():
            yield f"{name}.{field}", shown


def test_every_field_says_what_it_is_for(schema: dict[str, Any]) -> None:
    assert [name for name, shown in fields(schema) if not shown.get("description")] == []
    assert [name for name, shown in fields(schema) if not shown.get("title")] == []


def test_every_form_says_what_it_does(schema: dict[str, Any]) -> None:
    for name, shown in schema["properties"].items():
        reference = shown.get("$ref", "").removeprefix("#/definitions/")
        about = schema["definitions"][reference] if reference else shown
        assert about.get("description"), name


def test_every_flow_has_a_deployment() -> None:
    assert {flow_name(entrypoint) for entrypoint in ENTRYPOINTS} == set(flow_names()) - INSIDE


def test_deployments_go_where_there_is_a_queue() -> None:
    for one in DESCRIBED:
        pool = one["work_pool"]
        assert pool["name"] in POOLS
        assert pool.get("work_queue_name", "default") in QUEUES[pool["name"]]


def test_what_a_parent_starts_again_does_not_start_by_itself() -> None:
    """Else a crashed part would run twice: once by its parent, once by the automation."""
    for one in DESCRIBED:
        part = one["work_pool"]["name"] == "gpu"
        assert part != (RESTART in one["tags"]), one["entrypoint"]


def test_defaults_fit_the_forms() -> None:
    for one in DESCRIBED:
        flow = import_object(one["entrypoint"])
        model = parameter_schema(flow).definitions.get(type_name(flow), {})
        for name in one.get("parameters", {}).get("params", {}):
            assert name in model["properties"], (one["entrypoint"], name)
        assert one["description"].rstrip(".") != one["description"], "a description is a sentence"


def type_name(flow: Any) -> str:
    reference = parameter_schema(flow).properties.get("params", {}).get("$ref", "")
    return str(reference.removeprefix("#/definitions/"))


class Inner(Step):
    """What the inner step does,
    told in two lines."""


class Outer(Form):
    plain: Inner
    optional_one: Inner | None = None
    told: Inner | None = None
    number: int = 0


def test_a_step_introduces_itself() -> None:
    shown = Outer.model_json_schema()["properties"]
    assert shown["plain"]["description"] == "What the inner step does, told in two lines."
    assert (shown["optional_one"]["title"], shown["optional_one"]["description"]) == (
        "Optional one",
        "What the inner step does, told in two lines.",
    )
    assert "description" not in shown["number"]
