"""SEED-Bench (Li et al., 2023), its questions about single images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlfilter.data.aokvqa import BadRow
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarks import TITLES
from vlfilter.evaluation.benchmarks.base import Answered, Answers, Benchmark, Question, Reading, Source, json_lines
from vlfilter.evaluation.benchmarks.letters import chosen_letter, first_letter, lettered_question
from vlfilter.evaluation.benchmarks.reading import (
    Row,
    as_number,
    beside,
    collect,
    find_file,
    id_of,
    read_json,
    read_rows,
    text_of,
)
from vlfilter.evaluation.items import Item

QUESTIONS = ("seed-bench-image.jsonl", "llava-seed-bench.jsonl")  # with the prompt's text
ANNOTATIONS = ("SEED-Bench-image.json", "SEED-Bench.json")  # with options and answers
LETTERS = ("A", "B", "C", "D")


class Seed(Benchmark):
    """`data` is the file of lines with the prompts, or SEED-Bench.json, from which the same prompts are made.

    The published rule takes an answer's first character. Here the option that is meant counts.
    """

    name = "seed"
    title = TITLES["seed"]
    text_names = ("text",)

    def read(self, source: Source) -> Reading:
        data = find_file(source.data, (*QUESTIONS, *ANNOTATIONS), "SEED-Bench")
        truths = source.annotations or ("" if data.endswith(".json") else beside(source.data, ANNOTATIONS))
        types, known = _annotations(find_file(truths, ANNOTATIONS, "SEED-Bench annotations")) if truths else ({}, {})
        if data.endswith(".json"):
            types, known = _annotations(data)
            rows: list[Row | BadRow] = [row for row in known.values() if row.get("data_type", "image") == "image"]
        else:
            rows = read_rows(data)

        def parse(number: int, row: Row) -> Question:
            key = id_of(row, "question_id")
            truth = known.get(key, {})
            if truths and not truth:
                raise ValueError(f"the annotations have no question {key}")
            options = {letter: str(truth[f"choice_{letter.lower()}"]) for letter in LETTERS if _option(truth, letter)}
            answer = str(truth.get("answer") or "").strip()
            if truth and answer.upper() not in options:
                raise ValueError(f"its answer {answer!r} is none of its options")
            text = row.get("text")
            if text is None:
                text = lettered_question(text_of(row, "question"), options)
            elif not isinstance(text, str) or not text.strip():
                raise ValueError("text is empty or no text")
            image = text_of(row, "image", "data_id")
            told = {"question_id": row["question_id"], "prompt": f"{source.tag}{text}"}
            kind = types.get(truth.get("question_type_id"), "")
            return Question(
                number, Item(key, told["prompt"], (), (image,)), (answer,) if answer else (), options, kind, row=told
            )

        return collect(rows, parse)

    def mark(self, question: Question, written: str, rule: str) -> float:
        text, truth = self.clean(written), question.truth[0]
        if rule == "compat":
            return float(first_letter(text, truth))
        return float(chosen_letter(text, question.options) == truth.upper())

    def files(self, answers: Answers) -> dict[str, bytes]:
        return {"seed.jsonl": json_lines([result_line(self, one, answers.model_id) for one in answers.answered])}


def result_line(benchmark: Benchmark, one: Answered, model_id: str, **more: Any) -> dict[str, Any]:
    row = one.question.row
    told = {"text": benchmark.clean(one.written or ""), "prompt": row["prompt"]}
    return told | {"question_id": as_number(row["question_id"]), **more, "model_id": model_id, "metadata": {}}


def converter_report(answered: Sequence[Answered]) -> str:
    """What the published converter prints of answers to questions about images; its `KeyError` for a type without a
    right answer is 0.00% here."""
    seed = Seed()
    marks: dict[str, list[float]] = {}
    for one in answered:
        right = 0.0 if one.written is None else seed.mark(one.question, one.written, "compat")
        marks.setdefault(one.question.category, []).append(right)
    every = [mark for group in marks.values() for mark in group]
    lines = [f"{name}: {_percent(group)}" for name, group in marks.items()]
    return "\n".join([*lines, f"Total accuracy: {_percent(every)}", f"image accuracy: {_percent(every)}", ""])


def _percent(marks: Sequence[float]) -> str:
    return f"{100 * sum(marks) / len(marks):.2f}%"


def _option(truth: Row, letter: str) -> bool:
    return truth.get(f"choice_{letter.lower()}") is not None


def _annotations(url: str) -> tuple[dict[Any, str], dict[str, Row]]:
    """Names of question types by number, and the annotated questions by id. Raises `VlfilterError`."""
    found = read_json(url)
    if not isinstance(found, dict) or not isinstance(found.get("questions"), list):
        raise VlfilterError(f"{url} is not SEED-Bench's file of annotations: it has no list of questions.")
    types = {number: name for name, number in (found.get("question_type") or {}).items()}
    rows = [row for row in found["questions"] if isinstance(row, dict) and "question_id" in row]
    return types, {str(as_number(row["question_id"])): row for row in rows}
