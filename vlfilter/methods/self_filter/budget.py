"""How many samples to pick: a number, a fraction of the pool up to 1.0, or a percentage such as `15.85%`."""

from __future__ import annotations

import re
import sys

from vlfilter.errors import VlfilterError

_FRACTION = re.compile(r"(\d+(?:\.\d+)?)%")


def check_budget(budget: int | float | str) -> None:
    """Raises `VlfilterError` for a budget that is none whatever the pool: told before hours of training, not after."""
    if resolve_budget(budget, sys.maxsize) < 1:
        raise VlfilterError(f"budget {budget}: at least 1.")


def resolve_budget(budget: int | float | str, pool: int) -> int:
    """A number of samples from a number, a fraction up to 1.0, or a percentage; fractions are rounded down."""
    if isinstance(budget, str):
        if match := _FRACTION.fullmatch(budget.strip()):
            return _share(float(match[1]) / 100, budget, pool)
        try:
            budget = int(budget) if budget.strip().removeprefix("-").isdigit() else float(budget)
        except ValueError:
            raise VlfilterError(f"budget {budget!r}: give a number, a fraction such as 0.15, or 15%.") from None
    if isinstance(budget, float) and (budget <= 1 or not budget.is_integer()):
        return _share(budget, budget, pool)
    return int(budget)


def _share(fraction: float, budget: object, pool: int) -> int:
    if not 0 < fraction <= 1:
        raise VlfilterError(f"budget {budget}: a fraction of the pool is above 0 and at most 1 (100%).")
    return int(fraction * pool + 1e-9)  # 0.07 * 100 is a hair above 7, 0.29 * 100 one below 29


def check_within(budget: int, pool: int) -> None:
    """Raises `VlfilterError` for a number of samples that the pool does not have."""
    if not 0 < budget <= pool:
        raise VlfilterError(
            f"budget {budget:,}: the pool has {pool:,} samples with features and a difficulty; ask for 1 to {pool:,} "
            "(or 100%)."
        )
