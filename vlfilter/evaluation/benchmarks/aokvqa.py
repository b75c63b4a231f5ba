"""A-OKVQA (Schwenk et al., 2022): the same questions as multiple choice and with free answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vlfilter.data.aokvqa import LETTERS, VqaRow, parse_row
from vlfilter.evaluation.aokvqa import direct_accuracy, published_answer
from vlfilter.evaluation.benchmarks import TITLES
from vlfilter.evaluation.benchmarks.base import Answers, Benchmark, Question, Reading, Source
from vlfilter.evaluation.benchmarks.letters import chosen_letter, lettered_question
from vlfilter.evaluation.benchmarks.okvqa import ASKED
from vlfilter.evaluation.benchmarks.reading import Row, collect, find_file, read_rows
from vlfilter.evaluation.items import Item

DATA = ("aokvqa_v1p0_val.json",)
CHOICE, DIRECT = "multiple_choice", "direct_answer"


class AokVqa(Benchmark):
    """Every question is asked twice, but for those that are marked as difficult to answer directly.

    The published rule cuts every answer at its first full stop and lowers its case, so that the right choices `Red` and
    `St. Louis` are wrong. Here a choice is right as it stands, and free answers lose a final full stop only.
    """

    name = "aokvqa"
    title = TITLES["aokvqa"]
    id_names = ("key",)
    text_names = ("text",)

    def read(self, source: Source) -> Reading:
        def parse(number: int, row: Row) -> list[Question]:
            read = parse_row(row)
            if not read.question_id:
                raise ValueError("it has no question_id")
            return [question for question in _questions(number, read, source.tag) if question]

        return collect(read_rows(find_file(source.data, DATA, "A-OKVQA questions")), parse)

    def mark(self, question: Question, written: str, rule: str) -> float:
        text = self.clean(written)
        if question.measure == CHOICE:
            shown = _choice(question, text)
            return float((published_answer(shown) if rule == "compat" else shown) == question.truth[0])
        if rule == "compat":
            return direct_accuracy(published_answer(text), question.truth)
        return direct_accuracy(text.lower().removesuffix("."), question.truth)

    def files(self, answers: Answers) -> dict[str, bytes]:
        told: dict[str, dict[str, str]] = {}
        for one in answers.answered:
            text = self.clean(one.written or "")
            entry = told.setdefault(one.question.row["question_id"], {})
            chosen = one.question.measure == CHOICE
            entry[one.question.measure] = _choice(one.question, text) if chosen else text
        return {"aokvqa.json": json.dumps(told, indent=1).encode()}

    def given(self, entries: Sequence[Mapping[str, Any]], questions: Sequence[Question]) -> Sequence[Mapping[str, Any]]:
        """Of the leaderboard's file (an object from id to both answers), or of rows whose one `model_answer` counts for
        both. Free answers that are not asked for are left out."""
        both = ((CHOICE, CHOICE), (DIRECT, DIRECT), (CHOICE, "model_answer"), (DIRECT, "model_answer"))
        asked = {question.item.key: question.options for question in questions}
        unasked = {f"{question.row['question_id']}/{DIRECT}" for question in questions} - set(asked)
        found = [
            {"key": f"{entry['question_id']}/{measure}", "text": entry[name]}
            for entry in entries
            if "question_id" in entry
            for measure, name in both
            if name in entry
        ]
        return [
            {"key": entry["key"], "text": _letter_of(entry["text"], asked.get(entry["key"], {}))}
            for entry in found
            if entry["key"] not in unasked
        ]


def _questions(number: int, row: VqaRow, tag: str) -> list[Question | None]:
    options = dict(zip(LETTERS, row.choices, strict=False))
    images = tuple(dict.fromkeys(name for name in (row.file_name, row.image_path) if name))
    kind = row.question_type or ""
    told = {"question_id": row.question_id}
    chosen = Item(f"{row.question_id}/{CHOICE}", f"{tag}{lettered_question(row.question, options)}", (), images)
    free = Item(f"{row.question_id}/{DIRECT}", f"{tag}{ASKED}{row.question}", (), images)
    asked = bool(row.direct_answers) and not row.difficult_direct_answer
    return [
        Question(number, chosen, (row.correct_choice,), options, kind, measure=CHOICE, row=told),
        Question(number, free, row.direct_answers, {}, kind, measure=DIRECT, row=told) if asked else None,
    ]


def _choice(question: Question, text: str) -> str:
    """The choice that is meant, else the text itself."""
    letter = chosen_letter(text, question.options)
    return question.options[letter] if letter else text


def _letter_of(text: Any, options: Mapping[str, str]) -> Any:
    """Files hold a choice's text, which may be a letter itself: that of another choice."""
    return next((letter for letter, option in options.items() if option == text), text)
