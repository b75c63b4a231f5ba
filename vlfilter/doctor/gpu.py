"""The GPUs that torch can use, and FlashAttention."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

from vlfilter.doctor.check import Check

DRIVER = Path("/proc/driver/nvidia/version")


def check_gpu(needed: bool) -> Iterator[Check]:
    """Every GPU that torch sees, each tried with one small sum. Without one: `fail` where it is `needed`."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        yield _no_gpu(needed, torch.__version__, torch.version.cuda)
    for index in range(count):
        device = f"cuda:{index}"
        name = torch.cuda.get_device_name(index)
        try:
            free, total = torch.cuda.mem_get_info(index)
            if int(torch.ones(8, device=device).sum()) != 8:
                raise RuntimeError("a sum came out wrong")
        except RuntimeError as error:
            yield Check("gpu", "fail", f"{device} {name}: {error}", "update the driver, or use the torch for its CUDA")
            continue
        memory = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
        yield Check("gpu", "ok", f"{device} {name}, {memory}, torch {torch.__version__}")


def _no_gpu(needed: bool, torch_version: str, cuda: str | None) -> Check:
    text = f"none: torch {torch_version} sees no CUDA device"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not DRIVER.exists():
        advice = "install the NVIDIA driver, or give the container the GPU (--gpus, nvidia.com/gpu)" if needed else ""
        return Check("gpu", "fail" if needed else "note", text, advice)
    if hidden is not None and not hidden.strip():
        return Check("gpu", "fail" if needed else "note", f"{text}: CUDA_VISIBLE_DEVICES hides them all", "unset it")
    advice = (
        f"the driver is too old for CUDA {cuda}, or the container was not given the GPU: compare with nvidia-smi"
        if cuda
        else "this torch was built without CUDA: install the ordinary one"
    )
    return Check("gpu", "fail" if needed else "warn", f"{text}, though there is a driver", advice)


def check_flash_attention() -> Check:
    """FlashAttention 2 is used where it is, on a GPU; without it attention is exact as well, and slower."""
    import torch

    from vlfilter.models.startup import import_transformers

    import_transformers()
    from transformers.utils import is_flash_attn_2_available

    if not torch.cuda.is_available():
        return Check("flash-attention", "note", "not used without a GPU")
    if is_flash_attn_2_available():
        return Check("flash-attention", "ok", f"flash-attn {importlib.metadata.version('flash-attn')} is used")
    try:
        found = f"flash-attn {importlib.metadata.version('flash-attn')} is installed and does not fit this GPU or torch"
    except importlib.metadata.PackageNotFoundError:
        return Check("flash-attention", "note", "not installed: torch's own attention is used (extra flash-attn)")
    return Check("flash-attention", "warn", found, "install it again against this torch: pip install '.[flash-attn]'")
