"""The cosine that decides, between one row and a few others: the same bits whichever rows it is computed beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from vlfilter.errors import VlfilterError

Similarity = Literal["torch32", "canonical"]
Floats = npt.NDArray[np.float32]
Cosine = Callable[[Floats, Floats], Floats]
UNIT = 2.0**-24  # what one float32 rounding may be off, relatively


def cosine_of(similarity: Similarity) -> Cosine:
    """A function (rows [n, d], row [d]) → float32 [n]. `torch32`: all in float32 with torch's own sums, as published;
    `canonical`: summed in float64, then rounded, which hardly depends on the machine. A zero row is similar to none: 0.
    """
    if similarity not in get_args(Similarity):
        raise VlfilterError(f"similarity {similarity!r}: there are {', '.join(get_args(Similarity))}.")
    return _torch32() if similarity == "torch32" else canonical


def rounding(similarity: Similarity, dim: int) -> float:
    """How far a float32 matrix product of normalised rows and the cosine that decides can be apart, at worst."""
    product = (dim + 4) * UNIT
    return product + (0.5 * UNIT if similarity == "canonical" else (2 * dim + 8) * UNIT)


def canonical(rows: Floats, row: Floats) -> Floats:
    wide, one = rows.astype(np.float64), row.astype(np.float64)
    # Summed along the last axis row by row, not as a matrix product: equal rows get equal bits.
    lengths = np.sqrt((wide * wide).sum(axis=1)) * np.sqrt((one * one).sum())
    dots = (wide * one).sum(axis=1)
    return np.divide(dots, lengths, out=np.zeros(len(rows)), where=lengths > 0).astype(np.float32)


def _torch32() -> Cosine:
    import torch

    def cosine(rows: Floats, row: Floats) -> Floats:
        many, one = torch.from_numpy(rows), torch.from_numpy(row)
        values = (many * one).sum(dim=1) / many.norm(dim=1) / one.norm()
        return torch.nan_to_num(values, nan=0.0).numpy()

    return cosine
