"""Scores that are numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlfilter.data.samples import SampleError, Status

if TYPE_CHECKING:
    from torch import Tensor


def finite(found: Tensor, what: str = "score") -> Tensor:
    """The tensor. Raises `SampleError` when a value of it is no finite number: in a batch of several the engine finds
    the culprit by scoring fewer at a time."""
    if not bool(found.isfinite().all()):
        raise SampleError(Status.FAILED, f"the {what} is not a number (overflow; try dtype float32 or bfloat16)")
    return found
