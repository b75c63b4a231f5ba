"""Which types can be asked about, and the draw of a type and its in-context bad cases."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlfilter.data.aokvqa import VqaRow
from vlfilter.errors import VlfilterError

Cases = Mapping[str, Sequence[VqaRow]]


@dataclass(frozen=True, slots=True)
class BackedOff:
    """A type that is not asked about: its bad cases, the share of the queries that it would have had, and why."""

    bad_cases: int
    share: float
    why: str


@dataclass(frozen=True)
class TypePlan:
    """The types that are drawn, with their weights; the shares of those that are not go to them, in proportion."""

    types: tuple[str, ...]
    weights: tuple[float, ...]
    backed_off: Mapping[str, BackedOff]

    @property
    def shares(self) -> dict[str, float]:
        total = sum(self.weights)
        return {kind: weight / total for kind, weight in zip(self.types, self.weights, strict=True)}

    def draw(self, rng: random.Random) -> str:
        return rng.choices(self.types, self.weights, k=1)[0]


def plan_types(cases: Cases, weights: Mapping[str, float] | None, examples: int) -> TypePlan:
    """The types with enough bad cases and a weight above zero; equal weights where none are given.

    Raises `VlfilterError` when no type is left: then there is nothing to ask about.
    """
    given = dict.fromkeys(cases, 1.0) if weights is None else weights
    total = sum(given.get(kind, 0.0) for kind in cases)
    used: dict[str, float] = {}
    backed_off: dict[str, BackedOff] = {}
    for kind, rows in cases.items():
        weight = given.get(kind)
        share = (weight or 0.0) / total if total else 0.0
        if weight is None:
            why = "it has no weight"
        elif not weight:
            why = "its weight is 0: the model made no mistake in it" if not rows else "its weight is 0"
        elif len(rows) < examples:
            why = f"{len(rows)} bad cases, and {examples} are shown in a query"
        else:
            used[kind] = weight
            continue
        backed_off[kind] = BackedOff(len(rows), share, why)
    if not used:
        told = "; ".join(f"{kind}: {off.why}" for kind, off in backed_off.items()) or "there are no bad cases at all"
        raise VlfilterError(f"no question type can be asked about ({told}).")
    return TypePlan(tuple(used), tuple(used.values()), backed_off)


def deduplicate(rows: Sequence[VqaRow], threshold: float, rng: random.Random) -> list[VqaRow]:
    """Bad cases of which no two are more alike than `threshold`: one at random stays, all that are like it go, and so
    on (Algorithm 1 of the later paper). The rows that stay keep their order.

    Likeness is the cosine of the questions' word counts, not of spaCy's word vectors: the same wording is found,
    synonyms are not.
    """
    left = list(range(len(rows)))
    counts = [Counter(_words(row.question)) for row in rows]
    kept = []
    while left:
        chosen = left[rng.randrange(len(left))]
        kept.append(chosen)
        left = [row for row in left if row != chosen and likeness(counts[row], counts[chosen]) <= threshold]
    return [rows[row] for row in sorted(kept)]


def likeness(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Cosine of two word counts; 1 for two empty ones."""
    if not one or not other:
        return float(not one and not other)
    product = sum(count * other.get(word, 0) for word, count in one.items())
    return product / math.sqrt(sum(c * c for c in one.values()) * sum(c * c for c in other.values()))


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()
