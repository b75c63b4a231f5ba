"""VSR (Liu et al., 2023): is a statement about where things are true? The zero-shot test split."""

from __future__ import annotations

import json
import re

from vlfilter.evaluation.benchmarks import TITLES
from vlfilter.evaluation.benchmarks.base import Answers, Benchmark, Question, Reading, Source
from vlfilter.evaluation.benchmarks.reading import Row, collect, find_file, read_rows, text_of
from vlfilter.evaluation.items import Item

DATA = ("test.jsonl", "vsr_test.jsonl", "test.json", "vsr_test.json", "test.parquet")
ASKED = "Based on the image, is this statement true or false? "
_WORDS = re.compile(r"[a-z]+")


class Vsr(Benchmark):
    """The published script wants `true` or `false` and no more, so that `true.` is wrong. Here the first word counts,
    and yes and no are words for it."""

    name = "vsr"
    title = TITLES["vsr"]
    id_names = ("id",)
    text_names = ("pred", "answer")

    def read(self, source: Source) -> Reading:
        def parse(number: int, row: Row) -> Question:
            image, caption = text_of(row, "image"), text_of(row, "caption")
            label = row.get("label")
            if label not in (None, 0, 1):
                raise ValueError(f"label is {label!r}, neither 0 nor 1")
            truth = () if label is None else ("true" if label else "false",)
            message = f"{source.tag}{ASKED}{caption}"
            kind = str(row.get("relation") or "")
            return Question(number, Item(str(number), message, (), (image,)), truth, category=kind)

        return collect(read_rows(find_file(source.data, DATA, "VSR statements")), parse)

    def mark(self, question: Question, written: str, rule: str) -> float:
        if rule == "compat":
            return float(written.lower() == question.truth[0])
        return float(_judgement(self.clean(written)) == question.truth[0])

    def files(self, answers: Answers) -> dict[str, bytes]:
        told = []
        for one in answers.answered:
            named = {} if answers.mode == "compat" else {"id": one.question.item.key}
            truth = one.question.truth
            told.append(named | {"pred": self.clean(one.written or "")} | ({"gt": truth[0]} if truth else {}))
        return {"vsr.json": json.dumps(told).encode()}


def _judgement(text: str) -> str:
    words = _WORDS.findall(text.lower())
    return {"yes": "true", "no": "false"}.get(words[0], words[0]) if words else ""
