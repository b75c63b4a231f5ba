"""The three scores brought to one scale, as Self-Filter's first stage reads them (arXiv 2402.12501)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlfilter.errors import VlfilterError

METHODS = ("minmax", "rank")

Floats = npt.NDArray[np.float64]


def fill_with_mean(values: Floats, name: str) -> tuple[Floats, int]:
    """The values (N,) with the mean of the others in place of each NaN, and how many those were.

    Raises `VlfilterError` when every value is missing.
    """
    missing = np.isnan(values)
    if missing.all():
        raise VlfilterError(f"not one of {len(values)} rows has a {name}: there is no mean to fill in.")
    return np.where(missing, values[~missing].mean(), values), int(missing.sum())


def normalise(values: Floats, method: str, name: str) -> Floats:
    """The values (N,), all finite, on [-1, 1].

    `minmax` (as published) is linear, the lowest becomes -1 and the highest 1; `rank` spreads the rows evenly by rank,
    equal values sharing their mean rank, so that one outlier does not press all others together. Raises `VlfilterError`
    for a score that is the same everywhere: it tells no row from another (the published script divides by zero).
    """
    if method not in METHODS:
        raise VlfilterError(f"normalising by {method!r} is unknown: {', '.join(METHODS)}.")
    if len(values) == 0:
        raise VlfilterError(f"there is no row with a {name}.")
    lowest, highest = values.min(), values.max()
    if lowest == highest:
        rows = f"all {len(values)} rows" if len(values) > 1 else "the only row"
        raise VlfilterError(
            f"{name} is {lowest:g} for {rows}: a constant score tells no row from another and cannot be normalised. "
            f"Check what made {name}."
        )
    if method == "minmax":
        scaled: Floats = (values - lowest) / (highest - lowest) * 2 - 1
        return scaled
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(times) - (times + 1) / 2  # from 0
    ranked: Floats = mean_rank[place] / (len(values) - 1) * 2 - 1
    return ranked
