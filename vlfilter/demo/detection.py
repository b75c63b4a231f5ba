"""How well a score finds the planted defects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlfilter.demo.spoil import SHARES, Kind


def auroc(good: np.ndarray, bad: np.ndarray) -> float:
    """The chance that a good sample scores above a bad one, ties counted half (Mann-Whitney U / (n·m)); NaN if none."""
    if not len(good) or not len(bad):
        return float("nan")
    ordered = np.sort(bad)
    below, upto = np.searchsorted(ordered, good, "left"), np.searchsorted(ordered, good, "right")
    return float((below + upto).mean() / 2 / len(bad))


@dataclass(frozen=True, slots=True)
class Detection:
    """How one scorer does at a keep rate.

    `precision`: spoiled among what was dropped. `recall`: dropped among what is spoiled. `purity`: clean among what was
    kept. `auroc`: clean against all spoiled; `auroc_by_kind`: clean against one kind of defect.
    """

    scorer: str
    keep_rate: float
    precision: float
    recall: float
    purity: float
    auroc: float
    auroc_by_kind: dict[str, float]
    recall_by_kind: dict[str, float]


def detect(scorer: str, scores: np.ndarray, kinds: np.ndarray, kept: np.ndarray) -> Detection:
    """`scores` (n,) floats, `kinds` (n,) strings, `kept` (n,) bool, over the samples that have a score."""
    clean = kinds == str(Kind.CLEAN)
    spoiled, dropped = ~clean, ~kept
    of_kind = {str(kind): kinds == str(kind) for kind in SHARES}
    return Detection(
        scorer=scorer,
        keep_rate=float(kept.mean()),
        precision=_share(spoiled, dropped),
        recall=_share(dropped, spoiled),
        purity=_share(clean, kept),
        auroc=auroc(scores[clean], scores[spoiled]),
        auroc_by_kind={kind: auroc(scores[clean], scores[rows]) for kind, rows in of_kind.items()},
        recall_by_kind={kind: _share(dropped, rows) for kind, rows in of_kind.items()},
    )


def _share(of: np.ndarray, among: np.ndarray) -> float:
    return float(of[among].mean()) if among.any() else float("nan")
