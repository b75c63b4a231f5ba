"""How the scores go together: Pearson over all rows, Spearman over a sample of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pyarrow as pa

from vlfilter.data.scores import Scores
from vlfilter.report.statistics import Distribution
from vlfilter.selection.evaluate import numbers

SAMPLE = 20_000
MAX_COLUMNS = 12
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Correlations:
    """`pearson`, `spearman`: columns × columns, NaN where undefined; `sample`: rows × columns, NaN where missing."""

    columns: tuple[str, ...]
    rows: int
    pearson: np.ndarray
    spearman: np.ndarray
    sample: np.ndarray


def correlate(scores: Scores, distributions: Sequence[Distribution]) -> Correlations | None:
    """Correlations of the columns over the shards that all their scorers have. None for fewer than two columns.

    The sample takes a row by a hash of its place, so that it is the same on every run.
    """
    distributions = [d for d in distributions if d.count][:MAX_COLUMNS]
    columns = [d.column for d in distributions]
    shared = set(scores.shards).intersection(*(scores.tables[s] for s in scores.scorers(columns))) if columns else set()
    if len(columns) < 2 or not shared:
        return None
    means = np.array([d.mean for d in distributions])
    limit = np.uint64(min(1.0, SAMPLE / max(d.rows for d in distributions)) * (2**64 - 2**12))
    places = {shard: place for place, shard in enumerate(sorted(shared))}

    def look(shard: str, table: pa.Table) -> tuple[int, np.ndarray, np.ndarray]:
        values = np.full((table.num_rows, len(columns)), np.nan)
        for at, column in enumerate(columns):
            found = numbers(table[column])
            present = found.present(table.num_rows)
            values[present, at] = np.asarray(found.values)[present]
        values[~np.isfinite(values)] = np.nan
        there = ~np.isnan(values)
        centred = np.where(there, values - means, 0.0)
        mask = there.astype(np.float64)
        # Sums over the rows that have both columns of a pair: n, x, x², xy (y and y² are the transposes).
        sums = np.stack([mask.T @ mask, centred.T @ mask, (centred**2).T @ mask, centred.T @ centred])
        place = np.uint64(places[shard] << 32) + np.arange(table.num_rows, dtype=np.uint64)
        return table.num_rows, sums, values[_mixed(place) <= limit]

    total, rows, parts = np.zeros((4, len(columns), len(columns))), 0, []
    for count, sums, sample in replace(scores, shards=tuple(sorted(shared))).map(columns, look):
        total, rows = total + sums, rows + count
        parts.append(sample)
    together = np.concatenate(parts)
    return Correlations(tuple(columns), rows, _pearson(total), spearman(together), together)


def _pearson(sums: np.ndarray) -> np.ndarray:
    count, x, xx, xy = sums
    with np.errstate(all="ignore"):
        covariance = xy - x * x.T / count
        variance = xx - x * x / count
        return covariance / np.sqrt(variance * variance.T)


def spearman(values: np.ndarray) -> np.ndarray:
    """Rank correlation of every two columns over the rows that have both (ties share their middle rank)."""
    result = np.diag([1.0 if len(np.unique(column[~np.isnan(column)])) > 1 else np.nan for column in values.T])
    for a, b in combinations(range(values.shape[1]), 2):
        both = values[~np.isnan(values[:, [a, b]]).any(axis=1)][:, [a, b]]
        if len(both) < 2:
            result[a, b] = result[b, a] = np.nan
            continue
        with np.errstate(all="ignore"):
            result[a, b] = result[b, a] = np.corrcoef(_ranks(both[:, 0]), _ranks(both[:, 1]))[0, 1]
    return result


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def _mixed(words: np.ndarray) -> np.ndarray:
    words = words * GOLDEN
    words = (words ^ (words >> np.uint64(32))) * GOLDEN
    return words ^ (words >> np.uint64(29))
