"""A benchmark as docs/evaluation.md shows it."""

from __future__ import annotations

from vlfilter.evaluation.benchmarks.base import Benchmark, Question, Reading, Source
from vlfilter.evaluation.benchmarks.reading import collect, id_of, read_rows, text_of
from vlfilter.evaluation.items import Item


class Counting(Benchmark):
    """How many things are in a picture?"""

    name = "counting"
    rules = ("fixed",)

    def read(self, source: Source) -> Reading:
        return collect(read_rows(source.data), lambda number, row: self._question(number, row, source.tag))

    def mark(self, question: Question, written: str, rule: str) -> float:
        return float(self.clean(written) == question.truth[0])

    def _question(self, number: int, row: dict[str, object], tag: str) -> Question:
        key, asked = id_of(row, "question_id"), f"{tag}{text_of(row, 'question')} Answer with a number."
        return Question(number, Item(key, asked, (), (f"{key}.jpg",)), (text_of(row, "answer"),))
