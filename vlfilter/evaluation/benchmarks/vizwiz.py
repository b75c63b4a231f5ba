"""VizWiz (Gurari et al., 2018), its validation split: photographs and questions of blind people."""

from __future__ import annotations

import json

from vlfilter.evaluation.benchmarks import TITLES
from vlfilter.evaluation.benchmarks.base import Answers, Benchmark, Question, Reading, Source
from vlfilter.evaluation.benchmarks.reading import Row, collect, find_file, read_rows, text_of
from vlfilter.evaluation.items import Item
from vlfilter.evaluation.vqa import vizwiz_accuracy

DATA = ("val.json",)
JOINT = "_"  # between people's answers, where the published script keeps them in one text
ASKED = (
    "The question is '{}' Based on the image, answer the question with a single word or phrase. "
    "and reply 'unanswerable' when the provided information is insufficient"
)


class VizWiz(Benchmark):
    """min(1, people who say the same / 3), capitals aside.

    The published script breaks people's answers at every underscore, scores what was written with its `<unk>` tokens,
    and writes a file without ids. Here answers stay whole, and the file names the image, as the challenge's does.
    """

    name = "vizwiz"
    title = TITLES["vizwiz"]
    id_names = ("image",)
    text_names = ("answer",)

    def read(self, source: Source) -> Reading:
        def parse(number: int, row: Row) -> Question:
            image = text_of(row, "image")
            answers = tuple(_answer(entry) for entry in row.get("answers") or [])
            message = f"{source.tag}{ASKED.format(text_of(row, 'question'))}"
            kind = str(row.get("answer_type") or "")
            return Question(number, Item(image, message, (), (image, f"val/{image}")), answers, category=kind)

        return collect(read_rows(find_file(source.data, DATA, "VizWiz questions")), parse)

    def mark(self, question: Question, written: str, rule: str) -> float:
        if rule == "compat":
            return vizwiz_accuracy(written, JOINT.join(question.truth).split(JOINT))
        return vizwiz_accuracy(self.clean(written), question.truth)

    def files(self, answers: Answers) -> dict[str, bytes]:
        told = []
        for one in answers.answered:
            named = {} if answers.mode == "compat" else {"image": one.question.item.key}
            told.append(named | {"answer": self.clean(one.written or "")})
        return {"vizwiz.json": json.dumps(told).encode()}


def _answer(entry: object) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("answer"), str):
        raise ValueError("one of its answers is no text")
    return str(entry["answer"])
