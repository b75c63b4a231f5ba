"""Batches by token budget, like lengths together, a few of them ahead of their rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from vlfilter.data.samples import SampleError
from vlfilter.scoring.base import Prepared
from vlfilter.scoring.runner import BatchRunner, Row, Rows

WINDOW = 8  # at most so many batches' worth of samples wait for others of their length
PADDING = 0.05  # what a batch may waste that does not wait
QUEUED = 2  # batches that a GPU has before it while the next one is collected


def cut_batches(tokens: Sequence[int], budget: int) -> list[list[int]]:
    """Positions grouped so that count × longest ≤ budget, longest first; a sample over the budget goes alone."""
    order = _longest_first(tokens)
    batches: list[list[int]] = []
    longest = 0
    for position in order:
        if batches and (len(batches[-1]) + 1) * longest <= budget:
            batches[-1].append(position)
        else:
            batches.append([position])
            longest = max(tokens[position], 1)
    return batches


def cut_around_first(tokens: Sequence[int], budget: int) -> list[int]:
    """Positions of the batch that the first one goes with: those next to it in length, longest first, as many as keep
    count × longest ≤ budget."""
    order = _longest_first(tokens)
    start = order.index(0)
    end = start + 1
    while end < len(order) and (end - start + 1) * tokens[order[start]] <= budget:
        end += 1
    while start and (end - start + 1) * tokens[order[start - 1]] <= budget:
        start -= 1
    return order[start:end]


def _longest_first(tokens: Sequence[int]) -> list[int]:
    return sorted(range(len(tokens)), key=lambda i: (-tokens[i], i))


class Batcher:
    """Collects one shard's prepared samples for a runner and gives their rows back by position.

    What goes into a batch depends on the samples alone, never on time.
    """

    def __init__(self, runner: BatchRunner):
        self.runner = runner
        self.rows: dict[int, Row | SampleError] = {}
        self._waiting: list[tuple[int, Prepared]] = []
        self._tokens = 0  # of all that wait
        self._fresh = 0  # of those that came since the last look
        self._queued: deque[tuple[list[int], Callable[[], Rows]]] = deque()

    def add(self, position: int, prepared: Prepared | SampleError) -> None:
        if isinstance(prepared, SampleError):
            self.rows[position] = prepared
            return
        self._waiting.append((position, prepared))
        self._tokens += max(prepared.tokens, 1)
        self._fresh += max(prepared.tokens, 1)
        if self._fresh >= self.runner.batch_tokens:
            self._fresh = 0
            while batch := self._ripe():
                self._start(batch)

    def finish(self) -> None:
        tokens = [prepared.tokens for _, prepared in self._waiting]
        for batch in cut_batches(tokens, self.runner.batch_tokens):
            self._queue([self._waiting[i] for i in batch])
        self._waiting = []
        while self._queued:
            self._fetch()

    def _ripe(self) -> list[int]:
        """Places in `_waiting` of a batch that need not wait for better company; none when there is none."""
        budget = self.runner.batch_tokens
        if self._tokens < budget:
            return []
        tokens = [max(prepared.tokens, 1) for _, prepared in self._waiting]
        batch = cut_around_first(tokens, budget)
        longest = tokens[batch[0]]
        full = (len(batch) + 1) * longest > budget
        wasted = 1 - sum(tokens[i] for i in batch) / (len(batch) * longest)
        return batch if (full and wasted <= PADDING) or self._tokens >= WINDOW * budget else []

    def _start(self, batch: list[int]) -> None:
        members = [self._waiting[i] for i in batch]
        taken = set(batch)
        self._waiting = [one for i, one in enumerate(self._waiting) if i not in taken]
        self._tokens -= sum(max(prepared.tokens, 1) for _, prepared in members)
        self._queue(members)

    def _queue(self, members: Sequence[tuple[int, Prepared]]) -> None:
        started = self.runner.start([prepared for _, prepared in members])
        self._queued.append(([position for position, _ in members], started))
        if len(self._queued) > QUEUED:
            self._fetch()

    def _fetch(self) -> None:
        positions, rows = self._queued.popleft()
        self.rows.update(zip(positions, rows(), strict=True))
