"""How many to take of each group, so that a total comes out exactly wherever there are enough."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def even_quotas(total: int, available: Sequence[int]) -> list[int]:
    """`total` spread as evenly over the groups as `available` allows.

    What a short group lacks is spread over the others in the same way; the last odd ones go to the first groups that
    have more. The quotas sum to min(total, sum(available)).
    """
    quotas = [0] * len(available)
    left = total
    while left:
        open_groups = [i for i, have in enumerate(available) if quotas[i] < have]
        if not open_groups:
            break
        step = max(1, left // len(open_groups))
        for i in open_groups[:left]:
            taken = min(step, available[i] - quotas[i], left)
            quotas[i] += taken
            left -= taken
    return quotas


def proportional_quotas(total: int, available: Sequence[int]) -> list[int]:
    """`total` (at most the sum) in proportion to `available`, rounded by largest remainder; ties go to the first."""
    everything = sum(available)
    if total >= everything:
        return list(available)
    quotas = [total * have // everything for have in available]
    remainders = sorted(range(len(available)), key=lambda i: (-(total * available[i] % everything), i))
    for i in remainders[: total - sum(quotas)]:
        quotas[i] += 1
    return quotas


def priority(seed: int, *names: str) -> int:
    """A number from 0 to 2**64 - 1 that only the seed and the names decide: a lot that needs no order of rows."""
    state = hashlib.blake2b(str(seed).encode(), digest_size=8)
    for name in names:
        state.update(b"\0" + name.encode())
    return int.from_bytes(state.digest(), "little")
