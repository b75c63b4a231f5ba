from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toy import ToyScorer
from vlfilter.data.samples import SampleError, Status
from vlfilter.scoring.base import Prepared, ScorerSettings
from vlfilter.scoring.batching import QUEUED, WINDOW, Batcher, cut_around_first, cut_batches
from vlfilter.scoring.runner import BatchRunner, is_out_of_memory


@pytest.fixture
def toy(tmp_path: Path) -> ToyScorer:
    (tmp_path / "toy.txt").write_text("1.0")
    scorer = ToyScorer(ScorerSettings(str(tmp_path / "toy.txt"), options={"largest": 10**9}))
    scorer.load()
    return scorer


def item(caption: str) -> Prepared:
    return Prepared(len(caption), (0.0, caption))


@given(st.lists(st.integers(0, 50)), st.integers(1, 100))
def test_batches_hold_every_sample_once_within_the_budget(tokens: list[int], budget: int) -> None:
    batches = cut_batches(tokens, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(tokens)))
    for batch in batches:
        longest = max(max(tokens[i] for i in batch), 1)
        assert len(batch) == 1 or len(batch) * longest <= budget


def test_like_lengths_go_together() -> None:
    assert cut_batches([1, 9, 1, 9], 18) == [[1, 3], [0, 2]]


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 200))
def test_the_first_goes_with_its_neighbours_in_length(tokens: list[int], budget: int) -> None:
    batch = cut_around_first(tokens, budget)
    assert 0 in batch
    assert len(set(batch)) == len(batch)
    longest, shortest = tokens[batch[0]], tokens[batch[-1]]
    assert len(batch) == 1 or len(batch) * longest <= budget
    left = [tokens[i] for i in range(len(tokens)) if i not in batch]
    assert not [length for length in left if shortest < length < longest]
    if any(length <= shortest for length in left):
        assert (len(batch) + 1) * longest > budget, "one more would have fitted"


class Queue(ToyScorer):
    """A toy on a device of its own: what is launched is scored when it is asked for."""

    def __init__(self, settings: ScorerSettings):
        super().__init__(settings)
        self.trace: list[str] = []

    def launch(self, batch: Sequence[Prepared]) -> Callable[[], dict[str, Sequence[Any]]]:
        if any(one.payload[1] == "at launch" for one in batch):
            raise RuntimeError("it cannot even start")
        self.trace.append("launch")

        def finish() -> dict[str, Sequence[Any]]:
            self.trace.append("finish")
            return self.score(batch)

        return finish


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    (tmp_path / "toy.txt").write_text("1.0")
    scorer = Queue(ScorerSettings(str(tmp_path / "toy.txt")))
    scorer.load()
    return scorer


def fed(runner: BatchRunner, captions: Sequence[str]) -> Batcher:
    batcher = Batcher(runner)
    for position, caption in enumerate(captions):
        batcher.add(position, item(caption))
    return batcher


def test_batches_are_queued_ahead_of_their_rows(queue: Queue) -> None:
    batcher = fed(BatchRunner(queue, 40), ["0123456789"] * 40)
    assert queue.trace[: QUEUED + 2] == ["launch"] * (QUEUED + 1) + ["finish"]
    assert queue.trace.count("launch") - queue.trace.count("finish") == QUEUED
    assert sorted(batcher.rows) == list(range(40 - 4 * QUEUED))
    batcher.finish()
    assert sorted(batcher.rows) == list(range(40))


@pytest.mark.parametrize("caption", ["poison", "at launch"])
def test_what_fails_on_the_device_costs_its_own_row(queue: Queue, caption: str) -> None:
    captions = [f"caption {i:02d}" for i in range(40)]
    captions[13] = caption
    batcher = fed(BatchRunner(queue, 100), captions)
    batcher.finish()
    assert [p for p, row in batcher.rows.items() if isinstance(row, SampleError)] == [13]
    assert len(batcher.rows) == 40


def test_lengths_that_differ_wait_for_their_like(toy: ToyScorer) -> None:
    def lengths(*pattern: int, times: int) -> Batcher:
        toy.batches.clear()
        return fed(BatchRunner(toy, 100), ["x" * length for length in pattern * times])

    assert len(lengths(10, times=10)._waiting) == 0
    assert len(lengths(1, 19, times=5)._waiting) == 10
    waiting = lengths(1, 20, times=400)._waiting
    assert sum(one.tokens for _, one in waiting) < (WINDOW + 1) * 100
    assert set(toy.batches) == {5, 40}, "ones go with ones, and twenties with twenties"


def test_a_poison_sample_is_found_and_the_others_are_scored(toy: ToyScorer) -> None:
    runner = BatchRunner(toy, 10**6)
    captions = [f"caption {i}" for i in range(64)]
    captions[37] = "poison"
    rows = runner.run([item(caption) for caption in captions])
    bad = [i for i, row in enumerate(rows) if isinstance(row, SampleError)]
    assert bad == [37]
    problem = rows[37]
    assert isinstance(problem, SampleError)
    assert problem.status is Status.FAILED
    assert "poison in the batch" in problem.reason
    assert len(toy.batches) <= 2 * 7 + 1  # one path down the halves, and the sides of it


def test_out_of_memory_makes_smaller_batches_and_is_remembered(toy: ToyScorer) -> None:
    toy.largest = 100
    runner = BatchRunner(toy, 800)
    rows = runner.run([item("0123456789")] * 80)
    assert [isinstance(row, SampleError) for row in rows] == [False] * 80
    assert runner.batch_tokens <= 100
    toy.batches.clear()
    batcher = Batcher(runner)
    for position in range(40):
        batcher.add(position, item("0123456789"))
    batcher.finish()
    assert max(toy.batches) * 10 <= 100  # no batch had to be tried twice
    assert sum(toy.batches) == 40


def test_one_sample_too_large_for_memory_fails_alone(toy: ToyScorer) -> None:
    toy.largest = 20
    rows = BatchRunner(toy, 1000).run([item("short"), item("x" * 50), item("brief")])
    assert isinstance(rows[1], SampleError)
    assert not isinstance(rows[0], SampleError)
    assert not isinstance(rows[2], SampleError)


def test_a_lone_sample_without_memory_leaves_the_batches_as_they_are(toy: ToyScorer) -> None:
    toy.largest = 900
    runner = BatchRunner(toy, 800)
    captions = ["0123456789"] * 40
    captions[17] = "x" * 1000
    batcher = Batcher(runner)
    for position, caption in enumerate(captions):
        batcher.add(position, item(caption))
    batcher.finish()
    assert [p for p, row in batcher.rows.items() if isinstance(row, SampleError)] == [17]
    assert runner.batch_tokens == 800


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("the caption says: out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, memory: bool) -> None:
    assert is_out_of_memory(error) is memory


def test_a_score_that_is_no_number_is_a_reason(toy: ToyScorer) -> None:
    rows = BatchRunner(toy, 1000).run([item("nan"), item("fine")])
    assert isinstance(rows[0], SampleError)
    assert "not a finite number" in rows[0].reason
    assert rows[1] == {"toy_score": 4.0, "caption_length": 4}


def test_a_lost_device_is_no_samples_fault(toy: ToyScorer) -> None:
    with pytest.raises(RuntimeError, match="CUDA error"):
        BatchRunner(toy, 1000).run([item("gone"), item("fine")])


@given(st.lists(st.integers(1, 30), max_size=200), st.integers(1, 60))
def test_rows_come_back_at_their_positions(lengths: list[int], budget: int) -> None:
    scorer = ToyScorer.__new__(ToyScorer)
    scorer.batches, scorer.weight, scorer.largest = [], 1.0, 10**9
    batcher = Batcher(BatchRunner(scorer, budget, {}))
    for position, length in enumerate(lengths):
        batcher.add(position, item("x" * length))
    batcher.finish()
    assert {p: row["caption_length"] for p, row in batcher.rows.items()} == dict(enumerate(lengths))  # type: ignore[index]
