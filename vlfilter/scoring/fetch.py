"""What a model found for a batch, brought back from its device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlfilter.data.samples import SampleError, Status

if TYPE_CHECKING:
    from torch import Tensor


def fetch_finite(found: Tensor, what: str = "score") -> Tensor:
    """Wait for the device, and return the tensor on the CPU.

    Raises `SampleError` when a value is not finite: in a batch of several the engine finds the culprit by scoring fewer
    at a time.
    """
    host = found.cpu()
    if not bool(host.isfinite().all()):
        raise SampleError(Status.FAILED, f"the {what} is not a number (overflow; try dtype float32 or bfloat16)")
    return host
