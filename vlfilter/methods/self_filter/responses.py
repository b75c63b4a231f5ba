"""Answers that are there: the published script's `gpt_responses/<model>/<idx>.json` → tables of judge scores."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from vlfilter.data.storage import absolute, check_writable, filesystem, join, read_bytes
from vlfilter.data.tables import digest
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.judge_parsers import Parser, check_parser
from vlfilter.methods.self_filter.judge_rows import JudgeRow, judge_table, no_answer, read_text, unusable
from vlfilter.methods.self_filter.judging import JudgeSummary, Told, judge_jobs, line, summary
from vlfilter.methods.self_filter.row_shards import remove_shards, shard_footer, write_shard


def read_responses(
    data: str, responses: str, output: str, parser: Parser = "original", tell: Told | None = None
) -> JudgeSummary:
    """Read the raw responses of OpenAI in the folder `responses`, one a row of `data`, as `judge_scores` writes them.

    A file's id is its name up to the first dot. A shard is read again when files have come or changed in size. Raises
    `VlfilterError` when the folder holds none.
    """
    check_parser(parser)
    check_writable(output)
    files = _listing(responses)
    made = 0
    jobs = judge_jobs(data, output, {"responses": absolute(responses)}, parser)
    dated = []
    for job in jobs:
        rows = job.shard.read().to_pylist()
        there = {str(row["id"]): files[row["id"]] for row in rows if row["id"] in files}
        parts = {**job.parts, "files": digest(there)}
        dated.append(type(job)(job.shard, job.url, parts))
        if shard_footer(job.url, parts) is not None:
            continue
        begun = time.monotonic()
        found = [unusable(row) or _row(row["id"], files, responses, parser) for row in rows]
        write_shard(job.url, judge_table(found), parts, time.monotonic() - begun)
        made += 1
        if tell:
            tell(line(job.shard.name, found))
    remove_shards(output, [job.shard.name for job in jobs])
    return summary(dated, 0, 0.0, made)


def _listing(folder: str) -> dict[int, tuple[str, int]]:
    """Name and size of each response, by id."""
    fs, path = filesystem(folder)
    found: dict[int, tuple[str, int]] = {}
    if fs.isdir(path):
        for entry in fs.ls(path, detail=True):
            name = str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]
            number = name.partition(".")[0]
            if entry["type"] == "file" and number.isascii() and number.isdigit():
                found[int(number)] = (name, int(entry["size"]))
    if not found:
        raise VlfilterError(f"{folder} holds no responses: give the folder of files such as 0.json, 1.json, …")
    return found


def _row(number: int, files: Mapping[int, tuple[str, int]], folder: str, parser: Parser) -> JudgeRow:
    if number not in files:
        return no_answer(number, "there is no response")
    try:
        response: Any = json.loads(read_bytes(join(folder, files[number][0])))
        choice = response["choices"][0]
        # models of the old completions API answer without a message
        content = choice["message"]["content"] if "message" in choice else choice["text"]
    except (ValueError, KeyError, IndexError, TypeError):
        return no_answer(number, f"{files[number][0]} is no response of OpenAI")
    if not isinstance(content, str):
        return no_answer(number, "the response holds no text")
    return read_text(number, content, parser)
