from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vlfilter.data.quotas import even_quotas, proportional_quotas
from vlfilter.methods.mlm_filter.balancing import (
    BUCKETS,
    balance,
    balance_grades,
    bucket,
    bucket_quotas,
    score_histogram,
)
from vlfilter.methods.mlm_filter.grades import Grade, GradeStatus, read_grades, write_grades
from vlfilter.scoring.mlm_filter_prompts import METRICS


def grade(name: str, metric: str, score: int | None) -> Grade:
    status = GradeStatus.OK if score is not None else GradeStatus.REFUSED
    return Grade(name, f"{name}.jpg", "a caption", metric, 2, score, f"{score}\nbecause", str(status), "")


def graded(scores: list[int | None], metric: str = METRICS[0]) -> list[Grade]:
    return [grade(f"p{i}", metric, score) for i, score in enumerate(scores)]


COUNTS = st.lists(st.integers(0, 60), min_size=1, max_size=12)


def test_buckets_are_those_of_the_method() -> None:
    assert BUCKETS[0] == (0, 10)
    assert BUCKETS[-1] == (91, 100)
    assert all(low <= score <= high for score in range(101) for low, high in [BUCKETS[bucket(score)]])


@given(COUNTS, st.integers(0, 400))
def test_even_quotas_are_as_even_as_can_be(available: list[int], total: int) -> None:
    quotas = even_quotas(total, available)
    assert sum(quotas) == min(total, sum(available))
    assert all(0 <= quota <= have for quota, have in zip(quotas, available, strict=True))
    full = [quota for quota, have in zip(quotas, available, strict=True) if quota < have]
    assert not full or max(quotas) <= min(full) + 1


@given(COUNTS, st.integers(0, 400))
def test_proportional_quotas_are_exact(available: list[int], total: int) -> None:
    quotas = proportional_quotas(total, available)
    assert sum(quotas) == min(total, sum(available))
    assert all(0 <= quota <= have for quota, have in zip(quotas, available, strict=True))
    if 0 < total < sum(available):
        ideal = [total * have / sum(available) for have in available]
        assert all(abs(quota - want) < 1 for quota, want in zip(quotas, ideal, strict=True))


@given(st.lists(st.integers(0, 60), min_size=10, max_size=10), st.integers(0, 400), st.integers(0, 3))
def test_bucket_quotas_are_exact_and_reach_the_target_where_they_can(
    available: list[int], wanted: int, seed: int
) -> None:
    quotas = bucket_quotas(wanted, available, seed)
    assert sum(quotas) == min(wanted, sum(available))
    target = math.ceil(wanted / 10)
    for quota, have in zip(quotas, available, strict=True):
        assert quota <= have
        assert quota >= min(target, have) - 1
    if sum(min(target, have) for have in available) < wanted <= sum(available):
        assert all(quota >= min(target, have) for quota, have in zip(quotas, available, strict=True))


def test_a_shortage_goes_to_the_rest_in_proportion_to_what_they_have_left() -> None:
    # the first two lack 14 of their ten; the others have 20, 40 and six times 10 left: 2.3, 4.7 and 1.2 of the 14
    assert bucket_quotas(100, [0, 6, 30, 50, *[20] * 6]) == [0, 6, 13, 15, *[11] * 6]


@given(st.lists(st.none() | st.integers(0, 100), max_size=150), st.integers(1, 120), st.randoms())
def test_a_balanced_choice(scores: list[int | None], per_metric: int, shuffle: random.Random) -> None:
    rows = [*graded(scores), *graded(scores[: len(scores) // 2], METRICS[3])]
    chosen = balance(rows, per_metric, seed=5)
    keys = [(row.id, row.metric) for row in chosen]
    assert len(set(keys)) == len(keys)
    assert all(row.score is not None for row in chosen)
    for metric in METRICS:
        there = sum(row.metric == metric and row.score is not None for row in rows)
        assert sum(row.metric == metric for row in chosen) == min(per_metric, there)
    shuffle.shuffle(rows)
    assert balance(rows, per_metric, seed=5) == chosen


def test_another_seed_is_another_choice() -> None:
    rows = graded([50] * 200)
    assert balance(rows, 20, seed=1) != balance(rows, 20, seed=2)


def test_scores_that_a_teacher_favours_are_levelled() -> None:
    random_scores = random.Random(0).choices([85, 90, 75, *range(101)], [300, 200, 100, *[1] * 101], k=4000)
    rows = graded(list(random_scores))
    chosen = Counter(bucket(row.score or 0) for row in balance(rows, 200))
    assert set(chosen.values()) == {20}


def test_the_histogram_counts_before_and_after() -> None:
    rows = graded([5, 5, 95, None])
    found = score_histogram(rows, rows[:1])
    assert found[0] == {"metric": METRICS[0], "scores": "0-10", "graded": 2, "chosen": 1}
    assert found[9] == {"metric": METRICS[0], "scores": "91-100", "graded": 1, "chosen": 0}
    assert len(found) == 10


def test_the_step_is_done_once_and_again_for_other_input(tmp_path: Path) -> None:
    grades, output = str(tmp_path / "grades.parquet"), str(tmp_path / "balanced.parquet")
    write_grades(grades, graded([*range(101), None]))
    summary = balance_grades(grades, output, 50)
    assert summary["chosen"] == {METRICS[0]: 50}
    assert len(read_grades(output)) == 50
    written = (tmp_path / "balanced.parquet").stat().st_mtime_ns
    assert balance_grades(grades, output, 50) == summary
    assert (tmp_path / "balanced.parquet").stat().st_mtime_ns == written
    assert balance_grades(grades, output, 20)["rows"] == 20
    write_grades(grades, [replace(row, score=1) for row in graded([7] * 30)])
    assert balance_grades(grades, output, 20)["histogram"][0] == {
        "metric": METRICS[0], "scores": "0-10", "graded": 30, "chosen": 20,
    }  # fmt: skip
    (tmp_path / "balanced.parquet").write_bytes(b"torn")
    assert balance_grades(grades, output, 20)["rows"] == 20
    assert len(read_grades(output)) == 20
