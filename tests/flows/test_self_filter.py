"""From instructions to a tuned model: a flow on a real server, a judge behind the real client, real trainings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from prefect.states import State
from typer.testing import CliRunner

from tests.llm.vendor import VendorServer
from tests.methods.self_filter import small as instructions
from tests.reward_models import fixture_folder
from tests.training import small
from vlfilter.cli.app import app
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.params import STEPS, SelfFilterParams, parse_params

TRAIN = {"settings": {"per_device_batch": 4, "batch_size": 4, "epochs": 1, "bad_rows": 0.5, "max_length": 1024}}


def run(params: dict[str, Any]) -> State[Any]:
    from flows.self_filter import self_filter

    return self_filter(parse_params(params, "test"), return_state=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "clip": str(instructions.clip(folder / "clip")),
        "reward": str(fixture_folder(folder / "reward")),
        "start": str(small.checkpoint(folder / "start")),
    }


@pytest.fixture
def work(tmp_path: Path, models: dict[str, str]) -> dict[str, Any]:
    """24 instructions about eight images in shards of ten, two of them without use, and every step."""
    told = small.data(tmp_path)
    rows = json.loads(Path(told["data"]).read_text())
    rows[5]["conversations"][0]["from"] = "system"
    rows[6]["image"] = "gone.jpg"
    Path(told["data"]).write_text(json.dumps(rows))
    start = {"settings": TRAIN["settings"] | {"model": models["start"]}}
    return {
        "output": str(tmp_path / "out"),
        "images": told["images"],
        "preprocess": {"annotations": told["data"], "rows_per_shard": 10},
        "features": {"clip_model": models["clip"], "device": "cpu"},
        "stage1": {"preset": "self_filter_tiny", **start},
        "select": {"budget": 6, "neighbours": 2},
        "tune": {"preset": "mlm_filter_tiny", **start},
    }


def stamps(folder: str) -> dict[str, int]:
    kinds = (".parquet", ".json", ".safetensors")
    return {str(path): path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.suffix in kinds}


@pytest.mark.usefixtures("prefect_api")
def test_the_whole_way_once(work: dict[str, Any]) -> None:
    """Each step leaves its files; a second run touches none of them; a smaller budget makes anew what hangs on it."""
    state = run(work)
    assert state.is_completed(), state.message
    out = Path(work["output"])
    picks = pq.read_table(out / "picks.parquet")
    assert picks.column_names == ["rank", "id", "difficulty", "penalty"]
    assert len(picks) == 6
    usable = [i for i in range(24) if i not in (5, 6) and i % 4 != 3]
    assert set(picks["id"].to_pylist()) <= set(usable)
    chosen = json.loads((out / "selected.json").read_text())
    given = json.loads(Path(work["preprocess"]["annotations"]).read_text())
    assert chosen == [given[i] for i in picks["id"].to_pylist()]
    statuses = pq.read_table(out / "difficulty.parquet")["status"].to_pylist()
    assert [i for i, status in enumerate(statuses) if status == "ok"] == usable
    assert json.loads((out / "tune" / "finetune.json").read_text())["rows"] == 6

    before = stamps(work["output"])
    assert run(work).is_completed()
    assert stamps(work["output"]) == before
    fewer = run({**work, "select": {"budget": 3, "neighbours": 2}, "tune": None})
    assert fewer.is_completed(), fewer.message
    assert pq.read_table(out / "picks.parquet")["id"].to_pylist() == picks["id"].to_pylist()[:3]


@pytest.mark.usefixtures("prefect_api")
def test_three_scores(work: dict[str, Any], models: dict[str, str], vendor: VendorServer) -> None:
    """The judge is asked about usable rows once; what it does not say is the mean of what it says."""
    vendor.answer = lambda body: "well" if "number 4" in json.dumps(body) else f"{len(json.dumps(body)) % 11}/10"
    scores = {
        **work,
        "features": {**work["features"], "kind": "scores", "reward_model": models["reward"]},
        "judge": {"base_url": vendor.base_url("openai"), "max_usd": 5},
        "tune": None,
    }
    state = run(scores)
    assert state.is_completed(), state.message
    assert "1 judge scores missing" in str(state.message)
    asked = len(vendor.questions())
    assert asked == 23
    files = sorted((Path(work["output"]) / "features" / "scores").glob("*.parquet"))
    kept = [row for file in files for row in pq.read_table(file).to_pylist() if row["status"] == "ok"]
    for name in ("clip_score", "image_reward", "judge_score"):
        values = [row[name] for row in kept]
        assert (min(values), max(values)) == (-1, 1)
    assert run(scores).is_completed()
    assert len(vendor.questions()) == asked


@pytest.mark.usefixtures("prefect_api")
def test_a_step_without_what_it_needs_says_so(work: dict[str, Any]) -> None:
    state = run({"output": work["output"], "select": {"budget": 3}})
    assert state.is_failed()
    assert "stage1/model' does not exist" in str(state.message)
    gone = run({**work, "images": f"{work['images']}/nowhere"})
    assert gone.is_failed()
    assert "there is no folder" in str(gone.message)
    assert not Path(work["output"]).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "need `images`"),
        (dict.fromkeys(STEPS), "no step is given"),
        ({"kind": "scores"}, "makes clip"),
        ({"select": {"budget": "many"}}, "select.budget: budget 'many': give a number"),
        ({"select": {"budget": 0}}, "select.budget: budget 0: at least 1"),
        ({"stage1": {"preset": "self_filter_tiny", "settings": {"per_device_batch": 1, "model": "m"}}}, "batch"),
    ],
)
def test_parameters_that_do_not_fit_are_told_at_once(
    work: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(VlfilterError, match=message):
        parse_params({**work, **change}, "run.yaml")


def test_the_gpu_s_part_is_told_all_it_needs(work: dict[str, Any]) -> None:
    whole = parse_params({**work, "kind": "clip", "gpu_deployment": "self-filter-gpu/main"}, "test")
    part = whole.only("stage1")
    assert part is not None
    assert SelfFilterParams.model_validate(part.model_dump(mode="json", exclude_none=True)) == part
    assert part.co_training() == whole.co_training()
    assert part.gpu_deployment is None
    assert whole.only("judge") is None


@pytest.mark.usefixtures("prefect_api")
def test_the_command_runs_a_file(tmp_path: Path, work: dict[str, Any]) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({name: work[name] for name in ("output", "preprocess")}))
    result = CliRunner().invoke(app, ["self-filter", "run", "--config", str(config)])
    assert result.exit_code == 0, result.output
    assert "24 instructions" in result.output
    config.write_text("output: [")
    assert "is not YAML" in str(CliRunner().invoke(app, ["self-filter", "run", "--config", str(config)]).exception)
