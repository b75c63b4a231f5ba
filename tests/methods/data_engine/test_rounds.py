"""When the rounds end, and what a run's form refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.methods.data_engine.query_parts import row
from vlfilter.data.aokvqa import row_json
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.params import DataEngineParams, EvaluateWork, GpuWork, parse_params
from vlfilter.methods.data_engine.query import QuerySettings
from vlfilter.methods.data_engine.rounds import Limits, StopKind, after_evaluation, after_questions, before_queries

SETTINGS = {"model": "start", "iters_per_epoch": 4, "batch_size": 4, "per_device_batch": 4}


def fields(**changes: Any) -> dict[str, Any]:
    """The least that a run is told."""
    told = {
        "output": "out",
        "questions": "val.json",
        "images": "val2017",
        "query": {"images": "train2017", "captions": "captions.json"},
        "generate": {"model": "openai:gpt-4"},
        "train": {"mixture": "base.yaml", "preset": "mlm_filter_tiny", "settings": SETTINGS},
    }
    return told | changes


@pytest.mark.parametrize(
    ("scores", "limits", "kind"),
    [
        ([50], Limits(2), None),
        ([50, 40], Limits(2), None),
        ([50, 60, 70], Limits(2), StopKind.ROUNDS),
        ([50, 50], Limits(9, patience=1), StopKind.NO_GAIN),
        ([50, 60], Limits(9, patience=1), None),
        ([50, 60], Limits(9, patience=1, min_gain=20), StopKind.NO_GAIN),
        ([50, 40], Limits(9, patience=2), None),
        ([50, 40, 60], Limits(9, patience=2), None),
        ([50, 70, 60, 70], Limits(9, patience=2), StopKind.NO_GAIN),
    ],
)
def test_the_end_of_the_rounds(scores: list[float], limits: Limits, kind: StopKind | None) -> None:
    stop = after_evaluation(scores, limits)
    assert (stop.kind if stop else None) == kind


@pytest.mark.parametrize(
    ("cases", "version", "reason"),
    [
        ({"image_scene": 2}, "v1", None),
        ({"image_scene": 0, "image_style": 0}, "v1", "there are no bad cases"),
        ({"image_scene": 1, "image_style": 1}, "v1", "1 bad cases, and 2 are shown"),
        ({"image_scene": 3}, "v2", "3 bad cases, and 10 are shown"),
    ],
)
def test_whether_there_is_anything_to_ask(
    tmp_path: Path, cases: dict[str, int], version: Any, reason: str | None
) -> None:
    numbers = iter(range(100))
    found = {kind: [row_json(row(next(numbers), kind)) for _ in range(count)] for kind, count in cases.items()}
    (tmp_path / "bad.json").write_text(json.dumps(found))
    (tmp_path / "weight.json").write_text(json.dumps({kind: 0.5 if some else 0.0 for kind, some in found.items()}))
    stop = before_queries(str(tmp_path / "bad.json"), str(tmp_path / "weight.json"), QuerySettings(version))
    assert (stop is None) == (reason is None)
    if stop is not None:
        assert stop.kind == StopKind.NO_BAD_CASES
        assert str(reason) in stop.reason


def test_replies_without_use_end_it() -> None:
    assert after_questions(1, 9) is None
    stop = after_questions(0, 9)
    assert stop is not None
    assert "none of the 9" in stop.reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 0}, "rounds"),
        ({"train": {"mixture": "base.yaml", "preset": "nobody"}}, "no recipe is called"),
        (
            {"train": {"mixture": "base.yaml", "preset": "mlm_filter_tiny", "settings": {"model": "m"}}},
            "iters_per_epoch",
        ),
        ({"query": {"images": "train2017", "examples": 3}}, "shows two bad cases"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_parameters_that_do_not_fit_are_told_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(VlfilterError, match=message):
        parse_params(fields(**changes), "run.yaml")


def test_the_first_round_s_model_and_mixture_are_the_base_s() -> None:
    params = parse_params(fields(), "test")
    assert params.model_before(1) == "out/base/model"
    assert parse_params(fields(model="mine"), "test").model_before(1) == "mine"
    assert params.model_before(3) == "out/round_2/train/model"
    assert [params.mixture_before(number) for number in (1, 2)] == ["base.yaml", "out/round_1/mixture.yaml"]


def test_the_run_s_budget_is_that_of_every_step() -> None:
    params = parse_params(fields(max_usd=5, verify={"image_judge": "openai:gpt-4o", "max_usd": 1}), "test")
    assert params.verify is not None
    asked = [params.judge(params.generate, "openai:gpt-4"), params.judge(params.verify, "openai:gpt-4o")]
    assert [settings.max_usd for settings in asked] == [5, 1]
    assert asked[0].cache == asked[1].cache


def test_forms_survive_the_way_to_the_gpu_pool() -> None:
    params = parse_params(fields(), "test")
    assert DataEngineParams.model_validate(params.model_dump(mode="json")) == params
    evaluation = EvaluateWork(model="m", questions="q", images="i", output="o", seed=3, step=params.evaluate)
    for work in (
        GpuWork(name="train", number=2, train=params.training("o", "m.yaml")),
        GpuWork(name="evaluate", number=2, evaluate=evaluation),
        GpuWork(name="index", index=params.query, output=params.index),
    ):
        assert GpuWork.model_validate(work.model_dump(mode="json", exclude_none=True)) == work
