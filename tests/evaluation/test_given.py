"""Answers that exist already: files in every published form, and files that do not fit, in one message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.published_files import files, fixture, lines, read, scripted
from vlfilter.data.aokvqa import BadRow
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarks import find_benchmark
from vlfilter.evaluation.benchmarks.base import Reading, Source
from vlfilter.evaluation.given import read_given

QUESTION = {"question_id": "a", "image_id": 3, "question": "What?", "choices": ["M", "A", "dog", "old St. Paul"]}


def given(name: str, url: Path, reading: Reading, allow_missing: bool = False) -> dict[str, str]:
    return read_given(str(url), find_benchmark(name), reading, allow_missing)


@pytest.mark.parametrize("mode", ["fixed", "compat"])
@pytest.mark.parametrize("name", ["okvqa", "vizwiz", "vsr", "seed", "mmbench"])
def test_files_that_we_write_are_read(name: str, mode: Any, tmp_path: Path) -> None:
    reading = read(name, tmp_path)
    answered = scripted(name, reading)
    clean = find_benchmark(name).clean
    for file, data in files(name, answered, mode).items():
        (tmp_path / file).write_bytes(data)
        texts = {one.question.item.key: clean(one.written or "") for one in answered}
        if file.endswith("xlsx") and mode == "compat":
            texts = {key: text.capitalize() for key, text in texts.items()}
        assert given(name, tmp_path / file, reading) == texts


def aokvqa(folder: Path) -> Reading:
    rows = [
        QUESTION | {"correct_choice_idx": 3, "direct_answers": ["old st. paul"] * 10},
        QUESTION | {"question_id": "b", "correct_choice_idx": 1, "direct_answers": ["a"] * 10}
        | {"difficult_direct_answer": True},
    ]  # fmt: skip
    (folder / "aokvqa_v1p0_val.json").write_text(json.dumps(rows))
    return find_benchmark("aokvqa").read(Source(str(folder)))


def test_the_leaderboards_file_of_a_okvqa(tmp_path: Path) -> None:
    """A choice's text may be a letter: it is that choice, not the letter's."""
    reading, benchmark = aokvqa(tmp_path), find_benchmark("aokvqa")
    told = {
        "a": {"multiple_choice": "old St. Paul", "direct_answer": "old St. Paul."},
        "b": {"multiple_choice": "A", "direct_answer": "a"},
    }
    (tmp_path / "leader.json").write_text(json.dumps(told))
    texts = given("aokvqa", tmp_path / "leader.json", reading)
    assert texts == {"a/multiple_choice": "D", "a/direct_answer": "old St. Paul.", "b/multiple_choice": "B"}
    marks = {
        rule: [benchmark.mark(question, texts[question.item.key], rule) for question in reading.questions]
        for rule in benchmark.rules
    }
    assert marks == {"fixed": [1.0, 1.0, 1.0], "compat": [0.0, 0.0, 0.0]}  # cut at the stop, and in lower case


def test_rows_of_the_data_engines_evaluation(tmp_path: Path) -> None:
    reading = aokvqa(tmp_path)
    rows = [{"question_id": key, "model_answer": text} for key, text in (("a", "dog"), ("b", "M"))]
    (tmp_path / "aokvqa_eval.json").write_text(json.dumps(rows))
    texts = given("aokvqa", tmp_path / "aokvqa_eval.json", reading)
    assert texts == {"a/multiple_choice": "C", "a/direct_answer": "dog", "b/multiple_choice": "A"}


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("vizwiz", [{"answer": "x"}] * 5, "x.json holds 5 answers to 6 questions: they have no ids, so their places"),
        ("vizwiz", [{"answer": "x"}] * 7, "x.json holds 7 answers to 6 questions"),
        ("okvqa", [{"question_id": 1, "answer": "x"}], "1 answers to 3 questions: 2 of them, 2, 3 (with --allow"),
        (
            "okvqa",
            [{"question_id": n, "answer": "x"} for n in (1, 2, 3, 4, 77)],
            "x.json answers questions that are not asked: 2 of them, 4, 77.",
        ),
        (
            "okvqa",
            [{"question_id": n, "answer": "x"} for n in (1, 2, 3, 2)],
            "x.json answers some questions twice: 1 of them, 2.",
        ),
        ("okvqa", [{"question_id": 1, "answer": 5}], "entry 0: answer is not a text"),
        ("okvqa", [{"question_id": 1, "answer": "x"}, {"answer": "y"}], "entry 1: it has no question_id"),
        ("seed", [{"question_id": 101}], "entry 0: has no text"),
        ("okvqa", [], "x.json holds no answers to okvqa (answer)"),
        ("okvqa", [3], "entry 0: the row is not an object"),
    ],
)
def test_a_file_that_does_not_fit(name: str, entries: list[Any], message: str, tmp_path: Path) -> None:
    reading = read(name, tmp_path)
    (tmp_path / "x.json").write_text(json.dumps(entries))
    with pytest.raises(VlfilterError) as raised:
        given(name, tmp_path / "x.json", reading)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_lines_that_are_no_json_and_files_that_are_not_there(tmp_path: Path) -> None:
    reading = read("seed", tmp_path)
    (tmp_path / "x.jsonl").write_text(lines([{"question_id": 101, "text": "a"}]) + "{oops\n")
    with pytest.raises(VlfilterError, match=r"x\.jsonl cannot be read as answers: entry 1: line 2 is no JSON"):
        given("seed", tmp_path / "x.jsonl", reading)
    (tmp_path / "x.xlsx").write_bytes(b"no zip")
    with pytest.raises(VlfilterError, match="is not a sheet in Excel's format"):
        given("mmbench", tmp_path / "x.xlsx", read("mmbench", tmp_path))
    for name in ("gone.xlsx", "gone.jsonl", "gone.json"):
        with pytest.raises(VlfilterError, match=f"there is no file .*{name}"):
            given("seed", tmp_path / name, reading)


def test_missing_answers_may_be_allowed(tmp_path: Path) -> None:
    reading = read("okvqa", tmp_path)
    (tmp_path / "x.json").write_text(json.dumps([{"question_id": "2", "answer": "x"}]))
    assert given("okvqa", tmp_path / "x.json", reading, allow_missing=True) == {"2": "x"}
    (tmp_path / "y.json").write_text(json.dumps([{"answer": "x"}]))
    assert given("vizwiz", tmp_path / "y.json", read("vizwiz", tmp_path), allow_missing=True) == {"v0.jpg": "x"}


def test_answers_to_rows_that_cannot_be_asked_are_let_be(tmp_path: Path) -> None:
    reading = read("okvqa", tmp_path)
    reading.bad.append(BadRow(3, "9", "it has no question", {}))
    entries = [{"question_id": n, "answer": "x"} for n in (1, 2, 3, 9)]
    (tmp_path / "x.json").write_text(json.dumps(entries))
    assert list(given("okvqa", tmp_path / "x.json", reading)) == ["1", "2", "3"]
    places = read("vizwiz", tmp_path)
    del places.questions[2]
    places.bad.append(BadRow(2, "v2.jpg", "it has no question", {}))
    (tmp_path / "y.json").write_text(json.dumps([{"answer": str(n)} for n in range(6)]))
    assert list(given("vizwiz", tmp_path / "y.json", places).values()) == ["0", "1", "3", "4", "5"]


def test_the_fixture_as_a_file_scores_what_is_stored(tmp_path: Path) -> None:
    """A stored answer has lost its `<unk>`, so a file scores at least what the run did."""
    reading, benchmark = read("vizwiz", tmp_path), find_benchmark("vizwiz")
    (tmp_path / "vizwiz.json").write_text(json.dumps(fixture("vizwiz")["result_file"]))
    texts = given("vizwiz", tmp_path / "vizwiz.json", reading)
    marks = [benchmark.mark(question, texts[question.item.key], "compat") for question in reading.questions]
    assert sum(marks) == pytest.approx(3.0)
