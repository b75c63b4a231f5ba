"""What a benchmark says of itself: its questions, what of an answer counts, and the files that others expect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from vlfilter.data.aokvqa import BadRow
from vlfilter.evaluation.items import Item

Mode = Literal["fixed", "compat"]
TAG = "[vqa] "  # MiniGPT-v2's word for a question that wants a short answer
ACCURACY = "accuracy"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a benchmark's published files lie: `data` holds the questions, `annotations` the right answers where they
    are a file of their own; each is a file, or a folder with the file under its published name.

    `mode` "compat" reads and writes as the published scripts do, defects included. `tag` stands before the question.
    """

    data: str
    annotations: str = ""
    mode: Mode = "fixed"
    tag: str = TAG


@dataclass(frozen=True, slots=True)
class Question:
    """`number` is its place in the file, from 0; `item` what is asked, its key the question's id.

    `truth` are the right answers as the benchmark marks them; empty where they are not known. `options` are the texts
    to choose from by letter. Questions of one `unit` count as one, right when all of them are. A benchmark with several
    scores tells them apart by `measure`. `row` is what the file says, for the files to hand in.
    """

    number: int
    item: Item
    truth: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    category: str = ""
    unit: str = ""
    measure: str = ACCURACY
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """The questions in the file's order, and the rows that are none."""

    questions: list[Question]
    bad: list[BadRow]


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with what was written to it; None where there is no answer."""

    question: Question
    written: str | None


def json_lines(lines: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@dataclass(frozen=True, slots=True)
class Answers:
    """Of all questions, in their order; `model_id` names who wrote them."""

    answered: Sequence[Answered]
    mode: Mode
    model_id: str


class Benchmark:
    """One benchmark. A subclass has a `name`, reads its files and marks an answer; all else has a default.

    `rules` are the ways of marking: "fixed" is the house's, "compat" the published scripts' where they score at all.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    rules: ClassVar[tuple[str, ...]] = ("fixed", "compat")
    # in files of answers that exist already; the first that an entry has counts
    id_names: ClassVar[tuple[str, ...]] = ("question_id",)
    text_names: ClassVar[tuple[str, ...]] = ("answer", "text")

    def read(self, source: Source) -> Reading:
        """Raises `VlfilterError` for a file that is missing or is something else altogether."""
        raise NotImplementedError

    def clean(self, written: str) -> str:
        """What of a written answer goes into files."""
        return written.replace("<unk>", "").strip()

    def mark(self, question: Question, written: str, rule: str) -> float:
        """From 0 (wrong) to 1; `question` has a truth, `rule` is one of `rules`."""
        raise NotImplementedError

    def files(self, answers: Answers) -> dict[str, bytes]:
        """Files to hand in, by name; by default a line for each answer."""
        lines = [
            {"question_id": one.question.item.key, "answer": self.clean(one.written or "")} for one in answers.answered
        ]
        return {f"{self.name}.jsonl": json_lines(lines)}

    def given(
        self,
        entries: Sequence[Mapping[str, Any]],
        questions: Sequence[Question],  # noqa: ARG002
    ) -> Sequence[Mapping[str, Any]]:
        """Entries of a file of answers, each with an id (or all without) and a text; for files of another form."""
        return entries
