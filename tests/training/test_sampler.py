"""The order of samples: nothing lost, like with like, the same again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vlfilter.training.sampler import EpochSampler, grouped_order

LENGTHS = st.lists(st.integers(-500, 500).filter(bool), max_size=200)


@given(lengths=LENGTHS, batch=st.integers(1, 5), groups=st.integers(1, 6), seed=st.integers(0, 99))
def test_every_sample_comes_once_and_full_steps_are_of_one_kind(
    lengths: list[int], batch: int, groups: int, seed: int
) -> None:
    order = grouped_order(lengths, batch, groups, seed)
    assert sorted(order) == list(range(len(lengths)))
    mega = batch * groups
    full = sum(length > 0 for length in lengths) // mega + sum(length < 0 for length in lengths) // mega
    for step in range(full):
        kinds = {lengths[i] > 0 for i in order[step * mega : (step + 1) * mega]}
        assert len(kinds) == 1


def test_processes_get_nearly_equal_work() -> None:
    lengths = [10 * i + 1 for i in range(320)]
    order = grouped_order(lengths, 4, 8, seed=1)
    for step in range(0, 320, 32):
        totals = [sum(lengths[i] for i in order[start : start + 4]) for start in range(step, step + 32, 4)]
        assert max(totals) < 1.2 * min(totals)


def test_an_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = [(-1) ** i * (i + 5) for i in range(100)]

    def orders(seed: int, group: bool) -> list[list[int]]:
        sampler = EpochSampler(lengths, 2, 4, seed, group=group)
        made = []
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            made += [list(sampler), list(sampler)]
        return made

    for group in (True, False):
        first, again, later, later_again = orders(1, group)
        assert first == again
        assert later == later_again
        assert first != later
        assert orders(1, group)[0] == first
        assert orders(2, group)[0] != first
        assert sorted(later) == list(range(100))
