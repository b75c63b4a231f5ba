"""All benchmarks with a small model and real images: every question a row, nothing answered twice."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest

from tests.evaluation.published_files import TABLE, fixture, published
from tests.evaluation.small_model import save_model
from tests.helpers import jpeg
from vlfilter.errors import VlfilterError
from vlfilter.evaluation import run as answering
from vlfilter.evaluation.benchmarking import evaluate_benchmarks, read_scores
from vlfilter.evaluation.params import EvaluateParams, parse_params

CHOICES = [["cat", "dog", "cow", "hen"], ["one", "two", "three", "four"]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The fixtures' questions with images of which two are no images, and A-OKVQA; a model with random weights."""
    root = tmp_path_factory.mktemp("world")
    images = root / "images"
    images.mkdir()
    names = [f"s{n}.jpg" for n in range(101, 113)] + [f"v{n}.jpg" for n in range(6)] + [f"{n}.jpg" for n in range(4)]
    names += ["COCO_val2014_000000000042.jpg", "COCO_val2014_000000000073.jpg", "000000000001.jpg"]
    for number, name in enumerate(names):
        (images / name).write_bytes(jpeg(number, (40, 30)))
    (images / "v3.jpg").unlink()
    (images / "s105.jpg").write_bytes(jpeg(1)[:150])
    rows = [
        {"question_id": f"q{n}", "image_id": 1, "question": "Which?", "choices": CHOICES[n], "correct_choice_idx": n}
        | {"direct_answers": CHOICES[n][n : n + 1] * 10, "difficult_direct_answer": n == 1}
        for n in range(2)
    ]
    (root / "aokvqa.json").write_text(json.dumps(rows))
    steps = [
        {"benchmark": name, "data": published(name, root / name), "images": str(images)}
        for name in ("seed", "mmbench", "okvqa", "vizwiz", "vsr")
    ]
    steps.append({"benchmark": "aokvqa", "data": str(root / "aokvqa.json"), "images": str(images)})
    return {"benchmarks": steps, "model": save_model(root / "model"), "device": "cpu", "template": "vicuna_v1"}


def params(world: Mapping[str, Any], output: Path, *names: str, **changes: Any) -> EvaluateParams:
    steps = [step for step in world["benchmarks"] if not names or step["benchmark"] in names]
    fields = {**world, "output": str(output), "benchmarks": steps, "max_tokens": 4, "shard": 5, **changes}
    return parse_params(fields, "test")


def rows(output: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(output / name / "questions.parquet").to_pylist()
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the questions that were put to the model."""
    keys: list[str] = []
    answer = answering._answer

    def noting(items: Any, *rest: Any) -> Any:
        keys.extend(item.key for item in items)
        return answer(items, *rest)

    monkeypatch.setattr(answering, "_answer", noting)
    return keys


def test_all_benchmarks_with_one_model(world: dict[str, Any], tmp_path: Path, asked: list[str]) -> None:
    told = evaluate_benchmarks(params(world, tmp_path))
    assert [one["benchmark"] for one in told] == ["seed", "mmbench", "okvqa", "vizwiz", "vsr", "aokvqa"]
    assert told == read_scores(params(world, tmp_path))
    assert len(asked) == 12 + 6 + 3 + 6 + 4 + 3
    assert [len(rows(tmp_path, one["benchmark"])) for one in told] == [12, 6, 3, 6, 4, 3]
    counts = {one["benchmark"]: one["rows"] for one in told}
    assert counts["seed"] == {"ok": 11, "corrupt_image": 1}
    assert counts["vizwiz"] == {"ok": 5, "missing_image": 1}
    missing = rows(tmp_path, "vizwiz")[3]
    assert (missing["key"], missing["answer"], missing["fixed"], missing["status"], missing["reason"]) == (
        "v3.jpg", None, 0.0, "missing_image", "there is no image v3.jpg"
    )  # fmt: skip
    handed_in = [json.loads(line) for line in (tmp_path / "seed" / "seed.jsonl").read_text().splitlines()]
    assert [line["question_id"] for line in handed_in] == list(range(101, 113))
    assert {line["model_id"] for line in handed_in} == {"model"}
    sheet = openpyxl.load_workbook(io.BytesIO((tmp_path / "mmbench" / "mmbench.xlsx").read_bytes())).active
    assert sheet.max_row == 7
    assert told[0]["answerer"]["model"] == told[1]["answerer"]["model"]
    for one in told:
        whole = one["scores"][0]
        assert (whole["category"], whole["questions"]) == ("", {"mmbench": 4, "aokvqa": 2}.get(
            one["benchmark"], len(rows(tmp_path, one["benchmark"]))
        ))  # fmt: skip
        assert 0 <= whole["fixed"] <= 100


def test_what_is_answered_is_not_asked_again(world: dict[str, Any], tmp_path: Path, asked: list[str]) -> None:
    first = evaluate_benchmarks(params(world, tmp_path, "seed"))
    del asked[:]
    assert evaluate_benchmarks(params(world, tmp_path, "seed")) == first
    assert asked == ["105"]  # whose image cannot be read: perhaps it can now
    (tmp_path / "seed" / "answers" / "shard-00001.parquet").unlink()
    assert evaluate_benchmarks(params(world, tmp_path, "seed")) == first
    assert asked == ["105", "105", "106", "107", "108", "109", "110"]
    del asked[:]
    evaluate_benchmarks(params(world, tmp_path, "seed", plain_prompts=True))
    assert len(asked) == 12


def test_compat_differs_where_the_published_scripts_do(world: dict[str, Any], tmp_path: Path) -> None:
    evaluate_benchmarks(params(world, tmp_path, "mmbench", "vizwiz", mode="compat"))
    answers = json.loads((tmp_path / "vizwiz" / "vizwiz.json").read_text())
    assert [list(entry) for entry in answers] == [["answer"]] * 6
    line = json.loads((tmp_path / "mmbench" / "mmbench.jsonl").read_text().splitlines()[-1])
    assert line["option_char"] == ["B", "C"]
    assert line["model_id"] == "minigpt4-v2"


@pytest.mark.parametrize("mode", ["fixed", "compat"])
def test_letters_by_likelihood(world: dict[str, Any], tmp_path: Path, mode: str) -> None:
    told = evaluate_benchmarks(params(world, tmp_path, "mmbench", "aokvqa", answer_by="likelihood", mode=mode))
    assert all(row["answer"] in "ABCD" for row in rows(tmp_path, "mmbench"))
    assert [row["measure"] for row in rows(tmp_path, "aokvqa")] == ["multiple_choice"] * 2
    assert told[0]["rows"] == {"ok": 6}
    losses = pq.read_table(tmp_path / "mmbench" / "answers" / "shard-00000.parquet").to_pylist()
    assert [len(row["nll"]) for row in losses][:2] == [2, 2]
    with pytest.raises(VlfilterError, match="okvqa is no multiple choice"):
        evaluate_benchmarks(params(world, tmp_path, "okvqa", answer_by="likelihood"))


def answered(name: str, step: dict[str, Any], output: Path, entries: Any, **changes: Any) -> dict[str, Any]:
    output.mkdir(exist_ok=True)
    (output / "given.json").write_text(json.dumps(entries))
    fields = {"output": str(output), "benchmarks": [step | {"answers": str(output / "given.json"), **changes}]}
    (told,) = evaluate_benchmarks(parse_params(fields, "test"))
    return told


def step_of(world: Mapping[str, Any], name: str) -> dict[str, Any]:
    (step,) = [step for step in world["benchmarks"] if step["benchmark"] == name]
    return {key: value for key, value in step.items() if key != "images"}


def test_answers_that_exist_need_no_model_and_no_images(world: dict[str, Any], tmp_path: Path) -> None:
    told = answered("okvqa", step_of(world, "okvqa"), tmp_path, fixture("okvqa")["result_file"])
    whole = told["scores"][0]
    assert {rule: whole[rule] for rule in ("fixed", "compat", "lavis")} == {
        "fixed": 66.67, "compat": 33.33, "lavis": 66.67
    }  # fmt: skip
    assert told["model"] == "given answers"
    assert [line["category"] for line in told["scores"]] == ["", "four", "one"]


def test_missing_answers_count_as_wrong(world: dict[str, Any], tmp_path: Path) -> None:
    part = fixture("okvqa")["result_file"][:1]
    told = answered("okvqa", step_of(world, "okvqa"), tmp_path, part, allow_missing=True)
    assert told["rows"] == {"ok": 1, "no_answer": 2}
    assert (told["scores"][0]["answered"], told["scores"][0]["fixed"]) == (1, 33.33)


def test_a_question_counts_when_all_its_rotations_are_right(world: dict[str, Any], tmp_path: Path) -> None:
    right = {241: "B", 1000241: "A", 252: "C", 1000252: "A", 300: "A", 301: "B"}
    entries = [{"question_id": key, "text": text} for key, text in right.items()]
    told = answered("mmbench", step_of(world, "mmbench"), tmp_path, entries)
    lines = {line["category"]: (line["questions"], line["fixed"]) for line in told["scores"]}
    assert lines == {"": (4, 75.0), "id": (1, 100.0), "attr": (1, 0.0), "num": (2, 100.0)}
    assert told["single"] == 83.33


def test_right_answers_that_are_not_known(tmp_path: Path) -> None:
    rows = [line.split("\t") for line in TABLE.read_text().replace("\nLine 2", " Line 2").splitlines()]
    place = rows[0].index("answer")
    text = "".join(
        "\t".join([*row[:place], "" if n else "answer", *row[place + 1 :]]) + "\n" for n, row in enumerate(rows)
    )
    (tmp_path / "test.tsv").write_text(text)
    entries = [{"question_id": int(row[0]), "text": "A"} for row in rows[1:]]
    told = answered("mmbench", {"benchmark": "mmbench", "data": str(tmp_path / "test.tsv")}, tmp_path, entries)
    assert told["scores"][0]["fixed"] is None
    assert told["single"] is None
    assert (tmp_path / "mmbench" / "mmbench.xlsx").exists()


def test_bad_rows_are_counted_and_reported(world: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text('{"image": "0.jpg", "caption": "It is.", "label": 1}\n{broken\n')
    step = {"benchmark": "vsr", "data": str(tmp_path), "images": str(tmp_path)}
    (tmp_path / "0.jpg").write_bytes(jpeg(3))
    (told,) = evaluate_benchmarks(params(world, tmp_path, benchmarks=[step]))
    assert told["rows"] == {"ok": 1, "bad_row": 1}
    assert [row["status"] for row in rows(tmp_path, "vsr")] == ["ok", "bad_row"]
    assert any(entry["reason"].startswith("line 2 is no JSON") for entry in told["reasons"])


def test_no_answer_at_all_is_an_error_that_leaves_the_rows(world: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    step = step_of(world, "vsr") | {"images": str(tmp_path / "empty")}
    with pytest.raises(VlfilterError, match=r"none of the 4 questions got an answer, the first because there is no"):
        evaluate_benchmarks(params(world, tmp_path, benchmarks=[step]))
    assert {row["status"] for row in rows(tmp_path, "vsr")} == {"missing_image"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "neither a model nor answers are given for seed"),
        ({"template": "nope"}, "no prompt template is called 'nope'"),
        ({"benchmarks": [{"benchmark": "sed", "data": "x"}]}, "no benchmark is called 'sed'"),
        ({"benchmarks": []}, "at least 1 item"),
        ({"benchmarks": [{"benchmark": "vsr", "data": "x"}] * 2}, "vsr is given twice"),
        ({"model": "openai:x", "answer_by": "likelihood"}, "a server does not tell likelihoods"),
        ({"colour": 1}, "colour: Extra inputs"),
    ],
)
def test_parameters_that_do_not_go_together(
    world: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(VlfilterError, match=message):
        params(world, tmp_path, **changes)


@pytest.mark.parametrize(
    ("images", "message"),
    [("", "vsr: the folder of its images is not given"), ("/nowhere", "vsr: there is no folder /nowhere with images")],
)
def test_images_are_looked_for_before_anything_runs(
    world: dict[str, Any], tmp_path: Path, images: str, message: str
) -> None:
    with pytest.raises(VlfilterError, match=message):
        evaluate_benchmarks(params(world, tmp_path, benchmarks=[step_of(world, "vsr") | {"images": images}]))
    assert not (tmp_path / "vsr").exists()
