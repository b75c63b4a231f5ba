"""How well a classifier tells the four levels: the published metrics, computed here (arXiv 2510.15162)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

LEVELS = 4
NAMES = ("easy negative", "medium negative", "hard negative", "positive")


def predicted_levels(outputs: np.ndarray) -> np.ndarray:
    """Outputs (N, 1) or (N, classes) → levels (N,): the clipped score rounded, halves to even as published, or the
    likeliest class."""
    if outputs.shape[1] == 1:
        levels: np.ndarray = np.clip(outputs[:, 0], 0, LEVELS - 1).round().astype(np.int64)
        return levels
    return outputs.argmax(1)


def level_scores(outputs: np.ndarray) -> np.ndarray:
    """Outputs → one number a sample (N,): the regression's value, or the expected level Σ i·p_i."""
    if outputs.shape[1] == 1:
        values: np.ndarray = outputs[:, 0]
        return values
    shifted = np.exp(outputs - outputs.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    expected: np.ndarray = probabilities @ np.arange(outputs.shape[1])
    return expected


def level_metrics(outputs: np.ndarray, labels: Sequence[int], kinds: Sequence[str]) -> dict[str, Any]:
    """Metrics of N samples as JSON.

    `accuracy`; `precision`, `recall` and `f1`, macro means over the levels that occur as label or prediction (0 where
    one is undefined, as scikit-learn has it); the same for each of `levels`; `kinds` their accuracies; `confusion`
    (label, prediction) counts; `spearman` between score and label, None where either is constant.
    """
    truth, found = np.asarray(labels, np.int64), predicted_levels(outputs)
    confusion = np.zeros((LEVELS, LEVELS), np.int64)
    np.add.at(confusion, (truth, found), 1)
    right, asked, given = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    precision, recall = _divide(right, given), _divide(right, asked)
    f1 = _divide(2 * right, asked + given)
    occurs = (asked + given) > 0
    named = np.asarray(kinds)
    return {
        "rows": len(truth),
        "accuracy": _share(truth == found),
        "precision": float(precision[occurs].mean()),
        "recall": float(recall[occurs].mean()),
        "f1": float(f1[occurs].mean()),
        "spearman": spearman(level_scores(outputs), truth),
        "levels": [
            {"level": i, "name": NAMES[i], "rows": int(asked[i]), "precision": float(precision[i]),
             "recall": float(recall[i]), "f1": float(f1[i])}
            for i in range(LEVELS)
        ],
        "kinds": {
            kind: {"rows": int((named == kind).sum()), "accuracy": _share((truth == found)[named == kind])}
            for kind in sorted(set(kinds))
        },
        "confusion": confusion.tolist(),
    }  # fmt: skip


def spearman(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Rank correlation with mean ranks for ties; None where one of the two is constant."""
    first, second = _ranks(scores), _ranks(labels)
    if first.std() == 0 or second.std() == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends: np.ndarray = np.cumsum(counts)
    ranks: np.ndarray = (ends - (counts - 1) / 2)[place]
    return ranks


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _share(hits: np.ndarray) -> float:
    return float(hits.mean())
