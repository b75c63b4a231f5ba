"""Which samples to show: the best, the worst, the just kept and the just dropped of a rule."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlfilter.data.scores import Scores
from vlfilter.selection import rules
from vlfilter.selection.evaluate import numbers
from vlfilter.selection.nodes import Column, source

DEFAULT_TOP = "30%"
STRIPS = ("best", "worst", "just kept", "just dropped")


@dataclass(frozen=True, slots=True)
class Pick:
    """One sample: its shard, its row in tar order, its value in the column that ranks."""

    shard: str
    row: int
    value: float


@dataclass(frozen=True)
class View:
    """A rule seen along one of its columns, `scorer.column`.

    `thresholds` pairs each of the rule's limits on that column, as written, with its value; `strips` pairs each of
    `STRIPS` with its picks, in order.
    """

    where: str
    column: str
    rows: int
    candidates: int
    kept: int
    thresholds: tuple[tuple[str, float], ...]
    strips: tuple[tuple[str, tuple[Pick, ...]], ...]


def views(scores: Scores, where: str | None, number: int, default_columns: Sequence[str]) -> list[View]:
    """The views to show: the numeric columns of `where`, or the top 30% of each default column.

    `number` picks a strip. Raises `VlfilterError` for a mistake in `where`.
    """
    if where is None:
        rules_of = [(column, f"{source(Column(column, 0))} >= top({DEFAULT_TOP})") for column in default_columns]
        return [_look(scores.of(scores.resolve(c)[0]), rule, [c], number)[0] for c, rule in rules_of]
    rule = rules.bind(where, scores)
    columns = [column for column in rule.columns if rules.is_number(scores.column_type(column))]
    return _look(scores, where, columns, number)


def _look(scores: Scores, where: str, columns: Sequence[str], number: int) -> list[View]:
    rule = rules.bind(where, scores)
    if len(scores.scorers(rule.columns)) == 1:
        scores = scores.of(*scores.scorers(rule.columns))
    thresholds = rules.find_thresholds(rule, scores)
    best: dict[tuple[str, str], list[tuple[float, Pick]]] = {(c, strip): [] for c in columns for strip in STRIPS}

    def work(shard: str, table: pa.Table) -> tuple[rules.Verdict, list[tuple[str, str, list[tuple[float, Pick]]]]]:
        verdict = rules.judge(rule, thresholds, scores, shard, table)
        dropped = verdict.candidates & ~verdict.kept
        found = []
        for column in columns:
            values = numbers(table[column])
            present = values.present(table.num_rows)
            for strip, among, sign in zip(
                STRIPS, (present, present, verdict.kept & present, dropped & present), (1, -1, -1, 1), strict=True
            ):
                found.append((column, strip, _extreme(shard, np.asarray(values.values), among, sign, number)))
        return verdict, found

    rows = candidates = kept = 0
    for verdict, found in scores.map(rule.columns, work):
        rows += len(verdict.kept)
        candidates += int(verdict.candidates.sum())
        kept += int(verdict.kept.sum())
        for column, strip, picks in found:
            best[column, strip] = heapq.nlargest(number, [*best[column, strip], *picks], key=lambda pick: pick[0])
    limits = list(rules.limits(rule, thresholds))
    return [
        View(
            where, ".".join(scores.resolve(column)), rows, candidates, kept,
            tuple((label, value) for name, label, value in limits if name == column),
            tuple((strip, tuple(pick for _, pick in best[column, strip])) for strip in STRIPS),
        )
        for column in columns
    ]  # fmt: skip


def _extreme(shard: str, values: np.ndarray, among: np.ndarray, sign: int, number: int) -> list[tuple[float, Pick]]:
    """The rows with the largest values (`sign` 1) or the smallest (-1)."""
    rows = np.flatnonzero(among)
    order = sign * values[rows].astype(np.float64)
    if len(rows) > number:
        chosen = np.argpartition(-order, number - 1)[:number]
        rows, order = rows[chosen], order[chosen]
    return [(float(o), Pick(shard, int(row), float(values[row]))) for o, row in zip(order, rows, strict=True)]
