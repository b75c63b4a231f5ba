"""Rows of judge scores: an answer and what it reads as, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vlfilter.data.samples import Status
from vlfilter.data.tables import TAIL, open_parquet
from vlfilter.errors import VlfilterError
from vlfilter.llm.types import Answer, Outcome
from vlfilter.methods.self_filter.judge_parsers import NoScoreError, Parser, read_score

SCHEMA = pa.schema(
    [pa.field("id", pa.int64(), False), pa.field("judge_score", pa.float64()), pa.field("answer", pa.string()), *TAIL]
)


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """`judge_score` is finite exactly when `status` is `ok`; `answer` is the judge's text, None where there is none."""

    id: int
    judge_score: float | None
    answer: str | None
    status: str
    reason: str | None = None

    @property
    def open(self) -> bool:
        """Whether asking again may bring an answer. Refusals and answers without a score are final."""
        return self.status == Status.FAILED and self.answer is None


def unusable(row: Mapping[str, Any]) -> JudgeRow | None:
    """The row of an instruction that cannot be asked about, or None. One without an image can be."""
    if row["status"] == Status.OK:
        return None
    return JudgeRow(row["id"], None, None, row["status"], row["reason"])


def no_answer(number: int, reason: str) -> JudgeRow:
    return JudgeRow(number, None, None, str(Status.FAILED), reason)


def read_text(number: int, answer: str, parser: Parser) -> JudgeRow:
    """What an answer's text reads as."""
    try:
        score = read_score(answer, parser)
    except NoScoreError as error:
        return JudgeRow(number, None, answer, str(Status.FAILED), str(error))
    if not math.isfinite(score):
        return JudgeRow(number, None, answer, str(Status.FAILED), f"the answer reads as {score}, not a finite number")
    return JudgeRow(number, score, answer, str(Status.OK))


def read_answer(number: int, answer: Answer, parser: Parser) -> JudgeRow:
    """What the judge's client brought. That `max_tokens` cuts an explanation off is as the method wants it."""
    if answer.outcome == Outcome.ANSWERED:
        return read_text(number, answer.text, parser)
    if answer.outcome == Outcome.REFUSED:
        return JudgeRow(number, None, None, str(Status.REFUSED), answer.reason)
    return no_answer(number, answer.reason)


def read_again(row: JudgeRow, parser: Parser) -> JudgeRow:
    """The same answer, by another parser."""
    return row if row.answer is None else read_text(row.id, row.answer, parser)


def judge_table(rows: Sequence[JudgeRow]) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    return pa.table(columns, schema=SCHEMA)


def read_rows(url: str) -> list[JudgeRow]:
    """Raises `VlfilterError` for a file that is no table of judge scores."""
    try:
        with open_parquet(url) as file:
            return [JudgeRow(**row) for row in file.read(columns=SCHEMA.names).to_pylist()]
    except (OSError, pa.ArrowException, TypeError) as error:
        raise VlfilterError(f"{url} is no table of judge scores ({type(error).__name__}: {error}).") from error
