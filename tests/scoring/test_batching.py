from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toy import ToyScorer
from vlfilter.data.samples import SampleError, Status
from vlfilter.scoring.base import Prepared, ScorerSettings
from vlfilter.scoring.batching import Batcher, BatchRunner, cut_batches, is_out_of_memory


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
