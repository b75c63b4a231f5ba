"""Step 1 with a small model and real files: every question accounted for, nothing answered twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.evaluation.small_model import WORDS, save_images, save_model
from tests.helpers import jpeg
from vlfilter.cli.data_engine import app
from vlfilter.data.aokvqa import read_rows
from vlfilter.data.storage import filesystem
from vlfilter.errors import VlfilterError
from vlfilter.evaluation import run as answering
from vlfilter.evaluation.model import ModelSettings
from vlfilter.evaluation.run import RunSettings
from vlfilter.methods.data_engine.bad_cases import SplitSettings
from vlfilter.methods.data_engine.evaluate import EvaluatePlaces, EvaluateSettings, evaluate
from vlfilter.methods.data_engine.sampling import plan_types
from vlfilter.methods.data_engine.weights import read_weights

COUNT = 24
TYPES = ["image_scene", "spatial_relationship", "future_prediction"]


def question(number: int, **changes: Any) -> dict[str, Any]:
    choices = [WORDS[(number + i) % len(WORDS)] for i in range(4)]
    row = {
        "split": "val",
        "image_id": number,
        "question_id": f"q{number:02d}",
        "question": f"What is number {number}?",
        "choices": choices,
        "correct_choice_idx": number % 4,
        "direct_answers": [choices[number % 4]] * 10,
        "difficult_direct_answer": number % 5 == 0,
        "question_type": TYPES[number % 3],
    }
    return {name: value for name, value in (row | changes).items() if value is not None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate")
    save_model(root / "model")
    save_images(root / "val2017", COUNT)
    (root / "val2017" / "odd name.jpg").write_bytes(jpeg(50))
    rows = [question(i) for i in range(COUNT)]
    (root / "questions.json").write_text(json.dumps(rows))
    rows[1] |= {"image_id": 900}  # an image that COCO has not
    rows[4] |= {"choices": []}
    rows[6] = question(6, question_type=None)
    rows[7] |= {"question_type": "flavour"}
    rows[8] = question(8, question_id=None)
    rows[9] |= {"image_id": "odd name"}
    (root / "mixed.json").write_text(json.dumps(rows))
    return root


def settings(folder: Path, **changes: Any) -> EvaluateSettings:
    made = EvaluateSettings(
        ModelSettings(str(folder / "model"), "data_engine", device="cpu"),
        RunSettings(str(folder / "val2017"), shard=10, batch_tokens=1000),
        SplitSettings("original"),
    )
    return replace(made, **changes)


Counter = Callable[[], int]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How many questions have been put to the model."""
    counts: list[int] = []
    answer = answering._answer

    def counting(items: Any, *rest: Any) -> Any:
        counts.append(len(items))
        return answer(items, *rest)

    monkeypatch.setattr(answering, "_answer", counting)
    return lambda: sum(counts)


def load(url: str) -> Any:
    return json.loads(Path(url).read_text())


def test_the_files_of_a_round(folder: Path, tmp_path: Path) -> None:
    told = evaluate(str(folder / "questions.json"), str(tmp_path), settings(folder))
    places = EvaluatePlaces.of(str(tmp_path))
    rows, weights, cases = load(places.rows), read_weights(places.weights), load(places.bad_cases)
    assert len(rows) == COUNT  # the last one too
    assert list(rows[0]) == [
        "image_id", "image_path", "idx", "question", "choices", "correct_choice_idx", "direct_answers",
        "difficult_direct_answer", "model_answer", "question_type", "prompt",
    ]  # fmt: skip
    assert rows[3]["image_path"] == "val2017/000000000003.jpg"
    mistaken = [row for row in rows if row["model_answer"] != row["choices"][row["correct_choice_idx"]]]
    wrong = {kind: [row for row in mistaken if row["question_type"] == kind] for kind in TYPES}
    assert cases == wrong
    assert weights == {kind: round(len(some) / 8, 3) for kind, some in wrong.items()}
    assert told["accuracy"] == pytest.approx(100 * (1 - sum(map(len, wrong.values())) / COUNT))
    assert 0 < told["accuracy"] < 100
    table = pq.read_table(places.table).to_pylist()
    for entry, row in zip(table, rows, strict=True):
        assert entry["nll"].index(min(entry["nll"])) == entry["choice"]
        assert entry["model_answer"] == row["choices"][entry["choice"]] == row["model_answer"]
    again, bad = read_rows(places.bad_cases)
    assert (len(again), bad) == (sum(map(len, wrong.values())), [])
    assert plan_types(cases, weights, 2).types  # what the next step reads


def test_every_row_that_went_in_is_accounted_for(folder: Path, tmp_path: Path) -> None:
    told = evaluate(str(folder / "mixed.json"), str(tmp_path), settings(folder, direct=True))
    places = EvaluatePlaces.of(str(tmp_path))
    table = {entry["row"]: entry for entry in pq.read_table(places.table).to_pylist()}
    assert list(table) == list(range(COUNT))
    assert told["questions"] == COUNT
    assert told["rows"] == {"ok": COUNT - 2, "missing_image": 1, "bad_row": 1}
    assert (table[1]["status"], table[1]["reason"]) == ("missing_image", "there is no image 000000000900.jpg")
    assert (table[4]["status"], table[4]["reason"]) == ("bad_row", "it has no choices")
    assert table[8]["question_id"] == "row-8"
    assert table[9]["status"] == "ok"
    assert told["untyped"] == 1
    assert told["undefined_types"] == {"flavour": 1}
    assert {entry["reason"] for entry in told["reasons"]} == {table[1]["reason"], table[4]["reason"]}
    types = {entry["type"]: entry for entry in told["types"]}
    assert sum(entry["questions"] for entry in types.values()) == COUNT - 1
    assert types["spatial_relationship"]["unanswered"] == 1
    assert set(load(places.bad_cases)) == {*TYPES, "flavour"}
    assert told["direct_answer"] is not None
    assert all(isinstance(entry["direct_answer"], str) for entry in table.values() if entry["status"] == "ok")
    assert table[1]["direct_reason"] == table[1]["reason"]


def test_the_same_again_does_nothing_and_gives_the_same_bytes(folder: Path, tmp_path: Path, asked: Counter) -> None:
    evaluate(str(folder / "questions.json"), str(tmp_path / "one"), settings(folder))
    assert asked() == COUNT
    told = evaluate(str(folder / "questions.json"), str(tmp_path / "one"), settings(folder))
    assert asked() == COUNT
    assert evaluate(str(folder / "questions.json"), str(tmp_path / "two"), settings(folder)) == told
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), path
    asked_before = asked()
    other = settings(folder, split=SplitSettings(seed=1))  # another split of the same answers
    assert set(evaluate(str(folder / "questions.json"), str(tmp_path / "one"), other)["parts"]) == {"steer", "report"}
    assert asked() == asked_before


def test_held_out_questions_do_not_steer(folder: Path, tmp_path: Path) -> None:
    evaluate(str(folder / "questions.json"), str(tmp_path), settings(folder, split=SplitSettings()))
    places = EvaluatePlaces.of(str(tmp_path))
    parts = {row["idx"]: row["part"] for row in load(places.rows)}
    assert set(parts.values()) == {"steer", "report"}
    assert {case["part"] for cases in load(places.bad_cases).values() for case in cases} == {"steer"}
    assert {entry["question_id"]: entry["part"] for entry in pq.read_table(places.table).to_pylist()} == parts


def test_all_of_it_may_lie_in_an_object_store(folder: Path, tmp_path: Path, s3: str) -> None:
    fs, root = filesystem(s3)
    for path in [folder / "questions.json", *(folder / "val2017").glob("0*.jpg")]:
        fs.put_file(str(path), f"{root}/{path.relative_to(folder)}")
    there = settings(folder, run=replace(settings(folder).run, images=f"{s3}/val2017"))
    told = evaluate(f"{s3}/questions.json", f"{s3}/round_1", there)
    assert evaluate(f"{s3}/questions.json", f"{s3}/round_1", there) == told
    evaluate(str(folder / "questions.json"), str(tmp_path), settings(folder))
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert fs.cat_file(f"{root}/round_1/{path.relative_to(tmp_path)}") == path.read_bytes()


def test_importing_loads_no_torch() -> None:
    code = "import sys, vlfilter.methods.data_engine.evaluate; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_wrong_folder_of_images_is_said(folder: Path, tmp_path: Path) -> None:
    wrong = settings(folder, run=RunSettings(str(tmp_path / "nowhere")))
    with pytest.raises(VlfilterError, match=r"none of the 24 questions could be answered, .*no image 000000000000.jpg"):
        evaluate(str(folder / "questions.json"), str(tmp_path / "out"), wrong)
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(VlfilterError, match="holds no question"):
        evaluate(str(tmp_path / "empty.json"), str(tmp_path / "out"), settings(folder))


def test_the_command(folder: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "--model", str(folder / "model"), "--questions", str(folder / "mixed.json")]
    arguments += ["--images", str(folder / "val2017"), "--output", str(tmp_path), "--template", "data_engine"]
    arguments += ["--device", "cpu", "--seed", "3", "--shard", "10"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "22 ok, 1 bad_row, 1 missing_image" in result.output
    assert "no definition of flavour" in result.output
    assert "1 questions have no type" in result.output
    assert (tmp_path / "weight.json").exists()
    failed = CliRunner().invoke(app, [*arguments, "--holdout", "1.5"])
    assert isinstance(failed.exception, VlfilterError)
    assert "a share of 1.5 cannot be held out" in str(failed.exception)
    unknown = CliRunner().invoke(app, [*arguments, "--template", "nope"])
    assert "no prompt template is called 'nope'" in str(unknown.exception)
