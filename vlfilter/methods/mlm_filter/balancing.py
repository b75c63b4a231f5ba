"""Balanced grades: every score as often as the others, so that a student does not learn its teacher's habits.

The paper samples its 40,000 answers uniformly by integer score down to 4,000 (arXiv 2403.02677); the buckets are ours.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from vlfilter.data.quotas import priority, proportional_quotas
from vlfilter.data.receipts import exists, file_digest, finished, write_receipt
from vlfilter.errors import VlfilterError
from vlfilter.methods.mlm_filter.grades import Grade, GradeStatus, read_grades, write_grades
from vlfilter.scoring.mlm_filter_prompts import METRICS

CODE_VERSION = 1
BUCKETS = ((0, 10), *((low, low + 9) for low in range(11, 100, 10)))


def bucket(score: int) -> int:
    """0 for scores 0 to 10, 1 for 11 to 20, …, 9 for 91 to 100."""
    return max(0, (score - 1) // 10)


def bucket_quotas(wanted: int, available: Sequence[int], seed: int = 0) -> list[int]:
    """How many of each bucket: ⌈wanted / 10⌉, and what short buckets lack from the others by what those have left.

    The sum is exactly min(wanted, sum(available)); where ⌈⌉ gave too many, the fullest buckets give one back each,
    the seed deciding among equals.
    """
    target = math.ceil(wanted / len(available))
    quotas = [min(target, have) for have in available]
    lots = [priority(seed, "bucket", str(i)) for i in range(len(quotas))]
    for _ in range(sum(quotas) - wanted):
        fullest = max(range(len(quotas)), key=lambda i: (quotas[i], lots[i]))
        quotas[fullest] -= 1
    left = [have - quota for have, quota in zip(available, quotas, strict=True)]
    more = proportional_quotas(max(0, min(wanted, sum(available)) - sum(quotas)), left)
    return [quota + extra for quota, extra in zip(quotas, more, strict=True)]


def balance(grades: Iterable[Grade], per_metric: int, seed: int = 0) -> list[Grade]:
    """`per_metric` scored rows of each metric (all, where there are fewer), in order of metric and lot.

    Which rows depends on the seed, ids and scores only, not on the order of rows.
    """
    scored: dict[str, list[list[Grade]]] = {}
    for grade in grades:
        if grade.status == GradeStatus.OK and grade.score is not None:
            scored.setdefault(grade.metric, [[] for _ in BUCKETS])[bucket(grade.score)].append(grade)
    chosen: list[Grade] = []
    for metric in (name for name in METRICS if name in scored):
        quotas = bucket_quotas(per_metric, [len(rows) for rows in scored[metric]], seed)
        for rows, quota in zip(scored[metric], quotas, strict=True):
            rows.sort(key=lambda grade: (priority(seed, grade.id, grade.metric), grade.id))
            chosen += rows[:quota]
    return chosen


def score_histogram(before: Iterable[Grade], after: Iterable[Grade]) -> list[dict[str, Any]]:
    """One row a metric and bucket: `metric`, `scores` ("11-20"), `graded`, `chosen`."""
    counts = [
        Counter((grade.metric, bucket(grade.score)) for grade in grades if grade.score is not None)
        for grades in (before, after)
    ]
    metrics = [metric for metric in METRICS if any(found == metric for found, _ in counts[0])]
    return [
        {"metric": metric, "scores": f"{low}-{high}", "graded": counts[0][metric, i], "chosen": counts[1][metric, i]}
        for metric in metrics
        for i, (low, high) in enumerate(BUCKETS)
    ]


def balance_grades(grades_url: str, output: str, per_metric: int, seed: int = 0) -> dict[str, Any]:
    """Write the balanced rows of a grades file as another one. Returns `chosen` by metric and the `histogram`."""
    if not exists(grades_url):
        raise VlfilterError(f"there are no grades {grades_url}: the grading step writes them.")
    parts = {"code": CODE_VERSION, "grades": file_digest(grades_url), "per_metric": per_metric, "seed": seed}
    if (known := finished(output, parts)) is not None:
        return known
    grades = read_grades(grades_url)
    chosen = balance(grades, per_metric, seed)
    write_grades(output, chosen)
    counts = Counter(grade.metric for grade in chosen)
    summary = {
        "rows": len(chosen),
        "chosen": {metric: counts[metric] for metric in METRICS if counts[metric]},
        "wanted": per_metric,
        "histogram": score_histogram(grades, chosen),
    }
    return write_receipt(output, parts, summary)
