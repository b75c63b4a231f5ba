"""From the published mixture's data sets to a measured model: a flow on a real server, with a real training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.states import State
from typer.testing import CliRunner

from tests.methods.minigpt_v2.world import make_world
from tests.training import small
from vlfilter.cli.app import app
from vlfilter.errors import VlfilterError
from vlfilter.methods.minigpt_v2.params import MinigptV2Params, parse_params
from vlfilter.training.run_folder import read_metrics


def run(params: dict[str, Any]) -> State[Any]:
    from flows.minigpt_v2 import minigpt_v2

    return minigpt_v2(parse_params(params, "test"), return_state=True)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small.checkpoint(tmp_path_factory.mktemp("models") / "start"))


@pytest.fixture
def work(tmp_path: Path, start: str) -> dict[str, Any]:
    """All 25 data sets in miniature, eight steps with two draws each, and a benchmark of four statements."""
    data = make_world(tmp_path / "data")
    images = data / "COCO2014" / "train"
    lines = [{"image": path.name, "caption": "It is red.", "label": 1} for path in sorted(images.iterdir())]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    training = {
        "model": start, "iters_per_epoch": 8, "batch_size": 12, "draws": 2, "per_device_batch": 6, "save_steps": 4,
        "max_length": 1024,
    }  # fmt: skip
    return {
        "output": str(tmp_path / "out"),
        "data": str(data),
        "train": {"preset": "minigpt_v2_tiny", "settings": training},
        "evaluate": {
            "benchmarks": [{"benchmark": "vsr", "data": str(tmp_path / "test.jsonl"), "images": str(images)}],
            "settings": {"device": "cpu", "max_tokens": 2},
        },
    }


def stamps(folder: str) -> dict[str, int]:
    kinds = (".parquet", ".safetensors", ".jsonl")
    return {str(path): path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.suffix in kinds}


def test_the_whole_way_once(work: dict[str, Any], prefect_api: str) -> None:
    """Check, train, evaluate; a second run trains nothing and asks nothing."""
    state = run(work)
    assert state.is_completed(), state.message
    checked, trained, measured = str(state.message).splitlines()
    assert checked == "25 data sets with 101 rows, 22 more left out by rule"
    assert trained.endswith("trained in 8 steps")
    assert "VSR" in measured
    drawn: dict[str, int] = {}
    for row in read_metrics(Path(work["output"]) / "train" / "metrics.jsonl"):
        for name, samples in row["datasets"].items():
            drawn[name] = drawn.get(name, 0) + samples
    sizes = {entry["name"]: entry["batch_size"] for entry in mixture(work)}
    assert sum(samples // sizes[name] for name, samples in drawn.items()) == 16
    assert all(samples % sizes[name] == 0 for name, samples in drawn.items()), (
        "a draw is a batch of its data set's own size"
    )
    scores = json.loads((Path(work["output"]) / "evaluation" / "vsr" / "scores.json").read_text())
    assert scores["rows"] == {"ok": 4}
    before = stamps(work["output"])
    again = run(work)
    assert again.is_completed(), again.message
    assert "was trained already" in str(again.message)
    changed = {path for path, stamp in stamps(work["output"]).items() if before.get(path) != stamp}
    assert not {path for path in changed if "/answers/" in path or "/train/" in path}
    keys = {row["key"] for row in httpx.post(f"{prefect_api}/artifacts/filter", json={}).json()}
    assert {"minigpt-v2-data-sets", "minigpt-v2-loss", "evaluate-published"} <= keys


def mixture(work: dict[str, Any]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = yaml.safe_load((Path(work["output"]) / "mixture.yaml").read_text())["datasets"]
    return told


@pytest.mark.usefixtures("prefect_api")
def test_what_is_missing_ends_the_run_before_it_trains(work: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from vlfilter.training import launch

    monkeypatch.setattr(launch, "finetune", lambda _: pytest.fail("it trains"))
    gone = Path(work["data"]) / "gqa" / "train_balanced_questions.json"
    gone.unlink()
    state = run(work)
    assert state.is_failed()
    error: Any = state.result(raise_on_failure=False)
    assert isinstance(error, VlfilterError)
    assert str(error) == f"1 of 25 data sets cannot be trained on:\n  gqa: there is no annotation file {gone}"


@pytest.mark.usefixtures("prefect_api")
def test_text_alone_is_a_batch_too(work: dict[str, Any], tmp_path: Path) -> None:
    """A batch without a single image, drawn by a data set that has none."""
    entries = [
        {"name": "text", "schema": "unnatural_instructions", "data": "nlp/filtered_unnatural_instruction.json",
         "sample_ratio": 3, "batch_size": 2},
        {"name": "vqa", "schema": "vqa", "data": "gqa/train_balanced_questions.json", "images": "gqa/images/train",
         "sample_ratio": 1, "batch_size": 2},
    ]  # fmt: skip
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({"datasets": entries}))
    del work["evaluate"]
    work["train"]["settings"] |= {"iters_per_epoch": 4, "batch_size": 2, "draws": 1, "per_device_batch": 2}
    state = run(work | {"mixture": str(tmp_path / "two.yaml")})
    assert state.is_completed(), state.message
    rows = read_metrics(Path(work["output"]) / "train" / "metrics.jsonl")
    assert {"text": 2, "vqa": 0} in [row["datasets"] for row in rows]
    assert all(row["loss"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": None, "evaluate": None}, "no step is given: train, evaluate"),
        ({"data": None}, "say which folder the data sets of minigpt_v2_dataengine lie in"),
        ({"train": None}, "without the step train, say which model is evaluated"),
        ({"train": {"preset": "none"}}, "no recipe is called 'none'"),
        ({"train": {"settings": {"epochs": 0}}}, "the training settings do not fit: epochs"),
        ({"mixture": ""}, "mixture"),
        ({"steps": 1}, "steps: Extra inputs"),
    ],
)
def test_mistakes_are_told_at_once(work: dict[str, Any], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(VlfilterError) as raised:
        parse_params(work | changed, "run.yaml")
    assert message in str(raised.value)


def test_the_evaluations_fields_are_named_in_mistakes(work: dict[str, Any]) -> None:
    work["evaluate"]["settings"] = {"answer_by": "luck"}
    with pytest.raises(VlfilterError, match=r"evaluate\.settings: answer_by: Input should be 'writing'"):
        parse_params(work, "run.yaml")


def test_the_command_line_says_what_is_not_there(work: dict[str, Any], tmp_path: Path) -> None:
    work["evaluate"]["benchmarks"][0]["data"] = str(tmp_path / "none.jsonl")
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(work))
    found = CliRunner().invoke(app, ["minigpt-v2", "run", "--config", str(tmp_path / "run.yaml")])
    assert found.exit_code != 0
    assert "none.jsonl" in str(found.exception)
    told = ["minigpt-v2", "finetune", "--output", str(tmp_path / "out"), "--mixture", str(tmp_path / "none.yaml")]
    found = CliRunner().invoke(app, told)
    assert "there is no mixture" in str(found.exception)


def test_gpu_work_is_the_training_alone(work: dict[str, Any]) -> None:
    """What goes to another machine is what the training's own form takes."""
    settings = MinigptV2Params.model_validate(work).training()
    assert settings is not None
    assert type(settings).model_validate(settings.model_dump(mode="json", exclude_none=True)) == settings
