"""Captions → clusters, and from each cluster the candidates that the lot puts first; memory does not grow with rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlfilter.data.quotas import priority
from vlfilter.errors import VlfilterError
from vlfilter.methods.mlm_filter.captions import usable_captions
from vlfilter.methods.mlm_filter.embedding import Embedder

FIT_ROWS = 100_000  # captions that the words and the clusters' centres are learnt from


@dataclass(frozen=True)
class Candidates:
    """Rows of a captions file that may be chosen, n of each array, sorted by cluster and lot.

    `label` is the cluster, `order` the lot (small first), `row` counts the usable rows of the file; `sizes` holds how
    many rows each cluster has in all.
    """

    label: np.ndarray
    order: np.ndarray
    row: np.ndarray
    sizes: tuple[int, ...]


def find_candidates(
    url: str, embed: Embedder, clusters: int, seed: int, keep: int, fit_rows: int = FIT_ROWS
) -> Candidates:
    """Cluster the captions of a file (mini-batch k-means on unit vectors), keeping `keep` rows at most of each cluster.

    The centres are learnt from the `fit_rows` captions that the lot puts first, so that neither the order of the shards
    nor their number changes which are used. Raises `VlfilterError` when there is no caption at all.
    """
    from sklearn.cluster import MiniBatchKMeans

    learnt = _lowest(url, seed, fit_rows)
    if not learnt:
        raise VlfilterError("none of the samples is an image with a caption: there is nothing to choose from.")
    embed.fit(learnt)
    vectors = embed(learnt)
    clusters = min(clusters, len(np.unique(vectors, axis=0)))
    model = MiniBatchKMeans(clusters, random_state=seed, batch_size=4096, n_init=3)
    model.fit(vectors)
    kept: list[np.ndarray] = []
    waiting = 0
    sizes = np.zeros(clusters, np.int64)
    for start, batch in _numbered(url):
        if not batch.num_rows:
            continue
        labels = model.predict(embed(batch["caption"].to_pylist())).astype(np.int64)
        sizes += np.bincount(labels, minlength=clusters)
        piece = np.empty(batch.num_rows, _ROW)
        piece["label"], piece["order"], piece["row"] = labels, _lots(batch, seed), start + np.arange(batch.num_rows)
        kept.append(piece)
        waiting += len(piece)
        if waiting > 4 * keep * clusters:
            kept = [_first_of_each(np.concatenate(kept), keep)]
            waiting = 0
    rows = _first_of_each(np.concatenate(kept), keep)
    return Candidates(rows["label"], rows["order"], rows["row"], tuple(int(size) for size in sizes))


_ROW = np.dtype([("label", np.int64), ("order", np.uint64), ("row", np.int64)])


def _first_of_each(rows: np.ndarray, keep: int) -> np.ndarray:
    """The `keep` rows of each cluster with the smallest lots, sorted by cluster, lot and row."""
    rows = rows[np.lexsort((rows["row"], rows["order"], rows["label"]))]
    labels = rows["label"]
    begins = np.searchsorted(labels, labels)  # where each row's cluster begins
    return rows[np.arange(len(rows)) - begins < keep]


def _lowest(url: str, seed: int, count: int) -> list[str]:
    """The captions with the `count` smallest lots, in that order."""
    lots = np.zeros(0, np.uint64)
    texts = np.zeros(0, object)
    for batch in usable_captions(url):
        lots = np.concatenate([lots, _lots(batch, seed)])
        texts = np.concatenate([texts, np.array(batch["caption"].to_pylist(), object)])
        if len(lots) > 2 * count:
            chosen = np.argsort(lots, kind="stable")[:count]
            lots, texts = lots[chosen], texts[chosen]
    return [str(text) for text in texts[np.argsort(lots, kind="stable")[:count]]]


def _numbered(url: str) -> Iterator[tuple[int, pa.RecordBatch]]:
    start = 0
    for batch in usable_captions(url):
        yield start, batch
        start += batch.num_rows


def _lots(batch: pa.RecordBatch, seed: int) -> np.ndarray:
    return np.array([priority(seed, uid) for uid in batch["uid"].to_pylist()], np.uint64)
