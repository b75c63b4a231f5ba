"""Pre-step: a judge says of every question of a benchmark which type it is; one row each, whatever comes back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import pyarrow as pa

from vlfilter.data.aokvqa import BadRow, VqaRow, by_type, read_rows, write_rows, write_rows_by_type
from vlfilter.data.receipts import exists, file_digest, finished, write_receipt
from vlfilter.data.storage import join
from vlfilter.errors import VlfilterError
from vlfilter.llm.types import Answer, Outcome, Request
from vlfilter.methods.data_engine.asking import Account, Generator, Sampling
from vlfilter.methods.data_engine.classify_reply import NoType, classify_prompt, read_types
from vlfilter.methods.data_engine.examples import example_text
from vlfilter.methods.data_engine.question_types import TYPE_KEYS
from vlfilter.methods.data_engine.records import write_records

CODE_VERSION = 1
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # its place in the input, from 0
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("question_type", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("asked", pa.int32()),  # in how many prompts it was
    ]
)

log = logging.getLogger(__name__)


class TypeStatus(StrEnum):
    """`empty` and `failed` may come out otherwise when asked again; the rest are final."""

    OK = "ok"
    UNPARSABLE = "unparsable"
    REFUSED = "refused"
    EMPTY = "empty"
    FAILED = "failed"
    BAD_ROW = "bad_row"


OPEN = (TypeStatus.EMPTY, TypeStatus.FAILED)


@dataclass(frozen=True, slots=True)
class ClassifySettings:
    """`judge` names the model (and server) that answers, for the fingerprint.

    `groups` are the questions in one prompt: the published 50, then, for those without a usable line, fewer, then each
    alone; no question is asked about more often than there are groups. `images` is the folder written before names.
    """

    judge: str
    images: str = ""
    groups: tuple[int, ...] = (50, 10, 1)
    sampling: Sampling = field(default_factory=Sampling)
    labels: dict[str, str] = field(default_factory=lambda: {"step": "classify"})

    def parts(self, questions: str) -> dict[str, Any]:
        return {
            "code": CODE_VERSION,
            "questions": file_digest(questions),
            "judge": self.judge,
            "images": self.images,
            "groups": list(self.groups),
            "sampling": self.sampling.parts(),
        }


@dataclass(slots=True)
class _Case:
    row: VqaRow
    status: TypeStatus = TypeStatus.UNPARSABLE
    reason: str = ""
    asked: int = 0


@dataclass(frozen=True, slots=True)
class ClassifyPlaces:
    """The list that the evaluation reads, the published script's own object of lists, and our table of all rows."""

    rows: str
    by_type: str
    table: str

    @classmethod
    def of(cls, output: str) -> ClassifyPlaces:
        stem = output.removesuffix(".json")
        return cls(output, f"{stem}_by_type.json", f"{stem}.parquet")


def group_sizes(first: int) -> tuple[int, ...]:
    """`first` questions in a prompt; those that got no type are asked again by tens, then alone."""
    return tuple(size for size in (first, 10, 1) if size == first or size < first)


def classify(questions: str, output: str, judge: Generator, settings: ClassifySettings) -> dict[str, Any]:
    """Write the typed questions as a list to `output`, and beside it by type and as a table of all (`ClassifyPlaces`).

    Returns counts. A second call asks only about what has no final answer yet; what was answered before an error ends
    the call lies in the judge's cache.
    """
    places = ClassifyPlaces.of(output)
    parts = settings.parts(questions)
    known = finished(output, parts)
    there = known is not None and exists(places.by_type) and exists(places.table)
    if known is not None and there and not any(known["rows"].get(str(status)) for status in OPEN):
        return known
    rows, bad = read_rows(questions)
    if not rows:
        raise VlfilterError(f"{questions} holds no question that can be used" + (f": {bad[0]}" if bad else "."))
    cases = [_Case(row) for row in rows]
    account = Account()
    for size in settings.groups:
        _ask(cases, size, judge, settings, account)
    typed = [_typed(case.row, settings.images) for case in cases if case.status == TypeStatus.OK]
    write_records(places.table, _records(cases, bad), SCHEMA)
    write_rows_by_type(places.by_type, by_type(typed, TYPE_KEYS))
    write_rows(output, typed)
    return write_receipt(output, parts, _summary(cases, bad, typed)) | account.told()


def requests_for(questions: str, settings: ClassifySettings) -> Iterator[Request]:
    """The first round of prompts, for an estimate of the price; broken lines come on top."""
    cases = [_Case(row) for row in read_rows(questions)[0]]
    for group in _groups(cases, settings.groups[0]):
        yield _request(group, settings)


def _groups(cases: Sequence[_Case], size: int) -> list[Sequence[_Case]]:
    return [cases[start : start + size] for start in range(0, len(cases), size)]


def _request(group: Sequence[_Case], settings: ClassifySettings) -> Request:
    asked = [" ".join(case.row.question.splitlines()) for case in group]  # a question is one line of the prompt
    return settings.sampling.request(classify_prompt(asked), settings.labels)


def _ask(cases: Sequence[_Case], size: int, judge: Generator, settings: ClassifySettings, account: Account) -> None:
    """Ask about all that have no type yet; where the judge itself failed, fewer questions do not help it."""
    open_cases = [case for case in cases if case.status not in (TypeStatus.OK, TypeStatus.FAILED)]
    groups = _groups(open_cases, size)
    answers = judge.ask_all([_request(group, settings) for group in groups])
    for group, answer in zip(groups, answers, strict=True):
        account.add(answer)
        _note(group, answer)
    left = sum(case.status != TypeStatus.OK for case in cases)
    log.info("%d prompts of up to %d questions; %d of %d without a type", len(groups), size, left, len(cases))


def _note(group: Sequence[_Case], answer: Answer) -> None:
    if answer.outcome != Outcome.ANSWERED:
        for case in group:
            case.asked += 1
            case.status, case.reason = TypeStatus(str(answer.outcome)), answer.reason
        return
    for case, found in zip(group, read_types(answer.text, len(group)), strict=True):
        case.asked += 1
        if isinstance(found, NoType):
            cut = f"; the reply was {answer.reason}" if answer.reason else ""
            case.status, case.reason = TypeStatus.UNPARSABLE, found.reason + cut
        else:
            case.status, case.reason = TypeStatus.OK, ""
            case.row = replace(case.row, question_type=found)


def _typed(row: VqaRow, images: str) -> VqaRow:
    """With the fields that the published script adds."""
    name = row.file_name
    path = join(images, name) if images and row.image_id is not None else row.image_path or name or None
    extra = {**row.extra, "prompt": example_text(row, row.question_type or "")}
    return replace(row, image_path=path, extra=extra)


def _records(cases: Sequence[_Case], bad: Sequence[BadRow]) -> list[dict[str, Any]]:
    """All rows of the input, in its order."""
    broken = {one.number for one in bad}
    numbers = (number for number in range(len(cases) + len(bad)) if number not in broken)
    records = [
        {
            "row": number,
            "question_id": case.row.question_id,
            "question": case.row.question,
            "question_type": case.row.question_type if case.status == TypeStatus.OK else None,
            "status": str(case.status),
            "reason": case.reason,
            "asked": case.asked,
        }
        for number, case in zip(numbers, cases, strict=True)
    ]
    records += [
        {
            "row": one.number,
            "question_id": one.question_id,
            "question": None,
            "question_type": None,
            "status": str(TypeStatus.BAD_ROW),
            "reason": one.reason,
            "asked": 0,
        }
        for one in bad
    ]
    return sorted(records, key=lambda record: record["row"])


def _summary(cases: Sequence[_Case], bad: Sequence[BadRow], typed: Sequence[VqaRow]) -> dict[str, Any]:
    counts = Counter(str(case.status) for case in cases)
    if bad:
        counts[str(TypeStatus.BAD_ROW)] = len(bad)
    reasons = Counter(case.reason for case in cases if case.status != TypeStatus.OK)
    reasons.update(one.reason for one in bad)
    return {
        "questions": len(cases) + len(bad),
        "rows": {str(status): counts[str(status)] for status in TypeStatus if counts[str(status)]},
        "types": {kind: len(rows) for kind, rows in by_type(typed, TYPE_KEYS).items()},
        "reasons": [{"reason": reason, "rows": rows} for reason, rows in reasons.most_common(20)],
    }
