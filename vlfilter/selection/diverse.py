"""Hard and diverse: pick the hardest, make what resembles it count as easier, again and again (Self-Filter, §3.2).

After each pick u with current difficulty d, the difficulty of its `neighbours` nearest candidates v that are left falls
by d · cos²(u, v) · gamma. Next comes the hardest by what they have now; ties go by the difficulties' own order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vlfilter.data.features import Features
from vlfilter.errors import VlfilterError
from vlfilter.selection.diverse_neighbours import Neighbours
from vlfilter.selection.diverse_queue import HardestFirst
from vlfilter.selection.diverse_similarity import Similarity, cosine_of

Penalty = Literal["literal", "offset_free"]
Ids = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
SAVE_EVERY = 2000


@dataclass(frozen=True)
class Difficulty:
    """`values` float64 [n], finite, higher is harder, of `ids` int64 [n], each once; their order decides ties."""

    ids: Ids
    values: Values

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, pairs: dict[int, float]) -> Difficulty:
        return cls(np.array(list(pairs), np.int64), np.array(list(pairs.values()), np.float64))


@dataclass(frozen=True)
class State:
    """How far a selection has come: `order` int64 [picks], places in the difficulties, and all that they are now."""

    order: Ids
    values: Values


@dataclass(frozen=True)
class Picks:
    """`ids` in the order they were picked, their `difficulty` as given and `current` when picked; the last `state`."""

    ids: Ids
    difficulty: Values
    current: Values
    state: State

    @property
    def penalty(self) -> Values:
        """What was subtracted from each before it was picked (less than 0: added, see `penalty="literal"`)."""
        return self.difficulty - self.current

    def __len__(self) -> int:
        return len(self.ids)


class EndOfPoolError(VlfilterError):
    """The published procedure stops here (only with `strict`). `pick` counts from 0, `left` is what was still there."""

    def __init__(self, pick: int, left: int, neighbours: int):
        super().__init__(
            f"pick {pick} (from 0): its {neighbours} nearest neighbours are not among the {left} most similar rows, "
            f"where the published procedure stops looking; {left} candidates are left. Without strict they are found."
        )
        self.pick = pick
        self.left = left


def select_diverse(
    features: Features,
    difficulty: Difficulty,
    budget: int,
    gamma: float = 1.0,
    neighbours: int = 10,
    penalty: Penalty = "literal",
    similarity: Similarity = "torch32",
    *,
    strict: bool = False,
    device: str = "cpu",
    state: State | None = None,
    save: Callable[[State], None] | None = None,
    save_every: int = SAVE_EVERY,
) -> Picks:
    """The first `budget` picks; a smaller budget's picks are the beginning of a larger one's.

    `penalty="literal"` is the published rule, under which picks of negative difficulty promote what resembles them;
    `"offset_free"` measures d from the easiest candidate upwards and never promotes, so that a constant added to all
    difficulties changes nothing. `similarity`: the arithmetic of the cosine (`diverse_similarity`). Near the end, where
    fewer than `neighbours` candidates are left, those get the penalty; with `strict`, `EndOfPoolError` is raised where
    the published procedure fails: it looks for neighbours only so far down the list of all rows as candidates are left.
    On a GPU `device` neighbours are looked for there: in a fraction of the time, and the picks are the same.
    `save` is called with the state every `save_every` picks; a run given that `state` goes on as if never stopped.

    Raises `VlfilterError` for a budget larger than the pool, difficulties that are not finite, ids that occur twice or
    have no features, and a setting out of range.
    """
    _check(difficulty, budget, gamma, neighbours, penalty)
    cosine_of(similarity)
    rows = features.rows_of(difficulty.ids)
    values, order = difficulty.values.copy(), []
    alive = np.ones(len(rows), bool)
    if state is not None:
        _check_state(state, len(rows))
        values, order = state.values.copy(), state.order.tolist()
        alive[state.order] = False
    current = values[np.array(order, np.int64)].tolist()
    base = float(difficulty.values.min()) if penalty == "offset_free" and len(rows) else 0.0
    queue = HardestFirst(values, alive)
    wanted_at_all = neighbours and (gamma or strict)
    near = Neighbours(features, similarity, neighbours, rows[alive], device) if wanted_at_all else None
    place_of = np.full(len(features.matrix), -1, np.int64)
    place_of[rows] = np.arange(len(rows))
    unprepared = np.ones(len(rows), bool)

    while len(order) < budget:
        place, value = queue.pop()
        order.append(place)
        current.append(value)
        row = int(rows[place])
        if near is not None:
            near.remove(row)
            if strict and len(features) - queue.left + neighbours > queue.left:
                last = near.position_of_last(row)
                if last is None or last >= queue.left:
                    raise EndOfPoolError(len(order) - 1, queue.left, neighbours)
            force = value - base if penalty == "literal" else max(value - base, 0.0)
            if gamma and queue.left:
                if near.exhausted(row):
                    wanted = min(near.wanted, budget - len(order))
                    others = queue.hardest(wanted, unprepared)
                    unprepared[others] = False
                    near.prepare(row, rows[others])
                found, sims = near.nearest(row)
                for other, sim in zip(place_of[found].tolist(), sims.tolist(), strict=True):
                    queue.set(other, float(values[other]) - (force * (sim**2)) * gamma)
        if save is not None and len(order) % save_every == 0:
            save(State(np.array(order, np.int64), values.copy()))

    picked = np.array(order[:budget], np.int64)
    return Picks(
        difficulty.ids[picked],
        difficulty.values[picked],
        np.array(current[:budget], np.float64),
        State(np.array(order, np.int64), values),
    )


def _check(difficulty: Difficulty, budget: int, gamma: float, neighbours: int, penalty: str) -> None:
    if penalty not in get_args(Penalty):
        raise VlfilterError(f"penalty {penalty!r}: there are {', '.join(get_args(Penalty))}.")
    if not math.isfinite(gamma):
        raise VlfilterError(f"gamma {gamma}: it should be a finite number.")
    if neighbours < 0:
        raise VlfilterError(f"neighbours {neighbours}: at least 0.")
    if budget < 0 or budget > len(difficulty):
        raise VlfilterError(f"budget {budget}: the pool has {len(difficulty)} candidates; ask for at most so many.")
    bad = difficulty.ids[~np.isfinite(difficulty.values)]
    if len(bad):
        raise VlfilterError(f"{len(bad)} difficulties are no finite number: ids {', '.join(map(str, bad[:5]))}.")
    values, times = np.unique(difficulty.ids, return_counts=True)
    if (times > 1).any():
        twice = ", ".join(map(str, values[times > 1][:5]))
        raise VlfilterError(f"these ids have more than one difficulty: {twice}.")


def _check_state(state: State, candidates: int) -> None:
    fits = len(state.values) == candidates and len(np.unique(state.order)) == len(state.order)
    if not fits or (len(state.order) and not 0 <= state.order.min() <= state.order.max() < candidates):
        raise VlfilterError(f"the saved state does not belong to these {candidates} difficulties.")
