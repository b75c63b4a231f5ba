"""Step 3: a generator answers every query; the published lines of replies, and a table of all queries."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vlfilter.data.receipts import exists, file_digest, finished, write_receipt
from vlfilter.llm.types import Answer, Outcome, Request
from vlfilter.methods.data_engine.asking import Account, Generator, Sampling
from vlfilter.methods.data_engine.generated import (
    OPEN,
    Generated,
    GenStatus,
    Query,
    adopted,
    earlier,
    line_of,
    read_queries,
    table_beside,
    write_generated,
)
from vlfilter.methods.data_engine.records import storable, write_lines

CODE_VERSION = 1
EVERY = 200  # answers between two lines of the log

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GenerateSettings:
    """`generator` names the model (and server) that answers, for the fingerprint; `labels` are for the account."""

    generator: str
    sampling: Sampling = field(default_factory=Sampling)
    labels: dict[str, str] = field(default_factory=lambda: {"step": "generate"})

    def asked(self) -> dict[str, Any]:
        """All but the prompt that changes a reply."""
        return {"generator": self.generator, "sampling": self.sampling.parts()}


def generate(prompts: str, output: str, generator: Generator, settings: GenerateSettings) -> dict[str, Any]:
    """Write a line for every reply to `output` (JSON lines) and a row for every query to a table beside it.

    Replies of an earlier call for the same prompt are kept, and so is a file of the published script's own that begins
    with these queries' images. Only what has no final answer is asked. Where an error ends the call (budget, key), both
    files hold what was answered until then, and the same call goes on. Returns counts.
    """
    parts = {"code": CODE_VERSION, "prompts": file_digest(prompts), **settings.asked()}
    known = finished(output, parts)
    if known is not None and exists(table_beside(output)) and not any(known["rows"].get(str(one)) for one in OPEN):
        return known
    queries = read_queries(prompts)
    rows = _known(queries, output, settings)
    todo = [query for query in queries if query.problem == "" and rows.get(query.number, _PENDING).status in OPEN]
    account = Account()

    def note(place: int, answer: Answer) -> None:
        account.add(answer)
        rows[todo[place].number] = _generated(answer)
        if account.asked % EVERY == 0:
            log.info("%d of %d queries answered, $%.4f", account.asked, len(todo), account.usd)

    try:
        generator.ask_all([_request(query, settings) for query in todo], note)
    finally:
        done = [rows.get(query.number) or _without_answer(query) for query in queries]
        write_generated(table_beside(output), queries, done, settings.asked())
        write_lines(output, [line_of(query, row) for query, row in zip(queries, done, strict=True) if row.reply])
    return write_receipt(output, parts, _summary(queries, done)) | account.told()


def requests_for(prompts: str, output: str, settings: GenerateSettings) -> list[Request]:
    """What `generate` would ask now, for an estimate of the price."""
    queries = read_queries(prompts)
    rows = _known(queries, output, settings)
    return [
        _request(query, settings)
        for query in queries
        if query.problem == "" and rows.get(query.number, _PENDING).status in OPEN
    ]


_PENDING = Generated(GenStatus.PENDING)


def _known(queries: Sequence[Query], output: str, settings: GenerateSettings) -> dict[int, Generated]:
    if exists(table_beside(output)):
        return earlier(table_beside(output), queries, settings.asked())
    return adopted(output, queries) if exists(output) else {}


def _request(query: Query, settings: GenerateSettings) -> Request:
    return settings.sampling.request(query.prompt, settings.labels)


def _without_answer(query: Query) -> Generated:
    return Generated(GenStatus.BAD_QUERY, query.problem) if query.problem else _PENDING


def _generated(answer: Answer) -> Generated:
    text = storable(answer.text.strip())  # as the table can hold it, so that a run that goes on writes the same
    ok = answer.outcome == Outcome.ANSWERED
    return Generated(
        GenStatus.OK if ok else GenStatus(str(answer.outcome)),
        answer.reason,
        text if ok else "",
        ok and bool(answer.reason),  # an answer with a reason is one that was cut off
        answer.model,
        answer.usage.input_tokens,
        answer.usage.output_tokens,
    )


def _summary(queries: Sequence[Query], rows: Sequence[Generated]) -> dict[str, Any]:
    counts = Counter(str(row.status) for row in rows)
    lost = Counter(query.question_type for query, row in zip(queries, rows, strict=True) if not row.reply)
    reasons = Counter(row.reason for row in rows if row.status != GenStatus.OK)
    return {
        "queries": len(queries),
        "rows": {str(status): counts[str(status)] for status in GenStatus if counts[str(status)]},
        "truncated": sum(row.truncated for row in rows),
        "without_reply_by_type": dict(sorted(lost.items())),
        "reasons": [{"reason": reason, "rows": count} for reason, count in reasons.most_common(20)],
        "input_tokens": sum(row.input_tokens for row in rows),
        "output_tokens": sum(row.output_tokens for row in rows),
    }
