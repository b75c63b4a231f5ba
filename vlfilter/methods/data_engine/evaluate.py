"""Step 1: a model answers the typed questions; its wrong answers and their rates by type steer the next round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from vlfilter.data.aokvqa import BadRow, VqaRow, read_rows, write_json
from vlfilter.data.receipts import exists, file_digest, finished, write_receipt
from vlfilter.data.samples import Status
from vlfilter.data.storage import join
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.aokvqa import accuracy, choice_message, direct_score, published_scores
from vlfilter.evaluation.choices import Choosing
from vlfilter.evaluation.direct import Writing
from vlfilter.evaluation.items import Item, lettered
from vlfilter.evaluation.model import EvaluatedModel, ModelSettings
from vlfilter.evaluation.run import AGAIN, Answerer, Record, RunSettings, answer_items
from vlfilter.methods.data_engine.bad_cases import (
    Outcome,
    SplitSettings,
    bad_cases,
    eval_rows,
    steering,
    type_table,
)
from vlfilter.methods.data_engine.question_types import definition_of
from vlfilter.methods.data_engine.records import write_records
from vlfilter.methods.data_engine.weights import error_rates, v2_weights

CODE_VERSION = 1
BAD_ROW = "bad_row"
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # its place in the file, from 0
        ("question_id", pa.string()),
        ("question_type", pa.string()),
        ("part", pa.string()),  # steer, report, or both
        ("model_answer", pa.string()),
        ("choice", pa.int32()),
        ("correct", pa.bool_()),
        ("nll", pa.list_(pa.float64())),  # nats a token, by choice
        ("direct_answer", pa.string()),
        ("direct_reason", pa.string()),  # why there is none
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class EvaluateSettings:
    """`direct` lets the model answer freely too, for the direct-answer score."""

    model: ModelSettings
    run: RunSettings
    split: SplitSettings = field(default_factory=SplitSettings)
    direct: bool = False

    @property
    def image_root(self) -> str:
        """The images' folder by its name, which `image_path` begins with."""
        return self.run.images.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class EvaluatePlaces:
    """The three published files, all rows with status and reason, the scores, and the folder of the answers."""

    rows: str
    bad_cases: str
    weights: str
    table: str
    scores: str
    answers: str

    @classmethod
    def of(cls, output: str) -> EvaluatePlaces:
        names = ("aokvqa_eval.json", "bad_case_aokvqa_classified.json", "weight.json", "evaluation.parquet")
        return cls(*(join(output, name) for name in (*names, "scores.json", "answers")))


def evaluate(questions: str, output: str, settings: EvaluateSettings) -> dict[str, Any]:
    """Write `EvaluatePlaces` below `output`, and return the scores, counts and the table of types.

    A second call answers only what has no final answer yet. Raises `VlfilterError` when the questions or the model
    cannot be read.
    """
    places = EvaluatePlaces.of(output)
    model = EvaluatedModel(settings.model)
    parts = {
        "code": CODE_VERSION,
        "questions": file_digest(questions),
        "model": model.fingerprint(),
        "split": settings.split.parts(),
        "direct": settings.direct,
        "image_root": settings.image_root,
    }
    known = finished(places.rows, parts)
    files = (places.bad_cases, places.weights, places.table, places.scores)
    if known is not None and all(map(exists, files)) and not _open(known):
        return known
    rows, bad = read_rows(questions)
    if not rows:
        raise VlfilterError(f"{questions} holds no question that can be used" + (f": {bad[0]}" if bad else "."))
    numbers = _numbers(len(rows), bad)
    rows = [replace(row, question_id=row.question_id or f"row-{n}") for n, row in zip(numbers, rows, strict=True)]
    asked = [Item(row.question_id, choice_message(row), lettered(row.choices), _images(row)) for row in rows]
    chosen = _answers(asked, Choosing(model), join(places.answers, "choices"), settings)
    written: dict[str, Record] = {}
    if settings.direct:
        open_ = [Item(row.question_id, row.question, (), _images(row)) for row in rows]
        written = _answers(open_, Writing(model), join(places.answers, "direct"), settings)
    outcomes = [_outcome(row, chosen[row.question_id], settings.split) for row in rows]
    write_records(places.table, _records(numbers, outcomes, chosen, written, bad), SCHEMA)
    if all(outcome.answer is None for outcome in outcomes):
        reason = chosen[rows[0].question_id]["reason"]
        raise VlfilterError(f"none of the {len(rows)} questions could be answered, the first because {reason}.")
    weights = error_rates(steering(outcomes))
    summary = _summary(outcomes, chosen, written, bad, weights)
    write_json(places.scores, summary)
    write_json(places.weights, weights)
    write_json(places.bad_cases, bad_cases(outcomes, settings.image_root))
    write_json(places.rows, eval_rows(outcomes, settings.image_root))
    return write_receipt(places.rows, parts, summary)


def _open(summary: Mapping[str, Any]) -> bool:
    """Whether some answer may come out otherwise when asked again."""
    return any(summary[counts].get(str(status)) for counts in ("rows", "direct_rows") for status in AGAIN)


def _numbers(count: int, bad: Sequence[BadRow]) -> list[int]:
    broken = {one.number for one in bad}
    return [number for number in range(count + len(bad)) if number not in broken]


def _images(row: VqaRow) -> tuple[str, ...]:
    """Where a question's image may lie below the folder: under its COCO name, at its path, under the path's name."""
    path = row.image_path or ""
    names = (row.file_name, path, PurePosixPath(path).name)
    return tuple(dict.fromkeys(name for name in names if name))


def _answers(items: Sequence[Item], answerer: Answerer, output: str, settings: EvaluateSettings) -> dict[str, Record]:
    return {record["key"]: record for record in answer_items(items, answerer, output, settings.run)}


def _outcome(row: VqaRow, record: Mapping[str, Any], split: SplitSettings) -> Outcome:
    choice = record["choice"]
    return Outcome(row, split.part(row), None if choice is None else row.choices[choice])


def _records(
    numbers: Sequence[int],
    outcomes: Sequence[Outcome],
    chosen: Mapping[str, Record],
    written: Mapping[str, Record],
    bad: Sequence[BadRow],
) -> list[dict[str, Any]]:
    """All rows of the input, in its order."""
    records: list[dict[str, Any]] = []
    for number, outcome in zip(numbers, outcomes, strict=True):
        row, record = outcome.row, chosen[outcome.row.question_id]
        records.append(
            {
                "row": number,
                "question_id": row.question_id,
                "question_type": row.question_type,
                "part": outcome.part,
                "model_answer": outcome.answer,
                "choice": record["choice"],
                "correct": None if outcome.answer is None else not outcome.wrong,
                "nll": record["nll"],
                "direct_answer": written.get(row.question_id, {}).get("answer"),
                "direct_reason": written.get(row.question_id, {}).get("reason"),
                "status": record["status"],
                "reason": record["reason"],
            }
        )
    empty = dict.fromkeys(SCHEMA.names)
    records += [
        empty | {"row": one.number, "question_id": one.question_id, "status": BAD_ROW, "reason": one.reason}
        for one in bad
    ]
    return sorted(records, key=lambda record: record["row"])


def _summary(
    outcomes: Sequence[Outcome],
    chosen: Mapping[str, Record],
    written: Mapping[str, Record],
    bad: Sequence[BadRow],
    weights: Mapping[str, float],
) -> dict[str, Any]:
    reporting = [outcome.row for outcome in outcomes if outcome.reports]
    answers = {one.row.question_id: one.answer for one in outcomes if one.answer is not None}
    published = published_scores(reporting, answers)
    counts = Counter(record["status"] for record in chosen.values())
    counts[BAD_ROW] += len(bad)
    reasons = Counter(record["reason"] for record in chosen.values() if record["status"] != Status.OK)
    reasons.update(one.reason for one in bad)
    kinds = Counter(outcome.row.question_type or "" for outcome in outcomes)
    free = {key: record["answer"].lower() for key, record in written.items() if record["answer"] is not None}
    return {
        "questions": len(outcomes) + len(bad),
        "rows": {status: count for status, count in counts.items() if count},
        "direct_rows": dict(Counter(record["status"] for record in written.values())),
        "parts": dict(Counter(outcome.part for outcome in outcomes)),
        "accuracy": accuracy(reporting, answers),
        "accuracy_steering": accuracy([one.row for one in outcomes if one.steers], answers),
        "published": {"MC": published.multiple_choice, "DA": published.direct_answer},
        "direct_answer": direct_score(reporting, free) if written else None,
        "types": type_table(outcomes, weights, v2_weights(weights)),
        "untyped": kinds.pop("", 0),
        "undefined_types": {kind: count for kind, count in kinds.items() if definition_of(kind) is None},
        "reasons": [{"reason": reason, "rows": count} for reason, count in reasons.most_common(20)],
    }
