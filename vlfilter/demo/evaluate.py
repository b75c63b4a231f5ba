"""The demo's honest table: what each scorer caught of the planted defects, and what its subset is worth.

Everything is measured on the score tables and subsets of this run. A filter at random, everything and the clean part
are measured beside the scorers, so that the table also says when a scorer does no better than chance.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from vlfilter.data.decode import decode_sample
from vlfilter.data.reader import ShardReader
from vlfilter.data.samples import ImageText, Sample
from vlfilter.data.scores import Scores
from vlfilter.data.shards import list_shards
from vlfilter.demo.detection import Detection, detect
from vlfilter.demo.layout import KEEP, METRICS, Layout
from vlfilter.demo.seeds import stream
from vlfilter.demo.spoil import Kind
from vlfilter.errors import VlfilterError
from vlfilter.selection.select import select

RANDOM, EVERYTHING, CLEAN_PART = "random", "everything", "clean part"


@dataclass(frozen=True, slots=True)
class EvaluateSizes:
    """Runs of the classifier (with different seeds) on each training set, and steps of each."""

    runs: int = 3
    steps: int = 300


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of the small classifier on the clean test set: mean and standard deviation over runs, 0 … 1.

    `samples` is the size of the training set, `labelled` how many of them have a caption that names an object.
    """

    trained_on: str
    samples: int
    labelled: int
    mean: float
    deviation: float
    runs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    key: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class DemoResult:
    """`counts` holds the pool's samples by kind of defect."""

    counts: dict[str, int]
    unreadable: tuple[Unreadable, ...]
    detections: tuple[Detection, ...]
    accuracies: tuple[Accuracy, ...]
    test_samples: int


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows that have every score: `uids`, `kinds` (n,) strings, `scores` (n,) float64 by scorer."""

    uids: np.ndarray
    kinds: np.ndarray
    scores: dict[str, np.ndarray]
    unreadable: tuple[Unreadable, ...]


def choose(layout: Layout) -> None:
    """Write each scorer's subset: the best `KEEP` by its score, as `vlfilter select --top` does."""
    scores = Scores.open(str(layout.scores))
    for scorer, column in METRICS.items():
        layout.subset(scorer).parent.mkdir(parents=True, exist_ok=True)
        select(scores, str(layout.subset(scorer)), top=KEEP, by=f"{scorer}.{column}")


def read_pool(layout: Layout) -> Pool:
    """Score tables joined with the truth. Raises `VlfilterError` when they do not belong together."""
    kinds = {row["uid"]: row["kind"] for row in pq.read_table(layout.truth, columns=["uid", "kind"]).to_pylist()}
    status = [f"{scorer}.{name}" for scorer in METRICS for name in ("status", "reason")]
    columns = ["uid", "key", *(f"{scorer}.{column}" for scorer, column in METRICS.items()), *status]
    scored, unreadable = [], []
    for _, table in Scores.open(str(layout.scores)).stream(columns):
        for row in table.to_pylist():
            bad = next((s for s in METRICS if row[f"{s}.status"] != "ok"), None)
            if bad is None:
                scored.append(row)
            else:
                unreadable.append(Unreadable(row["key"], row[f"{bad}.status"], row[f"{bad}.reason"]))
    if {row["uid"] for row in scored} - set(kinds) or len(scored) + len(unreadable) != len(kinds):
        raise VlfilterError(
            f"the score tables in {layout.scores} are not of this demo's shards: remove {layout.output}."
        )
    return Pool(
        uids=np.array([row["uid"] for row in scored]),
        kinds=np.array([kinds[row["uid"]] for row in scored]),
        scores={s: np.array([row[f"{s}.{c}"] for row in scored], float) for s, c in METRICS.items()},
        unreadable=tuple(unreadable),
    )


def read_samples(spec: str) -> list[tuple[Sample, ImageText]]:
    """The decodable pairs of some shards."""
    decoded = (decode_sample(raw) for shard in list_shards(spec) for raw in ShardReader(shard))
    return [(sample, sample.content) for sample in decoded if isinstance(sample.content, ImageText)]


def subsets(layout: Layout, pool: Pool, seed: int) -> dict[str, np.ndarray]:
    """Which rows of the pool each training set has, (n,) bool; the random one is as large as the first scorer's."""
    chosen = {
        scorer: np.isin(pool.uids, pq.read_table(layout.subset(scorer), columns=["uid"])["uid"].to_numpy())
        for scorer in METRICS
    }
    size = int(next(iter(chosen.values())).sum())
    picked = np.zeros(len(pool.uids), bool)
    picked[stream(seed, "random subset").sample(range(len(pool.uids)), size)] = True
    everything, clean = np.ones(len(pool.uids), bool), pool.kinds == str(Kind.CLEAN)
    return {EVERYTHING: everything, RANDOM: picked, **chosen, CLEAN_PART: clean}


def evaluate(layout: Layout, seed: int, sizes: EvaluateSizes = EvaluateSizes()) -> DemoResult:
    """Measure; needs the score tables and `choose`'s subsets."""
    pool = read_pool(layout)
    sets = subsets(layout, pool, seed)
    guesses = np.random.default_rng(seed).random(len(pool.uids))
    detections = [detect(name, pool.scores.get(name, guesses), pool.kinds, sets[name]) for name in (RANDOM, *METRICS)]
    accuracies, tested = _accuracies(layout, pool.uids, sets, sizes)
    kinds = pq.read_table(layout.truth, columns=["kind"])["kind"].to_pylist()
    counts = {str(kind): kinds.count(str(kind)) for kind in Kind}
    return DemoResult(counts, pool.unreadable, tuple(detections), tuple(accuracies), tested)


def _accuracies(
    layout: Layout, uids: np.ndarray, sets: dict[str, np.ndarray], sizes: EvaluateSizes
) -> tuple[Sequence[Accuracy], int]:
    from vlfilter.demo.accuracy import accuracy, labelled

    by_uid = {sample.uid: pair for sample, pair in read_samples(str(layout.shards))}
    pairs = [by_uid[uid] for uid in uids.tolist()]
    train = labelled([pair.image for pair in pairs], [pair.caption for pair in pairs])
    tests = [pair for _, pair in read_samples(str(layout.test))]
    test = labelled([pair.image for pair in tests], [pair.caption for pair in tests])
    has_label = (train.labels >= 0).numpy()
    rows = []
    for name, chosen in sets.items():
        runs = tuple(accuracy(train, chosen, test, run, sizes.steps) for run in range(sizes.runs))
        rows.append(
            Accuracy(
                trained_on=name,
                samples=int(chosen.sum()),
                labelled=int((chosen & has_label).sum()),
                mean=statistics.fmean(runs),
                deviation=statistics.stdev(runs) if len(runs) > 1 else 0.0,
                runs=runs,
            )
        )
    return rows, len(tests)
