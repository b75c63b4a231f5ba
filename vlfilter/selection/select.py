"""Select: score tables and a rule in, a subset file and a summary out."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlfilter.data.scores import Scores
from vlfilter.data.storage import check_writable, is_local
from vlfilter.errors import VlfilterError
from vlfilter.scoring.status import check_complete
from vlfilter.selection import rules
from vlfilter.selection.nodes import source
from vlfilter.selection.subset import check_output, make_writer, place_file
from vlfilter.selection.top import Threshold


@dataclass(frozen=True)
class Selection:
    """What a selection came to.

    `rows` in all tables; `candidates` of them have every score that the rule uses; `kept` passed it; `duplicates` of
    those repeat a uid (for `.txt` a key) already kept, which the file names once. `thresholds` pairs each `top()` with
    what it came to.
    """

    where: str
    output: str
    shards: int
    rows: int
    candidates: int
    kept: int
    duplicates: int
    thresholds: tuple[tuple[str, Threshold], ...]
    seconds: float

    def lines(self) -> list[str]:
        """The summary for people."""
        share = f" ({self.kept / self.rows:.2%})" if self.rows else ""
        lines = [
            f"kept {self.kept:,} of {self.rows:,} rows{share} in {self.shards:,} shards: {self.where}",
            f"{self.rows - self.candidates:,} rows lack a score that the rule uses",
        ]
        for text, threshold in self.thresholds:
            value = "nothing" if threshold.value is None else f"{threshold.value:.6g}"
            tied = f", {threshold.ties:,} tied there, chosen by uid" if threshold.ties else ""
            lines.append(f"{text}: {threshold.kept:,} of {threshold.rows:,}, down to {value}{tied}")
        if self.duplicates:
            what = "key" if self.output.endswith(".txt") else "uid"
            lines.append(f"{self.duplicates:,} of the kept rows repeat another one's {what}; each asks for one copy")
        return lines


def select(
    scores: Scores | str,
    output: str,
    *,
    where: str | None = None,
    top: str | None = None,
    by: str | None = None,
    allow_incomplete: bool = False,
) -> Selection:
    """Write the subset that `where` keeps, or the exact top fraction (`top="30%", by="clip_score"`).

    Reads the tables shard by shard; memory grows with the kept rows only (16 bytes each). Raises `VlfilterError` for a
    mistake in the rule or the output's name, for a place that cannot be written, for tables that different models made,
    and, unless `allow_incomplete`, when the last run left shards without a table: a top fraction of some shards is not
    that of all.
    """
    began = time.perf_counter()
    suffix = check_output(output)
    scores = Scores.open(scores) if isinstance(scores, str) else scores
    rule = rules.make_rule(scores, where, top, by)
    if not allow_incomplete:
        for scorer in scores.scorers(rule.columns):
            check_complete(scores.url, scorer, scores.tables[scorer])
    scores = scores.uniform()
    folder, slash, name = output.rpartition("/")
    if not name:
        raise VlfilterError(f"{output!r} names no file.")
    check_writable(folder if slash and (folder or not is_local(output)) else "/" if slash else ".")

    thresholds = rules.find_thresholds(rule, scores)
    rows = candidates = kept = 0
    with place_file(output) as path:
        writer = make_writer(suffix, path, rule.columns)

        def work(shard: str, table: pa.Table) -> tuple[int, int, int, object]:
            verdict = rules.judge(rule, thresholds, scores, shard, table)
            chosen = np.flatnonzero(verdict.kept)
            piece = writer.piece(shard, table.take(pa.array(chosen)))
            return table.num_rows, int(verdict.candidates.sum()), len(chosen), piece

        for of_shard, candidates_of_shard, kept_of_shard, piece in scores.map([*rule.columns, *writer.columns], work):
            rows, candidates, kept = rows + of_shard, candidates + candidates_of_shard, kept + kept_of_shard
            writer.add(piece)
        duplicates = writer.finish()
    found = tuple((source(compare), threshold) for compare, threshold in thresholds.items())
    seconds = time.perf_counter() - began
    return Selection(rule.text, output, len(scores.shards), rows, candidates, kept, duplicates, found, seconds)
