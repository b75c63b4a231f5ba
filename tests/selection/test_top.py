from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.selection.tables import schema, uid, write_scorer
from vlfilter.data.scores import Scores
from vlfilter.selection import rules, top
from vlfilter.selection.nodes import Cut
from vlfilter.selection.top import Rows, Search, Threshold, run_passes, sortable, uid_hash, unsortable


def search(cut: Cut, shards: Sequence[tuple[Sequence[float], Sequence[str]]], dtype: type) -> tuple[Threshold, list]:
    """The threshold over shards of (values, uids), and the kept (shard, row)."""
    rows = [_rows(np.array(values, dtype) + dtype(0), i, uids) for i, (values, uids) in enumerate(shards)]

    def one_pass(active: list[Search]) -> None:
        for one in active:
            for part in [one.look(shard) for shard in random.sample(rows, len(rows))]:
                one.add(part)

    (found,) = run_passes([Search(cut)], one_pass)
    kept = [(i, int(row)) for i, shard in enumerate(rows) for row in np.flatnonzero(found.keeps(shard))]
    return found, kept


def _rows(values: np.ndarray, shard: int, uids: pa.Array) -> Rows:
    return Rows(values, np.arange(len(values)), shard, lambda chosen: pa.chunked_array([uids]).take(pa.array(chosen)))


def brute_force(side: str, keep: int, shards: Sequence[tuple[Sequence[float], Sequence[str]]]) -> list[tuple[int, int]]:
    order = []
    for i, (values, uids) in enumerate(shards):
        hashes = uid_hash(pa.chunked_array([pa.array(uids, pa.string())]))
        for row, value in enumerate(values):
            order.append((value if side == "bottom" else -value, -int(hashes[row]), i, row))
    return sorted((i, row) for _, _, i, row in sorted(order)[:keep])


FLOATS = st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, 1.5, float("inf"), float("-inf")])
INTS = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)
UIDS = st.integers(0, 3).map(lambda n: uid(str(n))) | st.uuids().map(lambda u: u.hex) | st.just("not hex")


def shards_of(values: st.SearchStrategy) -> st.SearchStrategy:
    rows = st.lists(st.tuples(values, UIDS), max_size=12).map(lambda r: tuple(zip(*r, strict=True)) if r else ((), ()))
    return st.lists(rows, max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["top", "bottom"]),
    st.integers(0, 60) | st.integers(0, 100).map(lambda p: Fraction(p, 100)),
    st.one_of(
        st.tuples(st.just(np.float32), shards_of(FLOATS)),
        st.tuples(st.just(np.float64), shards_of(FLOATS | st.floats(allow_nan=False))),
        st.tuples(st.just(np.int64), shards_of(INTS)),
    ),
    st.sampled_from([1, 4, top.COLLECT]),
)
@example("top", 3, (np.float64, [((1.0,) * 9, ("same",) * 9)]), 1)
@example("top", 2, (np.int64, [((2**62, 2**62 + 1), ("a", "b")), ((2**62 + 1,), ("c",))]), 1)
def test_keeps_exactly_what_a_sort_would(side: str, amount: int | Fraction, data: tuple, collect: int) -> None:
    dtype, shards = data
    shards = [(values, pa.array(uids, pa.string())) for values, uids in shards]
    total = sum(len(values) for values, _ in shards)
    share = amount if isinstance(amount, Fraction) else None
    cut = Cut(side, share, None if share is not None else int(amount), False, 0)
    keep = min(int(amount), total) if share is None else int(total * share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top, "COLLECT", collect)  # a small one sends even few rows through the histograms
        found, kept = search(cut, shards, dtype) if total else (None, [])
    assert kept == brute_force(side, keep, shards)
    if found and kept:
        values = [shards[i][0][row] for i, row in kept]
        assert found.value == (min(values) if side == "top" else max(values))
        assert (found.rows, found.kept) == (total, keep)


@given(st.lists(FLOATS, min_size=1), st.lists(INTS, min_size=1))
def test_words_sort_as_numbers_and_turn_back(floats: list[float], ints: list[int]) -> None:
    for values in (np.array(floats) + 0.0, np.array(ints)):
        words = sortable(values)
        assert np.array_equal(np.argsort(words, kind="stable"), np.argsort(values, kind="stable"))
        assert [unsortable(int(word), values.dtype) for word in words] == values.tolist()


def test_the_hash_of_a_uid_never_changes() -> None:
    """Pinned: another hash would keep other rows from the tables of yesterday."""
    uids = pa.chunked_array([["139e4a9b22a614771f06c700a8ebe150", "0" * 32, "not hex", None]])
    expected = ["76f90ebe51d2e444", "48218226ff3cd4bf"]
    expected += ["5c9239c9fd2f37bf", "f90ebd013a19a2bc"]
    assert [f"{word:016x}" for word in uid_hash(uids)] == expected


TENTHS = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]


def test_exact_and_datacomp_rule_differ_by_one_row() -> None:
    """DataComp's rule keeps 4 of 10 for 0.3, with threshold 0.6."""
    shards = [(TENTHS, pa.array([uid(str(v)) for v in TENTHS]))]
    exact, kept = search(Cut("top", Fraction(3, 10), None, False, 0), shards, np.float64)
    assert (len(kept), exact.value) == (3, 0.7)
    datacomp, kept = search(Cut("top", Fraction(3, 10), None, True, 0), shards, np.float64)
    assert (len(kept), datacomp.value, datacomp.kept) == (4, 0.6, 4)


def test_datacomp_rule_keeps_all_ties_and_at_most_everything() -> None:
    shards = [([95, 90, 88, 85, 85, 85, 70, 60, 50, 40], pa.array([uid(str(n)) for n in range(10)]))]
    assert len(search(Cut("top", Fraction(3, 10), None, False, 0), shards, np.int64)[1]) == 3
    found, kept = search(Cut("top", Fraction(3, 10), None, True, 0), shards, np.int64)
    assert (len(kept), found.kept, found.value) == (6, 6, 85)
    assert len(search(Cut("top", Fraction(1), None, True, 0), shards, np.int64)[1]) == 10


def test_the_shards_names_and_order_do_not_matter(tmp_path: Path) -> None:
    """The same rows cut into shards in another way: ties fall alike, by uid."""
    rows = [(float(n % 4), uid(str(n))) for n in range(400)]
    kept = []
    for number, size in enumerate((400, 37, 100)):
        root = str(tmp_path / str(number))
        shuffled = random.Random(number).sample(rows, len(rows))
        for start in range(0, 400, size):
            values, uids = zip(*shuffled[start : start + size], strict=True)
            write_scorer(root, "s", f"{start:03d}", {"x": values}, schema(x=pa.float32()), uids=uids)
        scores = Scores.open(root)
        rule = rules.make_rule(scores, "x >= top(30%)")
        thresholds = rules.find_thresholds(rule, scores)
        (threshold,) = thresholds.values()
        assert (threshold.rows, threshold.kept, threshold.value, threshold.ties) == (400, 120, 2.0, 100)
        chosen: set[str] = set()
        for shard, table in scores.stream(["x", "uid"]):
            verdict = rules.judge(rule, thresholds, scores, shard, table)
            chosen |= set(table["uid"].filter(pa.array(verdict.kept)).to_pylist())
        kept.append(chosen)
    assert len(kept[0]) == 120
    assert kept[0] == kept[1] == kept[2]
