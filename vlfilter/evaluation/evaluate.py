"""One benchmark from its files to its scores: ask or read answers, mark them, write what others expect."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter.data.aokvqa import write_json
from vlfilter.data.samples import Status
from vlfilter.data.storage import join, write_bytes
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.benchmarks.base import Answered, Answers, Benchmark, Question, Reading, Source
from vlfilter.evaluation.given import read_given
from vlfilter.evaluation.scores import Marked, score_table, single_accuracy
from vlfilter.evaluation.shards import Answering, answer_in_shards, storable

BAD_ROW, NO_ANSWER = "bad_row", "no_answer"
SCORES, TABLE, ANSWERS = "scores.json", "questions.parquet", "answers"


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers that a model gives now, a table for each `shard` questions; `letters` has it choose among the options'
    letters, and asks only what has options."""

    answering: Answering
    shard: int
    on_shard: Callable[[int, int], None] | None = None
    letters: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """Answers that lie in the file `url`; fewer than questions only with `allow_missing`."""

    url: str
    allow_missing: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking a question; `written` is None where the status is not ok."""

    written: str | None
    status: str
    reason: str = ""


def evaluate(
    benchmark: Benchmark, source: Source, answers: Asked | Given, output: str, model_id: str
) -> dict[str, Any]:
    """Write the files to hand in, `questions.parquet` (every row of the data with answer, marks, status and reason) and
    `scores.json` below `output`; return the scores.

    A second call asks only what has no final answer yet. Raises `VlfilterError` when the data, the answers or the model
    cannot be read, and when no question got an answer.
    """
    reading = benchmark.read(source)
    if isinstance(answers, Asked) and answers.letters:
        reading = _choices(benchmark, reading)
    if not reading.questions:
        first = f": {reading.bad[0]}" if reading.bad else ""
        raise VlfilterError(f"{source.data} holds no question of {benchmark.name} that can be used{first}.")
    outcomes = _outcomes(benchmark, reading, answers, output)
    pairs = [Answered(question, outcomes[question.item.key].written) for question in reading.questions]
    files = benchmark.files(Answers(pairs, source.mode, model_id))
    for name, data in files.items():
        write_bytes(join(output, name), data)
    marked = [_mark(benchmark, one) for one in pairs]
    _write_table(join(output, TABLE), benchmark, reading, marked, outcomes)
    who = dict(answers.answering.parts) if isinstance(answers, Asked) else {"file": answers.url}
    told = _told(benchmark, source, reading, marked, outcomes)
    told |= {"model": model_id, "answerer": who, "files": sorted(files)}
    write_json(join(output, SCORES), told)
    if not any(one.answered for one in marked):
        reason = outcomes[reading.questions[0].item.key].reason
        raise VlfilterError(f"none of the {len(marked)} questions got an answer, the first because {reason}.")
    return told


def _choices(benchmark: Benchmark, reading: Reading) -> Reading:
    questions = [question for question in reading.questions if question.options]
    if reading.questions and not questions:
        raise VlfilterError(f"{benchmark.name} is no multiple choice: there are no likelihoods to compare.")
    asked = [replace(one, item=replace(one.item, candidates=tuple(one.options))) for one in questions]
    return Reading(asked, reading.bad)


def _outcomes(benchmark: Benchmark, reading: Reading, answers: Asked | Given, output: str) -> dict[str, Outcome]:
    if isinstance(answers, Given):
        texts = read_given(answers.url, benchmark, reading, answers.allow_missing)
        gone = Outcome(None, NO_ANSWER, f"{answers.url} has no answer to it")
        keys = [question.item.key for question in reading.questions]
        return {key: Outcome(texts[key], str(Status.OK)) if key in texts else gone for key in keys}
    items = [question.item for question in reading.questions]
    records = answer_in_shards(items, answers.answering, join(output, ANSWERS), answers.shard, answers.on_shard)
    text = "answer" if "answer" in answers.answering.columns.names else "written"
    return {record["key"]: Outcome(record[text], record["status"], record["reason"]) for record in records}


def _mark(benchmark: Benchmark, one: Answered) -> Marked:
    marks: dict[str, float] = {}
    if one.question.truth:
        written = one.written
        marks = {
            rule: 0.0 if written is None else benchmark.mark(one.question, written, rule) for rule in benchmark.rules
        }
    return Marked(one.question, one.written is not None, marks)


def _told(
    benchmark: Benchmark,
    source: Source,
    reading: Reading,
    marked: Sequence[Marked],
    outcomes: Mapping[str, Outcome],
) -> dict[str, Any]:
    counts = Counter(outcome.status for outcome in outcomes.values())
    counts[BAD_ROW] += len(reading.bad)
    reasons = Counter(outcome.reason for outcome in outcomes.values() if outcome.written is None)
    reasons.update(bad.reason for bad in reading.bad)
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title or benchmark.name,
        "mode": source.mode,
        "rules": list(benchmark.rules),
        "rows": {status: count for status, count in counts.items() if count},
        "scores": score_table(marked, benchmark.rules),
        "single": single_accuracy(marked),
        "reasons": [{"reason": reason, "rows": count} for reason, count in reasons.most_common(20)],
    }


def _write_table(
    url: str, benchmark: Benchmark, reading: Reading, marked: Sequence[Marked], outcomes: Mapping[str, Outcome]
) -> None:
    """All rows of the data, in its order."""
    rules = [(rule, pa.float64()) for rule in benchmark.rules]
    texts = [(name, pa.string()) for name in ("key", "measure", "category", "unit", "truth", "answer")]
    schema = pa.schema([("row", pa.int64()), *texts, *rules, ("status", pa.string()), ("reason", pa.string())])
    rows = [_row(one.question, outcomes[one.question.item.key]) | dict(one.marks) for one in marked]
    rows += [
        {"row": bad.number, "key": bad.question_id, "status": BAD_ROW, "reason": bad.reason} for bad in reading.bad
    ]
    rows.sort(key=lambda row: row["row"])
    table = pa.Table.from_pylist([storable({name: row.get(name) for name in schema.names}) for row in rows], schema)
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    write_bytes(url, file.getvalue())


def _row(question: Question, outcome: Outcome) -> dict[str, Any]:
    return {
        "row": question.number,
        "key": question.item.key,
        "measure": question.measure,
        "category": question.category,
        "unit": question.unit,
        "truth": json.dumps(list(question.truth), ensure_ascii=False) if question.truth else None,
        "answer": outcome.written,
        "status": outcome.status,
        "reason": outcome.reason,
    }
