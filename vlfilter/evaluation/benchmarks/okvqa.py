"""OK-VQA (Marino et al., 2019), its test split."""

from __future__ import annotations

import json
from typing import Any

from vlfilter.evaluation.benchmarks import TITLES
from vlfilter.evaluation.benchmarks.base import Answers, Benchmark, Question, Reading, Source
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
from vlfilter.evaluation.vqa import soft_accuracy

QUESTIONS = (
    "okvqa_test_split.json",
    "OpenEnded_mscoco_val2014_questions_clean.json",
    "OpenEnded_mscoco_val2014_questions.json",
)
ANNOTATIONS = ("mscoco_val2014_annotations_clean.json", "mscoco_val2014_annotations.json")
ASKED = "Based on the image, respond to this question with a short answer: "


class OkVqa(Benchmark):
    """Answers of ten people, the VQA challenge's soft accuracy.

    The published evaluator normalises nothing where all people say the same, and takes equal answers without ids for
    one. Here answers are normalised always, and each person counts. The rule "lavis" is the published tree's second
    evaluator.
    """

    name = "okvqa"
    title = TITLES["okvqa"]
    rules = ("fixed", "compat", "lavis")
    text_names = ("answer",)

    def read(self, source: Source) -> Reading:
        rows = read_rows(find_file(source.data, QUESTIONS, "OK-VQA questions"), "questions")
        truths = source.annotations or beside(source.data, ANNOTATIONS)
        types, known = _annotations(find_file(truths, ANNOTATIONS, "OK-VQA annotations")) if truths else ({}, {})

        def parse(number: int, row: Row) -> Question:
            key = id_of(row, "question_id")
            if truths and key not in known:
                raise ValueError(f"the annotations have no question {key}")
            answers: list[Row] = known.get(key, {}).get("answers") or []
            if truths and not answers:
                raise ValueError("the annotations have no answers to it")
            image = row.get("image_id")
            if isinstance(image, bool) or not isinstance(image, int) or image < 0:
                raise ValueError(f"image_id is {image!r}, not a whole number")
            kind = str(known.get(key, {}).get("question_type", ""))
            name = f"COCO_val2014_{image:012d}.jpg"
            message = f"{source.tag}{ASKED}{text_of(row, 'question')}"
            return Question(
                number,
                Item(key, message, (), (name, f"val2014/{name}")),
                tuple(str(answer["answer"]) for answer in answers),
                category=types.get(kind, kind),
                row={"question_id": row["question_id"], "answers": answers},
            )

        return collect(rows, parse)

    def clean(self, written: str) -> str:
        return written.lower().replace("<unk>", "").strip()

    def mark(self, question: Question, written: str, rule: str) -> float:
        text = self.clean(written)
        if rule == "fixed":
            return soft_accuracy(text, question.truth, evaluator="always")
        if rule == "lavis":
            return soft_accuracy(text, question.truth, evaluator="lavis")
        answers: list[Row] = question.row["answers"]
        marks = [{name: value for name, value in answer.items() if name != "answer"} for answer in answers]
        return soft_accuracy(text, question.truth, marks)

    def files(self, answers: Answers) -> dict[str, bytes]:
        told = [
            {"answer": self.clean(one.written or ""), "question_id": as_number(one.question.row["question_id"])}
            for one in answers.answered
        ]
        return {"okvqa.json": json.dumps(told).encode()}


def _annotations(url: str) -> tuple[dict[str, str], dict[str, Row]]:
    """Names of question types, and annotations by question id."""
    found: Any = read_json(url)
    named = found.get("question_types") if isinstance(found, dict) else None
    rows = [row for row in read_rows(url, "annotations") if isinstance(row, dict) and "question_id" in row]
    types = {str(kind): str(name) for kind, name in named.items()} if isinstance(named, dict) else {}
    return types, {str(as_number(row["question_id"])): row for row in rows}
