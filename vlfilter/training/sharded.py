"""Weights in and out of a model whose parameters are spread over processes (ZeRO-3), a module or tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vlfilter.models.weights import StoredTensor, fill


def fill_sharded(module: nn.Module, tensors: Mapping[str, StoredTensor], origin: str, dtype: torch.dtype) -> None:
    """Fill a module that was built on the meta device and shard it over all processes.

    Only rank 0 reads; each module is broadcast and cut into shards before the next is read, so that no process ever
    holds more than its shards and one module (an embedding or a linear layer). Raises as `fill`.
    """
    first = dist.get_rank() == 0
    for prefix, unit in _units(module, ""):
        stored = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        if not first:
            stored = {name: replace(t, read=partial(torch.empty, t.shape, dtype=dtype)) for name, t in stored.items()}
        fill(unit, stored, f"{origin} ({prefix.rstrip('.')})", "cpu", lambda _: dtype)
        shard(unit)


def shard(module: nn.Module) -> None:
    """Spread a module that every process holds whole over all of them; rank 0's numbers count."""
    import deepspeed

    deepspeed.zero.Init(module=module)


def _units(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """The outermost modules that have parameters of their own, with their names and a dot."""
    if next(module.parameters(recurse=False), None) is not None:
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from _units(child, f"{prefix}{name}.")


def gathered_state(module: nn.Module, *, sharded: bool) -> dict[str, Tensor]:
    """The whole state dict in CPU memory of rank 0; other processes get an empty one. All processes must call."""
    first = not dist.is_initialized() or dist.get_rank() == 0
    if not sharded:
        return {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()} if first else {}
    import deepspeed

    state = {name: tensor.detach().cpu() for name, tensor in module.named_buffers()} if first else {}
    wanted = module.state_dict().keys()
    state = {name: tensor for name, tensor in state.items() if name in wanted}
    for name, parameter in module.named_parameters():
        with deepspeed.zero.GatheredParameters([parameter]):
            if first:
                state[name] = parameter.detach().cpu().clone()
    return state
