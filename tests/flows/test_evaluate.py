"""Benchmarks as a flow on a real server: a model of the house, files of answers, one that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.states import State

from tests.evaluation.published_files import fixture, published
from tests.evaluation.small_model import save_model
from tests.helpers import jpeg
from tests.llm.vendor import VendorServer
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.params import parse_params

pytestmark = pytest.mark.usefixtures("prefect_api")


def run(fields: dict[str, Any]) -> State[Any]:
    from flows.evaluate import evaluate

    return evaluate(parse_params(fields, "test"), return_state=True)


def read(api: str, what: str, **body: Any) -> list[dict[str, Any]]:
    answer = httpx.post(f"{api}/{what}/filter", json=body, timeout=60)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found


def artifact(api: str, key: str) -> dict[str, Any]:
    (found,) = read(api, "artifacts/latest", artifacts={"key": {"any_": [key]}})
    return found


@pytest.fixture
def fields(tmp_path: Path) -> dict[str, Any]:
    """VSR for a model; OK-VQA's published answers."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        (images / f"{number}.jpg").write_bytes(jpeg(number))
    (tmp_path / "okvqa.json").write_text(json.dumps(fixture("okvqa")["result_file"]))
    vsr = {"benchmark": "vsr", "data": published("vsr", tmp_path / "vsr"), "images": str(images)}
    okvqa = {
        "benchmark": "okvqa",
        "data": published("okvqa", tmp_path / "okvqa"),
        "answers": str(tmp_path / "okvqa.json"),
    }
    return {"output": str(tmp_path / "out"), "benchmarks": [vsr, okvqa], "max_tokens": 3, "shard": 2, "device": "cpu"}


def test_a_model_and_answers_that_exist(fields: dict[str, Any], tmp_path: Path, prefect_api: str) -> None:
    fields |= {"model": save_model(tmp_path / "model"), "model_id": "tiny"}
    state = run(fields)
    assert state.is_completed(), state.message
    lines = str(state.message).splitlines()
    assert lines[0].startswith("VSR (zero-shot): accuracy ")
    assert lines[1] == "OK-VQA: accuracy 66.67 %, 33.33 % as published, 66.67 % by lavis (3 of 3 answered)"
    table = json.loads(artifact(prefect_api, "evaluate-okvqa-categories")["data"])
    assert [line["category"] for line in table] == ["all", "four", "one"]
    assert artifact(prefect_api, "evaluate-okvqa-plot")["data"].startswith("data:image/png;base64,")
    assert float(artifact(prefect_api, "evaluate-vsr-progress")["data"]) == 100.0
    beside = json.loads(artifact(prefect_api, "evaluate-published")["data"])
    assert [line["okvqa"] for line in beside] == [
        "56.03",
        "56.66",
        "56.95",
        "56.76",
        "57.05",
        "56.87",
        "33.33",
        "66.67",
    ]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("shard-*.parquet")}
    assert len(stamps) == 2
    assert run(fields).is_completed()
    first, second = sorted(stamps)
    assert (
        first.stat().st_mtime_ns == stamps[first]
    )  # 3.jpg is missing: its shard is tried again and comes out the same
    assert second.stat().st_mtime_ns == stamps[second]


def test_a_benchmark_that_fails_does_not_stop_the_others(fields: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    fields["benchmarks"][0]["images"] = str(tmp_path / "none")
    fields |= {"model": save_model(tmp_path / "model")}
    state = run(fields)
    error: Any = state.result(raise_on_failure=False)
    assert isinstance(error, VlfilterError)
    assert str(error).startswith("vsr: none of the 4 questions got an answer")
    assert (tmp_path / "out" / "okvqa" / "scores.json").exists()


def test_a_server_is_asked_in_the_main_flow(
    fields: dict[str, Any], vendor: VendorServer, prefect_api: str, tmp_path: Path
) -> None:
    vendor.answer = lambda body: "true"
    server = {"base_url": vendor.openai_url, "input_usd_per_million": 1, "output_usd_per_million": 1}
    fields |= {"model": "openai:small", "server": server, "benchmarks": fields["benchmarks"][:1]}
    state = run(fields)
    assert state.is_completed(), state.message
    assert str(state.message) == "VSR (zero-shot): accuracy 50.00 %, 50.00 % as published (3 of 4 answered)"
    costs = json.loads(artifact(prefect_api, "evaluate-cost")["data"])
    assert costs[-1]["requests"] == "3"
    fields["server"]["max_usd"] = 0.0000001
    fields |= {"output": str(tmp_path / "other")}
    assert "budget" in str(run(fields).message).lower() or "max_usd" in str(run(fields).message)
