"""A judge's score of every instruction, one of the three scores (arXiv 2402.12501): text only, 0 to 10.

`NNNNN.parquet` has a row (`id`, `judge_score`, `answer`, `status`, `reason`) for each row of the shard of that name.
The answers are kept, so that another parser reads them without asking again. A second run asks only where an answer may
still be had (errors, no text). What was answered before an error ends a run lies in the judge's cache.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vlfilter.data.samples import Status
from vlfilter.data.storage import check_writable, join
from vlfilter.data.tables import FORMAT, digest, read_footer
from vlfilter.errors import VlfilterError
from vlfilter.llm.types import Answer, Request
from vlfilter.methods.self_filter.judge_parsers import Parser, check_parser
from vlfilter.methods.self_filter.judge_prompt import PROMPT, judge_prompt
from vlfilter.methods.self_filter.judge_rows import (
    JudgeRow,
    judge_table,
    read_again,
    read_answer,
    read_rows,
    unusable,
)
from vlfilter.methods.self_filter.row_shards import RowShard, remove_shards, row_shards, write_shard

CODE_VERSION = 1  # raised by whoever changes a row
MODEL = "openai:gpt-3.5-turbo-1106"
BATCH_SHARDS = 32  # asked about together where answers take a day: some 260,000 rows

Told = Callable[[str], None]


class Asker(Protocol):
    """What of `vlfilter.llm.client.Judge` is used here."""

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]: ...


@dataclass(frozen=True, slots=True)
class JudgingSettings:
    """The published ones by default, but for the parser. `judge` names the model (and server) that answers, for the
    fingerprint; `seed` goes to APIs that take one; `shards_at_once` are asked about together and change no score."""

    judge: str = MODEL
    parser: Parser = "strict"
    temperature: float | None = 0.0
    seed: int | None = 42
    max_tokens: int = 10
    shards_at_once: int = 1

    def __post_init__(self) -> None:
        check_parser(self.parser)
        if self.max_tokens < 1 or self.shards_at_once < 1:
            raise VlfilterError("max_tokens and shards_at_once must be at least 1.")

    def asked(self) -> dict[str, Any]:
        """All that changes an answer."""
        return {
            "judge": self.judge,
            "prompt": digest({"text": PROMPT}),
            "temperature": self.temperature,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }

    def request(self, text: str, shard: str) -> Request:
        return Request(
            judge_prompt(text),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=self.seed,
            labels={"step": "judge", "shard": shard},
        )


@dataclass(frozen=True, slots=True)
class JudgeJob:
    """One file to make from one shard of rows; `parts` are those of the answers and the parser."""

    shard: RowShard
    url: str
    parts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JudgeSummary:
    """`rows` by status and the commonest `reasons` of all files; what this run `asked` the judge or its cache, and
    paid; `made` and `kept` are files."""

    rows: dict[str, int]
    reasons: dict[str, int]
    asked: int
    usd: float
    made: int
    kept: int


def judge_scores(
    data: str, output: str, judge: Asker, settings: JudgingSettings, tell: Told | None = None
) -> JudgeSummary:
    """Ask about every row of `data` (what `preprocess` wrote) that has no final answer in `output` yet.

    `tell` hears a line a shard. Raises `VlfilterError` when the rows are missing or no question would be answered, and
    `BudgetExceededError`; the same call goes on from there.
    """
    check_writable(output)
    jobs = judge_jobs(data, output, settings.asked(), settings.parser)
    work = [job for job in jobs if _known(job) is None]
    asked, usd = 0, 0.0
    for start in range(0, len(work), settings.shards_at_once):
        group = work[start : start + settings.shards_at_once]
        begun = time.monotonic()
        plans = [_plan(job, settings) for job in group]
        requests = [step for plan in plans for _, step in plan if isinstance(step, Request)]
        found = judge.ask_all(requests) if requests else []
        asked, usd = asked + len(requests), usd + sum(answer.usd for answer in found)
        answers = iter(found)
        for job, plan in zip(group, plans, strict=True):
            rows = [
                read_answer(number, next(answers), settings.parser) if isinstance(step, Request) else step
                for number, step in plan
            ]
            write_shard(job.url, judge_table(rows), job.parts, time.monotonic() - begun)
            if tell:
                tell(line(job.shard.name, rows))
    remove_shards(output, [job.shard.name for job in jobs])
    return summary(jobs, asked, usd, len(work))


def judge_requests(data: str, output: str, settings: JudgingSettings) -> Iterator[Request]:
    """What `judge_scores` would ask now, for an estimate of the price; one shard lies in memory at a time."""
    for job in judge_jobs(data, output, settings.asked(), settings.parser):
        if _known(job) is None:
            yield from (step for _, step in _plan(job, settings) if isinstance(step, Request))


def judge_jobs(data: str, output: str, source: Mapping[str, Any], parser: Parser) -> list[JudgeJob]:
    """One job a shard; `source` says where the answers are from."""
    shared = {"step": "judge", "code": CODE_VERSION, "parser": parser, **source}
    return [
        JudgeJob(shard, join(output, f"{shard.name}.parquet"), shared | {"rows": shard.content})
        for shard in row_shards(data)
    ]


def line(name: str, rows: Iterable[JudgeRow]) -> str:
    """A shard's counts in words."""
    counts = Counter(row.status for row in rows)
    return f"{name}: {', '.join(f'{n} {status}' for status, n in counts.most_common())}"


def summary(jobs: Sequence[JudgeJob], asked: int, usd: float, made: int) -> JudgeSummary:
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for job in jobs:
        for row in read_rows(job.url):
            counts[row.status] += 1
            if row.reason:
                reasons[row.reason] += 1
    rows = {str(status): counts[status] for status in Status if counts[status]}
    return JudgeSummary(rows, dict(reasons.most_common(10)), asked, round(usd, 6), made, len(jobs) - made)


def _plan(job: JudgeJob, settings: JudgingSettings) -> list[tuple[int, JudgeRow | Request]]:
    """What to ask about each row, or its row where nothing needs to be asked."""
    earlier = _earlier(job)
    plan: list[tuple[int, JudgeRow | Request]] = []
    for row in job.shard.read().to_pylist():
        number = row["id"]
        known = unusable(row) or earlier.get(number)
        again = known and read_again(known, settings.parser)
        plan.append((number, again or settings.request(row["text"], job.shard.name)))
    return plan


def _known(job: JudgeJob) -> list[JudgeRow] | None:
    """The rows of a file from the same input, if none of them is open."""
    rows = _rows(job, ignore=())
    return rows if rows is not None and not any(row.open for row in rows) else None


def _earlier(job: JudgeJob) -> dict[int, JudgeRow]:
    """The final rows of an earlier file with the same questions, whatever parser read their answers."""
    return {row.id: row for row in _rows(job, ignore=("parser",)) or [] if not row.open}


def _rows(job: JudgeJob, ignore: Sequence[str]) -> list[JudgeRow] | None:
    try:
        footer = read_footer(job.url)
    except (FileNotFoundError, VlfilterError):
        return None
    made, wanted = ({k: v for k, v in parts.items() if k not in ignore} for parts in (footer.parts, job.parts))
    return read_rows(job.url) if footer.format == FORMAT and made == wanted else None
