"""The data engine on a real server: real evaluations and trainings; teacher and judges are scripted, behind HTTP."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.states import State
from typer.testing import CliRunner

from tests.flows import data_engine_world as world
from tests.llm.vendor import VendorServer
from tests.methods.self_filter import small as clips
from tests.training import small
from vlfilter.cli.app import app
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.evaluate import evaluate
from vlfilter.methods.data_engine.params import parse_params

PRICE = {"input_usd_per_million": 10, "output_usd_per_million": 10}
ARTEFACTS = (".json", ".jsonl", ".yaml", ".parquet", ".safetensors", ".bin", ".npy")
LOGS = ("metrics.jsonl", "job.json")  # a training's seconds and its machine, not what came of it


def run(params: dict[str, Any]) -> State[Any]:
    from flows.data_engine import data_engine

    return data_engine(parse_params(params, "test"), return_state=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {"clip": str(clips.clip(folder / "clip")), "start": str(small.checkpoint(folder / "start"))}


@pytest.fixture
def work(tmp_path: Path, models: dict[str, str], vendor: VendorServer) -> dict[str, Any]:
    """One round with every step; the answers are kept outside the output."""
    vendor.answer = world.answer
    told = world.write_files(tmp_path)
    asked = {"base_url": vendor.base_url("openai"), "cache": str(tmp_path / "answers"), **PRICE}
    settings = {"model": models["start"], "iters_per_epoch": 2, "warmup_steps": 1, "batch_size": 4}
    return told | {
        "model": models["start"],
        "rounds": 1,
        "classify": asked,
        "evaluate": {"device": "cpu", "template": "vicuna_v1"},
        "query": told["query"] | {"clip_model": models["clip"]},
        "generate": asked,
        "verify": asked | {"image_judge": "openai:gpt-4o", "text_judge": "openai:gpt-4o"},
        "train": told["train"] | {"settings": settings},
    }


def artefacts(folder: Path) -> dict[str, bytes]:
    """By path: all files of all steps, the trained model among them, but a training's logs and checkpoints."""
    paths = [
        path
        for path in folder.rglob("*")
        if path.suffix in ARTEFACTS and path.name not in LOGS and "checkpoints" not in path.parts
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.usefixtures("prefect_api")
def test_a_round_once_and_again(work: dict[str, Any], vendor: VendorServer) -> None:
    """Files by the published names; nothing is asked twice; the same seed and answers give the same bytes."""
    state = run(work)
    assert state.is_completed(), state.message
    assert "the limit of 1 round is reached" in str(state.message)
    out = Path(work["output"])
    first = out / "round_1"
    assert {row["question_type"] for row in load(out / "questions.json")} == {
        "image_scene",
        "attribute_recognition",
        "spatial_relationship",
    }
    bad = [row for rows in load(first / "bad_case_aokvqa_classified.json").values() for row in rows]
    assert bad
    assert all(row["part"] == "steer" for row in bad)
    assert len(load(first / "gptvqa_prompt.json")) == 8
    outcome = load(first / "outcome.json")
    rows = load(first / "gptvqa_train_data.json")
    assert outcome["replies"] == 8
    assert 0 < len(rows) == outcome["verified"]["kept"] <= outcome["kept"] < 8
    names = [entry["name"] for entry in yaml.safe_load((first / "mixture.yaml").read_text())["datasets"]]
    assert names == ["base", "gptvqa_round1"]
    assert (first / "train" / "model" / "config.json").is_file()
    last = load(out / "round_2" / "outcome.json")
    assert last["stopped"]["kind"] == "round_limit"
    assert len(last["reporting_accuracy"]) == 2

    asked, before = len(vendor.questions()), artefacts(out)
    stamp = (first / "train" / "model" / "config.json").stat().st_mtime_ns
    assert run(work).is_completed()
    assert len(vendor.questions()) == asked
    assert artefacts(out) == before
    assert (first / "train" / "model" / "config.json").stat().st_mtime_ns == stamp

    shutil.rmtree(out)
    assert run(work).is_completed()
    assert len(vendor.questions()) == asked
    again = artefacts(out)
    assert [name for name in before if again.get(name) != before[name]] == []
    assert again.keys() == before.keys()


@pytest.mark.usefixtures("prefect_api")
def test_the_budget_ends_it_and_a_person_decides(work: dict[str, Any], vendor: VendorServer) -> None:
    """What was answered before the budget's end is not asked again; a person's `stop` ends it, and is remembered."""
    state = run(work | {"generate": work["generate"] | {"max_usd": 0.01}})
    assert state.is_completed(), state.message
    assert "the budget is used up" in str(state.message)
    first = Path(work["output"]) / "round_1"
    assert load(first / "outcome.json")["stopped"]["kind"] == "budget"
    assert len(vendor.questions()) == 1

    gate = {"sample": 3, "poll_s": 1, "hours": 0.05}
    person = threading.Thread(target=say, args=({"decision": "stop", "note": "two answers look wrong"},), daemon=True)
    person.start()
    state = run(work | {"max_usd": 50, "gate": gate})
    person.join(10)
    assert state.is_completed(), state.message
    assert "a person says stop: two answers look wrong" in str(state.message)
    assert load(first / "outcome.json")["stopped"]["kind"] == "person"
    assert not (first / "train").exists()
    prompts = vendor.prompts()
    assert len(prompts) == len(vendor.questions())
    texts = [prompt for prompt in prompts if "high-quality" in prompt]
    assert len(texts) == len(set(texts)) == 8

    asked = len(vendor.questions())
    assert "a person says stop" in str(run(work | {"max_usd": 50, "gate": gate}).message)
    assert len(vendor.questions()) == asked


def say(answer: dict[str, str]) -> None:
    """Fill in the form of the first run that pauses, as the UI does."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
    with get_client(sync_client=True) as client:
        for _ in range(600):
            for found in client.read_flow_runs(flow_run_filter=paused):
                client.resume_flow_run(found.id, run_input=answer)
                return
            time.sleep(0.1)


@pytest.mark.usefixtures("prefect_api")
def test_a_model_without_mistakes_ends_it(work: dict[str, Any], vendor: VendorServer) -> None:
    """The questions' answers are made what the model says: there is nothing to ask the teacher about."""
    params = parse_params(work, "test")
    rows = load(Path(work["questions"]))
    place = Path(work["output"]).parent / "look"
    evaluate(work["questions"], str(place), params.evaluate.settings(work["model"], work["images"], 0))
    said = {row["idx"]: row["model_answer"] for row in load(place / "aokvqa_eval.json")}
    for row in rows:
        row["correct_choice_idx"] = row["choices"].index(said[row["question_id"]])
        row["question_type"] = "image_scene"
    Path(work["questions"]).write_text(json.dumps(rows))
    state = run(work | {"classify": None})
    assert state.is_completed(), state.message
    assert "there are no bad cases" in str(state.message)
    assert vendor.questions() == []
    assert load(Path(work["output"]) / "round_1" / "outcome.json")["stopped"]["kind"] == "no_bad_cases"


@pytest.mark.usefixtures("prefect_api")
def test_what_is_missing_is_told_before_anything_is_asked(
    work: dict[str, Any], vendor: VendorServer, tmp_path: Path
) -> None:
    mixture = tmp_path / "lost.yaml"
    entry = {"name": "base", "schema": "aokvqa", "data": "lost.json", "images": "val2017", "sqrt": True}
    mixture.write_text(yaml.safe_dump({"datasets": [entry]}))
    for change, message in (
        ({"questions": "nowhere.json"}, "there is no file nowhere.json"),
        ({"query": work["query"] | {"index": str(tmp_path / "index")}}, "no image index at"),
        ({"query": work["query"] | {"index": "coco_image.pth"}}, "there is no file coco_image.pth"),
        ({"train": work["train"] | {"mixture": str(mixture)}}, "lost.json (data set base)"),
        ({"query": work["query"] | {"captions": None, "instances": None}}, "the teacher does not see the images"),
        ({"generate": work["generate"] | {"model": "gpt-4"}}, "gpt-4"),
    ):
        state = run(work | change)
        assert state.is_failed()
        assert message in str(state.message)
    assert vendor.questions() == []
    settings = work["train"]["settings"] | {"warmup_steps": 3}
    with pytest.raises(VlfilterError, match="warmup_steps 3 are more than the 2 steps of an epoch"):
        parse_params(work | {"train": work["train"] | {"settings": settings}}, "test")
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(work | {"images": "nowhere"}))
    result = CliRunner().invoke(app, ["data-engine", "run", "--config", str(config)])
    assert "there is no folder nowhere" in str(result.exception)
