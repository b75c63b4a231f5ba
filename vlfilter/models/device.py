"""Which device and dtype a run means."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from vlfilter.errors import VlfilterError

DTYPES = ("auto", "float32", "bfloat16", "float16")


def resolve_device(device: str) -> str:
    """`auto` is CUDA where there is one. Raises `VlfilterError` for a device that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise VlfilterError(f"device {device!r} is unknown: auto, cpu, cuda or cuda:N.") from error
    if wanted.type == "cuda" and (not torch.cuda.is_available() or (wanted.index or 0) >= torch.cuda.device_count()):
        raise VlfilterError(f"device {device!r} is not there ({torch.cuda.device_count()} CUDA devices): auto or cpu.")
    return str(wanted)


def resolve_dtype(dtype: str, device: str) -> torch.dtype:
    """`auto` is bfloat16 on CUDA and float32 elsewhere; other names are torch's."""
    if dtype == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    if dtype not in DTYPES:
        raise VlfilterError(f"dtype {dtype!r} is unknown: {', '.join(DTYPES)}.")
    found: torch.dtype = getattr(torch, dtype)
    return found


def upload(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """A tensor on a device; one of the host's without waiting, as `Tensor.to` does, for what is queued there."""
    if torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def upload_pixels(images: Sequence[np.ndarray], device: str | torch.device) -> torch.Tensor:
    """uint8 images of one size (H, W, 3) → (N, H, W, 3) on a device, copied once on the way and without waiting."""
    cuda = torch.device(device).type == "cuda"
    stacked = torch.empty((len(images), *images[0].shape), dtype=torch.uint8, pin_memory=cuda)
    np.stack(images, out=stacked.numpy())
    return stacked.to(device, non_blocking=True)


def download(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Queue a tensor's copy to the host. What it returns waits for that, and not for what is queued later."""
    if not tensor.is_cuda:
        return lambda: tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    copied = torch.cuda.Event(blocking=True)
    copied.record(torch.cuda.current_stream(tensor.device))

    def wait() -> torch.Tensor:
        copied.synchronize()
        return host

    return wait
