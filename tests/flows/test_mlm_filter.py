"""From captions to a subset: a flow on a real server, a teacher behind the real client, a model really trained."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prefect.states import State

from tests.helpers import jpeg, make_tar, pair
from tests.llm.vendor import VendorServer, prompt_of
from vlfilter.data.annotations import read_instructions
from vlfilter.data.scores import Scores
from vlfilter.methods.mlm_filter.grades import read_grades
from vlfilter.methods.mlm_filter.params import MlmFilterParams, parse_params
from vlfilter.scoring.mlm_filter_prompts import METRICS

FIXTURE = Path(__file__).parents[1] / "fixtures" / "mlm_filter"
METRIC = f"{METRICS[0]},{METRICS[2]}"
pytestmark = pytest.mark.usefixtures("prefect_api")


def run(params: dict[str, Any]) -> State[Any]:
    from flows.mlm_filter import mlm_filter

    return mlm_filter(parse_params(params, "test"), return_state=True)


def teacher(body: Any) -> str:
    """Grades by the number in the caption."""
    number = re.search(r"number (\d+)", prompt_of(body))
    assert number
    return f"{int(number[1]) % 101}\nThe caption says number {number[1]}."


@pytest.fixture
def work(tmp_path: Path, vendor: VendorServer) -> dict[str, Any]:
    """Two shards of 30 pairs, a LLaVA json with images of its own, and the first four steps' parameters."""
    vendor.answer = teacher
    for shard in range(2):
        numbers = range(30 * shard, 30 * shard + 30)
        samples = [(f"{n:05d}", pair(f"{n:05d}", f"a picture with number {3 * n}", jpeg(n, (24, 16)))) for n in numbers]
        make_tar(tmp_path / "data" / f"{shard:05d}.tar", samples)
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "1.jpg").write_bytes(jpeg(1, (24, 16)))
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A picture."}]
    rows = [{"id": f"g{i}", "image": "1.jpg", "conversations": turns} for i in range(8)]
    (tmp_path / "llava.json").write_text(json.dumps(rows))
    return {
        "output": str(tmp_path / "out"),
        "sample": {"shards": str(tmp_path / "data"), "pairs": 40, "clusters": 4},
        "grade": {"teacher": "openai:gpt-4o", "base_url": vendor.openai_url, "metric": METRIC, "max_usd": 5},
        "balance": {"per_metric": 12},
        "mix": {"data": str(tmp_path / "llava.json"), "rows": 5, "images": str(tmp_path / "coco")},
    }


def test_from_shards_to_instructions_and_nothing_twice(
    work: dict[str, Any], vendor: VendorServer, tmp_path: Path
) -> None:
    state = run(work)
    assert state.is_completed(), state.message
    assert state.message is not None
    assert state.message.splitlines()[0] == "40 of 60 pairs chosen (none without use)"
    out = tmp_path / "out"
    assert len(read_grades(str(out / "grades.parquet"))) == 80
    good, bad = read_instructions(str(out / "instructions.json"))
    assert bad == []
    assert Counter(row.image is not None and row.image.split("/")[0] for row in good) == {"quality": 24, "general": 5}
    assert all((out / "images" / str(row.image)).is_file() for row in good)
    for row in good:
        if row.image and row.image.startswith("quality/"):
            question, answer = row.pairs[0]
            assert int(answer.split("\n")[0]) == int(re.search(r"number (\d+)", question)[1]) % 101  # type: ignore[index]

    asked = len(vendor.questions())
    assert asked == 80
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and "answers" not in path.parts}
    assert run(work).message == state.message
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert len(vendor.questions()) == asked

    assert run({**work, "balance": {"per_metric": 6}}).is_completed()  # what comes after a change is made again
    assert len(read_instructions(str(out / "instructions.json"))[0]) == 17
    assert len(vendor.questions()) == asked


def test_every_step_starts_alone_from_files(work: dict[str, Any], vendor: VendorServer, tmp_path: Path) -> None:
    whole = Path(work["output"])
    for name in ("sample", "grade", "balance", "mix"):
        state = run({"output": work["output"], name: work[name]})
        assert state.is_completed(), state.message
    assert (whole / "instructions.json").is_file()
    other = str(tmp_path / "other")
    given = {
        "grade": {**work["grade"], "pairs": str(whole / "pairs.json"), "images": str(whole / "images")},
        "balance": {**work["balance"], "grades": str(whole / "grades.parquet")},
        "mix": {"rows": 0, "balanced": str(whole / "balanced.parquet")},
    }
    for name, fields in given.items():
        assert run({"output": other, name: fields}).is_completed()
    assert read_grades(f"{other}/grades.parquet") == read_grades(str(whole / "grades.parquet"))
    assert len(read_instructions(f"{other}/instructions.json")[0]) == 24


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("grade", "there is no list of pairs"),
        ("balance", "there are no grades"),
        ("mix", "there are no balanced grades"),
    ],
)
def test_a_step_without_the_one_before_it_says_so(work: dict[str, Any], step: str, message: str) -> None:
    state = run({"output": work["output"], step: work[step]})
    assert state.is_failed()
    assert message in str(state.message)


def test_a_used_up_budget_fails_the_run_and_keeps_the_answers(work: dict[str, Any], vendor: VendorServer) -> None:
    poor = {**work, "grade": {**work["grade"], "max_usd": 0.02, "concurrency": 1}}
    state = run(poor)
    assert state.is_failed()
    assert "Finished answers are cached: raise max_usd and run again" in str(state.message)
    paid = len(vendor.questions())
    assert 0 < paid < 80
    assert run(work).is_completed()
    assert len(vendor.questions()) == 80


def test_the_run_page_shows_grades_balance_and_choice(work: dict[str, Any], prefect_api: str) -> None:
    assert run(work).is_completed()
    latest = httpx.post(f"{prefect_api}/artifacts/latest/filter", json={}).raise_for_status().json()
    found = {artifact["key"]: artifact["data"] for artifact in latest}
    assert sum(row["chosen"] for row in json.loads(found["mlm-filter-clusters"])) == 40
    assert json.loads(found["mlm-filter-grades"])[0] == {"status": "ok", "rows": 80, "reason": ""}
    spent = json.loads(found["judge-spending"])
    assert {(row["step"], row["round"], row["requests"]) for row in spent} == {
        ("mlm_filter grade", METRICS[0], "40"), ("mlm_filter grade", METRICS[2], "40"),
    }  # fmt: skip
    balance = json.loads(found["mlm-filter-balance"])
    assert sum(row["chosen"] for row in balance) == 24
    assert sum(row["graded"] for row in balance) == 80


def test_a_checkpoint_from_elsewhere_scores_and_selects(tmp_path: Path) -> None:
    """The last two steps alone, twice: finished tables and an unchanged subset are left as they are."""
    params = {
        "output": str(tmp_path / "out"),
        "score": {"shards": str(FIXTURE / "00000000.tar"), "model": str(FIXTURE), "metric": METRIC, "device": "cpu"},
        "select": {"where": f"{METRICS[2]}_score >= top(2)", "output": str(tmp_path / "kept.txt")},
    }
    state = run(params)
    assert state.is_completed(), state.message
    assert "1 shards scored. mlm_filter: 5 samples, " in str(state.message)
    kept = (tmp_path / "kept.txt").read_text().split()
    assert len(kept) == 2
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.suffix in (".txt", ".parquet")}
    assert run(params).message == state.message
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    select = {**params["select"], "scores": str(tmp_path / "out" / "scores")}
    assert run({"output": str(tmp_path / "alone"), "select": select}).message == str(state.message).splitlines()[-1]

    broken = {**params, "score": {**params["score"], "shards": str(tmp_path / "broken.tar")}}
    (tmp_path / "broken.tar").write_bytes(b"no tar" * 1000)
    failed = run({**broken, "output": str(tmp_path / "other")})
    assert failed.is_failed()
    assert str(failed.message).startswith("scoring: 1 of 1 shards have no score table")


@pytest.mark.slow
def test_a_model_is_trained_scores_and_selects(work: dict[str, Any], prefect_api: str, tmp_path: Path) -> None:
    from tests.scoring.mlm_models import llama_2_tokenizer, save

    base = save(tmp_path / "base", llama_2_tokenizer(), max_position_embeddings=4096)
    tiny = {"model": str(base), "max_length": 2048, "save_steps": 1}
    params = {
        **work,
        "balance": {"per_metric": 5},
        "finetune": {"preset": "mlm_filter_tiny", "settings": tiny},
        "score": {"shards": str(tmp_path / "data" / "00001.tar"), "metric": METRIC, "device": "cpu"},
        "select": {"where": f"{METRICS[0]}_score >= top(25%)"},
    }
    state = run(params)
    assert state.is_completed(), state.message
    assert str(state.message).splitlines()[-1].startswith("7 of 30 samples in ")
    out = tmp_path / "out"
    assert np.load(out / "kept.npy").shape == (7,)
    scores = Scores.open(str(out / "scores"))
    for _, table in scores.stream([f"{METRICS[0]}_score", f"{METRICS[2]}_score", "status"]):
        assert table["status"].to_pylist() == ["ok"] * 30
        assert all(0 <= value <= 100 for value in table[f"{METRICS[0]}_score"].to_pylist())
    options = scores.footer(scores.shards[0]).parts["options"]
    assert (options["image_mode"], options["template"], options["prompt"]) == ("pad", "vicuna_v1", "1")

    latest = httpx.post(f"{prefect_api}/artifacts/latest/filter", json={}).raise_for_status().json()
    found = {artifact["key"]: artifact["data"] for artifact in latest}
    assert found["mlm-filter-loss"].startswith("data:image/png;base64,")
    training = json.loads(found["mlm-filter-training"])[0]
    assert training["steps"] == 2  # 15 rows, 8 a step
    assert "kept 7 of 30 rows" in found["mlm-filter-selection"]

    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    again = run(params)
    assert again.is_completed()
    assert "was trained already in 2 steps" in str(again.message)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")} == stamps

    (out / "images" / "general").unlink()
    missing = run({**params, "mix": None, "finetune": {**params["finetune"], "output": str(tmp_path / "again")}})
    assert missing.is_failed()
    assert "have no image below" in str(missing.message)


def test_the_parameters_make_a_form() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.mlm_filter import mlm_filter

    schema = parameter_schema(mlm_filter)
    assert set(schema.definitions) >= {"MlmFilterParams", "SampleStep", "GradeStep", "FinetuneStep", "SelectStep"}
    assert schema.definitions["MlmFilterParams"]["required"] == ["output"]
    assert set(MlmFilterParams.model_fields) == set(schema.definitions["MlmFilterParams"]["properties"])
