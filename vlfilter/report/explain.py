"""Explain: where a sample lies, every score it has, where those stand among all, and what decided about it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlfilter.data.scores import SHARED, Scores
from vlfilter.data.subset import pack_uid, read_subset
from vlfilter.data.tables import Footer
from vlfilter.errors import VlfilterError
from vlfilter.report.decisions import Step, decide
from vlfilter.selection import rules
from vlfilter.selection.evaluate import numbers

MAX_FOUND = 20


@dataclass(frozen=True, slots=True)
class Rank:
    """`place` 1 is the highest of `rows` values; `tied` others have the same one."""

    place: int
    tied: int
    rows: int

    @property
    def top(self) -> float:
        """The share of values at least as high as this one, ties counted to their middle, 0 to 1."""
        return (self.place + self.tied / 2) / self.rows


@dataclass(frozen=True, slots=True)
class Scored:
    """One scorer's row: `values` by column, `ranks` for its numbers, and the footer that says what made them."""

    scorer: str
    values: Mapping[str, Any]
    ranks: Mapping[str, Rank]
    status: str
    reason: str | None
    footer: Footer


@dataclass(frozen=True, slots=True)
class SampleExplained:
    """`row` counts from 0 in tar order. `steps` and `kept` are None without a rule, `copies` without a subset."""

    key: str
    uid: str
    shard: str
    url: str
    row: int
    scored: tuple[Scored, ...]
    missing: tuple[str, ...]
    steps: tuple[Step, ...] | None
    kept: bool | None
    copies: int | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Usually of one sample; of several where shards share a key."""

    samples: tuple[SampleExplained, ...]
    where: str | None
    subset: str | None

    def lines(self) -> list[str]:
        """The explanation for people. Untrusted text is shown without control characters."""
        lines: list[str] = []
        if len(self.samples) > 1:
            lines += [f"{len(self.samples)} samples have this name; give the uid to see one.", ""]
        for sample in self.samples:
            lines += [_plain(line) for line in _sample_lines(sample, self)]
        return lines


def explain(name: str, scores_url: str, where: str | None = None, subset: str | None = None) -> Explanation:
    """Explain the sample with this key or uid. Reads the key column, one shard's rows, and each score column once.

    Raises `VlfilterError` when no table has the sample (with the nearest keys), and for a mistake in `where`.
    """
    scores = Scores.open(scores_url)
    rule = rules.bind(where, scores) if where is not None else None
    thresholds = rules.find_thresholds(rule, scores) if rule else {}
    chosen = read_subset(subset) if subset else None
    found = _find(name, scores)
    shards = {shard: _Shard(shard, scores, rule.columns if rule else ()) for shard, _ in found}
    rows = [(shards[shard], row) for shard, row in found]
    ranks = _ranks(scores, rows)
    samples = []
    for place, (shard, row) in enumerate(rows):
        key, uid = (str(shard.table[name][row].as_py() or "") for name in SHARED)
        footer = next(iter(shard.footers.values()))
        decided = decide(rule, thresholds, scores, shard.name, shard.ruled, row) if rule else None
        samples.append(
            SampleExplained(
                key, uid, shard.name, footer.shard.url, row,
                tuple(shard.scored(scorer, row, ranks[place]) for scorer in shard.footers),
                tuple(scorer for scorer in scores.schemas if scorer not in shard.footers),
                decided[0] if decided else None, decided[1] if decided else None,
                chosen.count(uid, key) if chosen else None,
            )
        )  # fmt: skip
    return Explanation(tuple(samples), where, subset)


class _Shard:
    """The tables of one shard: `table` has key, uid and `scorer.column` for all, `ruled` the rule's columns."""

    def __init__(self, name: str, scores: Scores, columns: tuple[str, ...]):
        self.name = name
        self.footers = {s: scores.footer(name, s) for s, shards in scores.tables.items() if name in shards}
        self.names = {s: [n for n in scores.schemas[s].names if n not in SHARED] for s in self.footers}
        tables = [scores.read(name, [f"{s}.{n}" for n in names]) for s, names in self.names.items()]
        self.table = scores.read(name, SHARED)
        for table in tables:
            for column in table.column_names:
                self.table = self.table.append_column(column, table[column])
        self.ruled = scores.read(name, columns) if columns else None

    def scored(self, scorer: str, row: int, ranks: Mapping[str, Rank]) -> Scored:
        values = {name: self.table[f"{scorer}.{name}"][row].as_py() for name in self.names[scorer]}
        status, reason = values.pop("status"), values.pop("reason")
        mine = {name: ranks[f"{scorer}.{name}"] for name in values if f"{scorer}.{name}" in ranks}
        return Scored(scorer, values, mine, status, reason, self.footers[scorer])


def _find(name: str, scores: Scores) -> list[tuple[str, int]]:
    """(shard, row) of every sample with this key or uid."""
    columns = [*SHARED] if pack_uid(name) else ["key"]

    def look(shard: str, table: pa.Table) -> tuple[str, list[int], int]:
        hits = set()
        for column in columns:
            wanted = name.lower() if column == "uid" else name
            values = pc.utf8_lower(table[column]) if column == "uid" else table[column]
            hits |= set(np.flatnonzero(pc.fill_null(pc.equal(values, wanted), False).to_numpy()).tolist())
        ends = [table["key"][row].as_py() or "" for row in (0, -1)] if table.num_rows else []
        return shard, sorted(hits), max((_shared(name, end) for end in ends), default=0)

    found: list[tuple[str, int]] = []
    nearest, shared = scores.shards[0], -1
    for shard, hits, length in scores.map(columns, look):
        found += [(shard, row) for row in hits]
        if length > shared:
            nearest, shared = shard, length
    if not found:
        near = difflib.get_close_matches(name, [k or "" for k in scores.read(nearest, ["key"])["key"].to_pylist()])
        hint = f" Near it, in shard {nearest}: {', '.join(map(_plain, near))}." if near else ""
        raise VlfilterError(f"no sample in {scores.url} has the key or uid {_plain(name)!r}.{hint}")
    return found[:MAX_FOUND]


def _ranks(scores: Scores, rows: list[tuple[_Shard, int]]) -> list[dict[str, Rank]]:
    """For each row the rank of each of its numbers among all shards' values, by `scorer.column`."""
    ranks: list[dict[str, Rank]] = [{} for _ in rows]
    for scorer, names in rows[0][0].names.items():
        own = [f"{scorer}.{name}" for name in names if rules.is_number(scores.schemas[scorer].field(name).type)]
        wanted = {
            (place, column): value
            for place, (shard, row) in enumerate(rows)
            for column in own
            if column in shard.table.column_names
            and (value := shard.table[column][row].as_py()) is not None
            and value == value  # not NaN
        }
        if not wanted:
            continue

        def count(
            _: str, table: pa.Table, wanted: dict[tuple[int, str], float] = wanted
        ) -> dict[tuple[int, str], np.ndarray]:
            counts = {}
            for (place, column), value in wanted.items():
                found = numbers(table[column])
                values = np.asarray(found.values)[found.present(table.num_rows)]
                counts[place, column] = np.array([(values > value).sum(), (values == value).sum(), len(values)])
            return counts

        totals = {which: np.zeros(3, np.int64) for which in wanted}
        only = scores.of(scorer)
        for part in only.map(sorted({column for _, column in wanted}), count):
            for which, counts in part.items():
                totals[which] += counts
        for (place, column), (higher, equal, total) in totals.items():
            ranks[place][column] = Rank(int(higher) + 1, int(equal) - 1, int(total))
    return ranks


def _sample_lines(sample: SampleExplained, whole: Explanation) -> list[str]:
    lines = [f"{sample.key}  (uid {sample.uid})", f"  row {sample.row} of shard {sample.shard}: {sample.url}", ""]
    for scored in sample.scored:
        lines.append(f"{scored.scorer}: {scored.status}{f' ({scored.reason})' if scored.reason else ''}")
        for name, value in scored.values.items():
            rank = scored.ranks.get(name)
            stands = f"   rank {rank.place:,} of {rank.rows:,} (top {rank.top:.1%})" if rank else ""
            ties = f", {rank.tied:,} others have the same" if rank and rank.tied else ""
            lines.append(f"  {name} = {_shown(value)}{stands}{ties}")
        parts = ", ".join(f"{name} {_short(part)}" for name, part in sorted(scored.footer.parts.items()))
        lines.append(f"  made by {parts}  (fingerprint {scored.footer.fingerprint[:12]})")
    lines += [f"{scorer}: this shard has not been scored" for scorer in sample.missing]
    if sample.steps is not None:
        lines += ["", f"{'KEPT' if sample.kept else 'DROPPED'} by {whole.where}"]
        lines += [
            f"  {'  ' * s.depth}{'pass' if s.passed else 'FAIL'}  {s.text}   {s.detail}".rstrip() for s in sample.steps
        ]
    if sample.copies is not None:
        times = {0: "not in", 1: "in"}.get(sample.copies, f"{sample.copies} times in")
        lines += ["", f"{times} the subset {whole.subset}"]
    return [*lines, ""]


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)


def _short(value: Any, length: int = 60) -> str:
    text = str(value)
    return text if len(text) <= length else text[: length - 1] + "…"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
