"""Step 4: generated replies → training data in A-OKVQA's format, and every reply that became none, with its reason."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vlfilter.data.annotations import Instruction, write_instructions
from vlfilter.data.aokvqa import parse_row, write_json
from vlfilter.data.receipts import exists, file_digest, finished, write_receipt
from vlfilter.data.vqa_formats import FORMATS, Format
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.llava import to_instruction
from vlfilter.methods.data_engine.postprocess_rows import MODES, Mode, process_row
from vlfilter.methods.data_engine.records import read_json_list, read_lines, write_records
from vlfilter.methods.data_engine.replies import Drop, DropError

CODE_VERSION = 1
REJECTED = pa.schema(
    [
        ("row", pa.int64()),  # its place in the input, from 0
        ("image_id", pa.string()),
        ("question_type", pa.string()),
        ("file", pa.string()),  # train: it is in no output; llava: it is in the A-OKVQA file only
        ("status", pa.string()),
        ("reason", pa.string()),
        ("raw_instructions", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class PostprocessSettings:
    """`mode` is `compat` (the original's rows, bit for bit) or `fixed`; `llava` names a second output in LLaVA's form.

    `form` is the wording of the second output, `image_prefix` the folder in front of its image names.
    """

    mode: Mode = "fixed"
    llava: str | None = None
    form: Format = "QM-A"
    image_prefix: str = ""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise VlfilterError(f"the mode is {self.mode!r}: use {' or '.join(MODES)}.")
        if self.form not in FORMATS:
            raise VlfilterError(f"the format is {self.form!r}: use one of {', '.join(FORMATS)}.")

    def parts(self, replies: str) -> dict[str, Any]:
        return {
            "code": CODE_VERSION,
            "replies": file_digest(replies),
            "mode": self.mode,
            "llava": [self.form, self.image_prefix] if self.llava else None,
        }


def rejected_beside(output: str) -> str:
    """`…/gptvqa_train_data.json` → `…/rejected.parquet`."""
    folder, slash, _ = output.rpartition("/")
    return f"{folder}{slash}rejected.parquet"


def postprocess(
    replies: str, output: str, settings: PostprocessSettings, rejected: str | None = None
) -> dict[str, Any]:
    """Write `output` (a JSON list) and `rejected` (Parquet, by default `rejected.parquet` beside it).

    `replies` are lines of JSON or one JSON list. Returns counts: replies in, rows kept, rows dropped by status, each by
    question type. What is there already, made from the same, is not made again.
    """
    rejected = rejected or rejected_beside(output)
    parts = settings.parts(replies)
    known = finished(output, parts)
    if known is not None and exists(rejected) and (settings.llava is None or exists(settings.llava)):
        return known
    rows = _read(replies)
    kept, dropped = process_rows(rows, settings.mode)
    if settings.llava is not None:
        instructions, left_out = _instructions(kept, settings)
        dropped = sorted([*dropped, *left_out], key=lambda one: one["row"])
        write_instructions(settings.llava, instructions)
    write_records(rejected, dropped, REJECTED)
    write_json(output, [row for _, row in kept])
    return write_receipt(output, parts, _summary(rows, kept, dropped))


def process_rows(rows: list[Any], mode: Mode) -> tuple[list[tuple[int, dict[str, Any]]], list[dict[str, Any]]]:
    """(place, training row) of those that are kept, and a record of `REJECTED` for each of the others; in order."""
    kept: list[tuple[int, dict[str, Any]]] = []
    dropped = []
    for number, row in enumerate(rows):
        try:
            kept.append((number, process_row(row, mode)))
        except DropError as error:
            dropped.append(_record(number, row, "train", error.status, error.reason))
    return kept, dropped


def _read(replies: str) -> list[Any]:
    made_by = "`vlfilter data-engine generate`"
    if replies.endswith(".json"):
        return read_json_list(replies, "generated replies", made_by)
    return read_lines(replies, made_by)


def _instructions(
    kept: list[tuple[int, dict[str, Any]]], settings: PostprocessSettings
) -> tuple[list[Instruction], list[dict[str, Any]]]:
    """`compat` keeps rows that no training can use (a letter that no choice has): they are left out here, and told."""
    done, left_out = [], []
    for number, row in kept:
        try:
            done.append(to_instruction(parse_row(row), settings.form, number, settings.image_prefix))
        except ValueError as error:
            left_out.append(_record(number, row, "llava", Drop.BAD_ROW, str(error)))
    return done, left_out


def _record(number: int, row: Any, file: str, status: Drop, reason: str) -> dict[str, Any]:
    told = row if isinstance(row, dict) else {}
    raw = told.get("raw_instructions", row)
    return {
        "row": number,
        "image_id": _text(told.get("image_id")),
        "question_type": _text(told.get("question_type")),
        "file": file,
        "status": str(status),
        "reason": reason,
        "raw_instructions": _text(raw),
    }


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _summary(rows: list[Any], kept: list[tuple[int, dict[str, Any]]], dropped: list[dict[str, Any]]) -> dict[str, Any]:
    lost = [one for one in dropped if one["file"] == "train"]
    types = Counter(str(row.get("question_type")) for _, row in kept)
    return {
        "replies": len(rows),
        "kept": len(kept),
        "dropped": dict(sorted(Counter(one["status"] for one in lost).items())),
        "not_in_llava": len(dropped) - len(lost),
        "kept_by_type": dict(sorted(types.items())),
        "dropped_by_type": dict(sorted(Counter(str(one["question_type"]) for one in lost).items())),
    }


def summary_line(told: dict[str, Any]) -> str:
    """The original's line, and why replies were dropped."""
    reasons = ", ".join(f"{count} {status}" for status, count in told["dropped"].items())
    line = f"init_len: {told['replies']}\tprocessed_len: {told['kept']}"
    return line + (f" (dropped: {reasons})" if reasons else "")
