"""The order of the samples: batches of one kind (with or without images) and of like length (LLaVA's trainer)."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence

from torch.utils.data import Sampler


def grouped_order(lengths: Sequence[int], batch: int, groups: int, seed: int) -> list[int]:
    """A permutation of all samples in which every `batch` * `groups` neighbours are of one kind and like length.

    `lengths` are negative for samples without an image. `batch` is one process's, `groups` the processes times the
    accumulated batches: cut into batches, the order gives every process nearly the same work in every step. What is
    left over of both kinds comes last, mixed.
    """
    rng = random.Random(seed)  # noqa: S311 (an order, not a secret)
    mega = batch * groups
    chunks, rest = [], []
    for with_image in (True, False):
        chosen = [i for i, length in enumerate(lengths) if (length > 0) == with_image]
        rng.shuffle(chosen)
        cuts = [chosen[i : i + mega] for i in range(0, len(chosen), mega)]
        if cuts and len(cuts[-1]) < mega:
            rest += cuts.pop()
        chunks += [_even(cut, lengths, groups) for cut in cuts]
    rng.shuffle(chunks)
    return [i for chunk in chunks for i in chunk] + sorted(rest, key=lambda i: -abs(lengths[i]))


def _even(chosen: list[int], lengths: Sequence[int], groups: int) -> list[int]:
    """Equal batches of nearly the same total length: the longest first, each into the shortest batch with room."""
    size = len(chosen) // groups
    batches: list[list[int]] = [[] for _ in range(groups)]
    totals = [0] * groups
    for i in sorted(chosen, key=lambda i: -abs(lengths[i])):
        room = min((g for g in range(groups) if len(batches[g]) < size), key=lambda g: totals[g])
        batches[room].append(i)
        totals[room] += abs(lengths[i])
    return [i for one in batches for i in one]


def shuffled_order(count: int, seed: int) -> list[int]:
    """A random permutation."""
    order = list(range(count))
    random.Random(seed).shuffle(order)  # noqa: S311
    return order


def family_order(families: Sequence[Hashable], seed: int) -> list[int]:
    """A random permutation in which the members of a family (`families[i]` names that of sample i) are neighbours."""
    members: dict[Hashable, list[int]] = {}
    for i, family in enumerate(families):
        members.setdefault(family, []).append(i)
    groups = list(members.values())
    random.Random(seed).shuffle(groups)  # noqa: S311
    return [i for group in groups for i in group]


class EpochSampler(Sampler[int]):
    """An order that depends on nothing but the seed and the epoch, so that a resumed run goes on with the same."""

    def __init__(self, lengths: Sequence[int], batch: int, groups: int, seed: int, *, group: bool):
        self.lengths, self.batch, self.groups, self.seed, self.group = lengths, batch, groups, seed, group
        self.families: Sequence[Hashable] | None = None  # where given, they decide the order
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        seed = self.seed * 1_000_003 + self.epoch
        if self.families is not None:
            return iter(family_order(self.families, seed))
        if self.group:
            return iter(grouped_order(self.lengths, self.batch, self.groups, seed))
        return iter(shuffled_order(len(self.lengths), seed))


class BatchNumbers(EpochSampler):
    """The numbers of an epoch's micro-batches, counted through the whole run."""

    def __init__(self, per_epoch: int):
        super().__init__((), 1, 1, 0, group=False)
        self.per_epoch = per_epoch

    def __len__(self) -> int:
        return self.per_epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.per_epoch, (self.epoch + 1) * self.per_epoch))
