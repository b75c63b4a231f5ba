"""Queries and what came of them: the published files, and the table that a run goes on from."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa

from vlfilter.data.tables import digest
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.records import read_json_list, read_lines, read_records, write_records

ADOPTED = "adopted"  # stands for the settings of replies from elsewhere
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # its place among the queries, from 0
        ("image_id", pa.string()),
        ("question_type", pa.string()),
        ("prompt_sha256", pa.string()),
        ("asked", pa.string()),  # a digest of model and sampling, or "adopted"
        ("status", pa.string()),
        ("reason", pa.string()),
        ("reply", pa.string()),
        ("truncated", pa.bool_()),
        ("model", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
    ]
)

log = logging.getLogger(__name__)


class GenStatus(StrEnum):
    """`pending`, `empty` and `failed` are asked (again) by the next call; the rest are final."""

    OK = "ok"
    REFUSED = "refused"
    EMPTY = "empty"
    FAILED = "failed"
    PENDING = "pending"
    BAD_QUERY = "bad_query"


OPEN = (GenStatus.PENDING, GenStatus.EMPTY, GenStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Query:
    """One entry of gptvqa_prompt.json; `problem` says why it cannot be asked, "" if it can."""

    number: int
    image_id: Any
    prompt: str
    question_type: str
    image_path: str | None = None
    problem: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.prompt.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def key(self) -> tuple[str, str, str]:
        return json.dumps(self.image_id), self.question_type, self.sha256


@dataclass(frozen=True, slots=True)
class Generated:
    """What came of a query. `reply` is the model's text without blanks at its ends, "" where there is none."""

    status: GenStatus
    reason: str = ""
    reply: str = ""
    truncated: bool = False
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    adopted: bool = False


def table_beside(output: str) -> str:
    """`…/gptvqa_result.jsonl` → `…/gptvqa_result.parquet`."""
    return f"{output.removesuffix('.jsonl')}.parquet"


def read_queries(prompts: str) -> list[Query]:
    """All entries in their order, with the reason for those that cannot be asked. Raises `VlfilterError`."""
    found = read_json_list(prompts, "queries", "`vlfilter data-engine query`")
    return [_query(number, entry) for number, entry in enumerate(found)]


def _query(number: int, entry: Any) -> Query:
    if not isinstance(entry, Mapping):
        return Query(number, None, "", "", problem="the query is not an object")
    image_id, kind, path = entry.get("image_id"), entry.get("question_type"), entry.get("image_path")
    prompt = entry.get("prompt")
    problem = "" if isinstance(prompt, str) and prompt.strip() else "it has no prompt"
    if not isinstance(kind, str):
        problem = problem or "it has no question_type"
    if image_id is None and not isinstance(path, str):
        problem = problem or "it has no image_id"
    text, name = prompt if isinstance(prompt, str) else "", kind if isinstance(kind, str) else ""
    return Query(number, image_id, text, name, path if isinstance(path, str) else None, problem)


def line_of(query: Query, row: Generated) -> dict[str, Any]:
    """The published line; `truncated` only where it is so, `image_path` only where the query has one."""
    line = {"image_id": query.image_id, "raw_instructions": row.reply, "question_type": query.question_type}
    if query.image_path is not None:
        line["image_path"] = query.image_path
    return line | ({"truncated": True} if row.truncated else {})


def write_generated(url: str, queries: Sequence[Query], rows: Sequence[Generated], asked: Mapping[str, Any]) -> None:
    settings = digest(asked)
    records = [
        {
            "row": query.number,
            "image_id": json.dumps(query.image_id),
            "question_type": query.question_type,
            "prompt_sha256": query.sha256,
            "asked": ADOPTED if row.adopted else settings,
            "status": str(row.status),
            "reason": row.reason,
            "reply": row.reply,
            "truncated": row.truncated,
            "model": row.model,
            "input_tokens": row.input_tokens,
            "output_tokens": row.output_tokens,
        }
        for query, row in zip(queries, rows, strict=True)
    ]
    write_records(url, records, SCHEMA)


def earlier(url: str, queries: Sequence[Query], asked: Mapping[str, Any]) -> dict[int, Generated]:
    """What an earlier call has about these very prompts, image and type included, asked in this very way."""
    settings = digest(asked)
    found: dict[tuple[str, str, str], Generated] = {}
    for row in read_records(url, SCHEMA):
        if row["asked"] not in (settings, ADOPTED) or row["status"] == GenStatus.PENDING:
            continue
        found[row["image_id"], row["question_type"], row["prompt_sha256"]] = Generated(
            GenStatus(row["status"]),
            row["reason"],
            row["reply"],
            row["truncated"],
            row["model"],
            row["input_tokens"],
            row["output_tokens"],
            row["asked"] == ADOPTED,
        )
    return {query.number: found[query.key] for query in queries if query.key in found}


def adopted(url: str, queries: Sequence[Query]) -> dict[int, Generated]:
    """The replies of a file without a table (the published script's): its lines must be the first queries', in order.

    A last line that is cut off is asked again. Raises `VlfilterError` where lines and queries do not fit.
    """
    lines = read_lines(url, "")
    if lines and isinstance(lines[-1], str):
        log.warning("the last line of %s is cut off: it is asked again", url)
        lines.pop()
    advice = "Name another --output, or the queries that it was made from."
    if len(lines) > len(queries):
        raise VlfilterError(f"{url} has {len(lines)} lines, but there are {len(queries)} queries. {advice}")
    rows = {}
    for query, line in zip(queries, lines, strict=False):
        reply = line.get("raw_instructions") if isinstance(line, dict) else None
        if not isinstance(reply, str):
            raise VlfilterError(f"line {query.number + 1} of {url} is no reply. {advice}")
        if line.get("image_id") != query.image_id:
            raise VlfilterError(
                f"line {query.number + 1} of {url} is about image {line.get('image_id')}, the query about image "
                f"{query.image_id}. {advice}"
            )
        status = GenStatus.OK if reply.strip() else GenStatus.EMPTY
        rows[query.number] = Generated(status, reply=reply, truncated=bool(line.get("truncated")), adopted=True)
    return rows
