"""Lineage as events on a real server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import flow

from tasks.lineage import asset_key, model_key, record_subset
from tests.toy import NAME
from vlfilter.scoring.params import ScoreParams

MATERIALIZED = "prefect.asset.materialization.succeeded"


def materialized(api: str, key: str) -> dict[str, Any]:
    """The last such event; events are written a moment after they are sent."""
    asked = {"filter": {"event": {"name": [MATERIALIZED]}, "resource": {"id": [key]}}}
    for _ in range(100):
        events = httpx.post(f"{api}/events/filter", json=asked).raise_for_status().json()["events"]
        if events:
            return dict(events[0])
        time.sleep(0.1)
    raise AssertionError(f"no event about {key}")


def made_of(event: dict[str, Any]) -> set[str]:
    return {one["prefect.resource.id"] for one in event["related"] if one["prefect.resource.role"] == "asset"}


def test_tables_are_made_of_shards_and_model(
    toy_run: Callable[[int, int], ScoreParams], prefect_api: str, tmp_path: Path
) -> None:
    from flows.score_shards import score_shards

    params = toy_run(2, 3)
    assert score_shards(
        params.model_copy(update={"shards": f"{tmp_path}/data/{{00000..00001}}.tar"}), return_state=True
    )
    event = materialized(prefect_api, f"file://{tmp_path}/out/toy")
    assert made_of(event) == {f"file://{tmp_path}/data", f"file://{params.model[NAME]}"}
    assert event["payload"] == {"shards": 2, "open": 0, "samples": {"ok": 6}}


def test_a_subset_is_made_of_tables(prefect_api: str, tmp_path: Path) -> None:
    @flow
    def choose() -> None:
        record_subset(f"{tmp_path}/kept.npy", "s3://bucket/scores", 3, 10, "toy.toy_score > 1")

    choose()
    event = materialized(prefect_api, f"file://{tmp_path}/kept.npy")
    assert made_of(event) == {"s3://bucket/scores"}
    assert event["payload"] == {"kept": 3, "rows": 10, "rule": "toy.toy_score > 1"}


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("s3://bucket/data/{00000..00099}.tar", "s3://bucket/data"),
        ("s3://bucket/data/*.tar", "s3://bucket/data"),
        ("s3://bucket/a b/c%20d/", "s3://bucket/a_b/c_20d"),
        ("/data/x.tar", "file:///data/x.tar"),
    ],
)
def test_asset_keys(place: str, key: str) -> None:
    assert asset_key(place) == key


def test_models_on_the_hub_and_in_folders(tmp_path: Path) -> None:
    assert model_key("openai/clip-vit-base-patch32") == "hf://openai/clip-vit-base-patch32"
    assert model_key(str(tmp_path)) == f"file://{tmp_path}"
