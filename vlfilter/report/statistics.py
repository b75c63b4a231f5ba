"""What one scorer's tables hold, read in two passes with memory that does not grow with the rows."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlfilter.data.samples import Status
from vlfilter.data.scores import SHARED, Scores
from vlfilter.selection.evaluate import numbers
from vlfilter.selection.rules import is_number

BARS = 60
FINE = 20  # bins in a bar: the resolution of quantiles and keep rates
MAX_WHOLE = 120  # columns of so few different whole numbers get a bar for each
MAX_REASONS = 5_000
OTHER = "(other reasons)"
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Distribution:
    """The finite values of a column: `counts` in equal bins from `start` to `stop`, `per_bar` of them in a bar."""

    column: str
    rows: int
    count: int
    low: float
    high: float
    mean: float
    deviation: float
    start: float
    stop: float
    counts: np.ndarray
    per_bar: int

    @property
    def edges(self) -> np.ndarray:
        return np.linspace(self.start, self.stop, len(self.counts) + 1)

    def bars(self) -> tuple[np.ndarray, np.ndarray]:
        """(n + 1 edges, n counts) of the histogram to be drawn."""
        return self.edges[:: self.per_bar], self.counts.reshape(-1, self.per_bar).sum(axis=1)

    def keep_rates(self) -> tuple[np.ndarray, np.ndarray]:
        """(ascending thresholds, share of the finite values that are at or above each, 0 to 1)."""
        above = np.concatenate([[0], np.cumsum(self.counts[::-1])])[::-1]
        # A whole number's own bin begins half a step below it.
        thresholds = self.edges + 0.5 if self.per_bar == 1 else self.edges
        return thresholds, above / max(1, self.count)

    def quantile(self, share: float) -> float:
        """The middle of the bin that holds it: exact to half a bin, and for whole numbers that have their own bins."""
        reached = np.cumsum(self.counts)
        place = int(np.searchsorted(reached, share * self.count))
        place = min(place, len(self.counts) - 1)
        return float(np.clip(self.edges[place : place + 2].mean(), self.low, self.high))


@dataclass(frozen=True, slots=True)
class Failure:
    """A kind of failure: `reason` with its numbers made `#`, and the key of one sample that has it."""

    status: str
    reason: str
    count: int
    example: str


@dataclass(frozen=True)
class ScorerStatistics:
    """`flags` counts the rows in which each yes-or-no column says yes."""

    scorer: str
    shards: int
    rows: int
    statuses: dict[str, int]
    distributions: tuple[Distribution, ...]
    failures: tuple[Failure, ...]
    flags: dict[str, int]


def metrics(scores: Scores, scorer: str) -> list[str]:
    """The names of a scorer's scores, as `scorer.column`: its floating-point columns, for the others count and flag.

    A scorer that has none is taken to score in integers.
    """
    fields = [field for field in scores.schemas[scorer] if field.name not in SHARED]
    numeric = [field for field in fields if is_number(field.type) and not pa.types.is_boolean(field.type)]
    floats = [field for field in numeric if pa.types.is_floating(field.type)]
    return [f"{scorer}.{field.name}" for field in floats or numeric]


def flags(scores: Scores, scorer: str) -> list[str]:
    """The names of a scorer's yes-or-no columns, as `scorer.column`."""
    return [f"{scorer}.{field.name}" for field in scores.schemas[scorer] if pa.types.is_boolean(field.type)]


def collect(scores: Scores, scorer: str) -> ScorerStatistics:
    """Statistics over all tables of one scorer."""
    mine = scores.of(scorer)
    columns, yes_or_no = metrics(scores, scorer), flags(scores, scorer)
    statuses: Counter[str] = Counter()
    flagged: Counter[str] = Counter(dict.fromkeys(yes_or_no, 0))
    failures: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    moments = {column: _Moments() for column in columns}
    rows = 0
    status, reason = f"{scorer}.status", f"{scorer}.reason"

    def first_pass(
        shard: str, table: pa.Table
    ) -> tuple[int, Counter[str], Counter[str], Counter[tuple[str, str]], dict, list]:
        failed = table.select([status, reason]).filter(pc.fill_null(pc.not_equal(table[status], Status.OK.value), True))
        kinds = [(str(s), _DIGITS.sub("#", r or "")) for s, r in zip(*failed.to_pydict().values(), strict=True)]
        new = set(kinds) - examples.keys()
        found = _examples(mine, shard, table[status], table[reason], new) if new else {}
        values = [_Moments.of(_finite(table[column])) for column in columns]
        said = Counter({column: pc.sum(table[column]).as_py() or 0 for column in yes_or_no})
        return table.num_rows, Counter(table[status].to_pylist()), said, Counter(kinds), found, values

    for count, of_status, of_flag, of_kind, found, values in mine.map(
        [*columns, *yes_or_no, status, reason], first_pass
    ):
        rows += count
        statuses += of_status
        flagged.update(of_flag)
        for kind, times in of_kind.items():
            kind = kind if kind in failures or len(failures) < MAX_REASONS else (kind[0], OTHER)
            failures[kind] += times
            examples.setdefault(kind, found.get(kind, ""))
        for column, value in zip(columns, values, strict=True):
            moments[column] = moments[column].joined(value)
    return ScorerStatistics(
        scorer,
        len(mine.shards),
        rows,
        {str(name): times for name, times in statuses.most_common()},
        tuple(_distributions(mine, columns, moments, rows)),
        tuple(Failure(*kind, times, examples[kind]) for kind, times in failures.most_common()),
        dict(flagged),
    )


def _examples(
    scores: Scores, shard: str, statuses: pa.ChunkedArray, reasons: pa.ChunkedArray, kinds: set[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """The key of the first row of each kind of failure in this shard."""
    keys = scores.read(shard, ["key"])["key"]
    found: dict[tuple[str, str], str] = {}
    for row, (status, reason) in enumerate(zip(statuses.to_pylist(), reasons.to_pylist(), strict=True)):
        kind = (str(status), _DIGITS.sub("#", reason or ""))
        if kind in kinds and kind not in found:
            found[kind] = keys[row].as_py() or ""
    return found


@dataclass(frozen=True, slots=True)
class _Moments:
    count: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    mean: float = 0.0
    squares: float = 0.0  # of the differences from the mean

    @classmethod
    def of(cls, values: np.ndarray) -> _Moments:
        if not len(values):
            return cls()
        mean = float(values.mean())
        return cls(len(values), float(values.min()), float(values.max()), mean, float(((values - mean) ** 2).sum()))

    def joined(self, other: _Moments) -> _Moments:
        """Chan, Golub and LeVeque (1979)."""
        count = self.count + other.count
        if not count:
            return self
        step = other.mean - self.mean
        squares = self.squares + other.squares + step * step * self.count * other.count / count
        mean = self.mean + step * other.count / count
        return _Moments(count, min(self.low, other.low), max(self.high, other.high), mean, squares)


def _distributions(scores: Scores, columns: list[str], moments: dict[str, _Moments], rows: int) -> list[Distribution]:
    bins = {
        column: _bins(moments[column], pa.types.is_integer(scores.column_type(column)))
        for column in columns
        if moments[column].count
    }
    counts = {column: np.zeros(number, np.int64) for column, (_, _, number, _) in bins.items()}

    def second_pass(_: str, table: pa.Table) -> list[tuple[str, np.ndarray]]:
        found = []
        for column, (start, stop, number, _per_bar) in bins.items():
            found.append((column, np.histogram(_finite(table[column]), number, (start, stop))[0]))
        return found

    if bins:
        for part in scores.map(bins, second_pass):
            for column, more in part:
                counts[column] += more
    found = []
    for column, (start, stop, _, per_bar) in bins.items():
        m = moments[column]
        deviation = (m.squares / m.count) ** 0.5
        found.append(
            Distribution(column, rows, m.count, m.low, m.high, m.mean, deviation, start, stop, counts[column], per_bar)
        )
    return found


def _bins(moments: _Moments, whole: bool) -> tuple[float, float, int, int]:
    """(start, stop, number of bins, bins in a bar)."""
    low, high = moments.low, moments.high
    if whole and high - low < MAX_WHOLE:
        return low - 0.5, high + 0.5, int(high - low + 1), 1
    if low == high:
        low, high = low - 0.5, high + 0.5
    return low, high, BARS * FINE, FINE


def _finite(column: pa.ChunkedArray) -> np.ndarray:
    found = numbers(column)
    values = np.asarray(found.values, np.float64)[found.present(len(column))]
    return values[np.isfinite(values)]
