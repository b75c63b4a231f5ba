"""Attention for several questions behind one prefix, without a mask over the whole row.

A mask over prefix and questions together would cost the square of their sum; here each question is one causal attention
over prefix and question, which the fused kernels do without any mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

NAME = "vlfilter_lanes"


@dataclass(frozen=True, slots=True)
class Lane:
    """One question of every row, as flat positions in a batch of B × L tokens.

    `take` (B, P + S) is the prefix and the question, padded at the end with any position; `put` where its outputs go
    (B · L for none). `branch` (B, N) are single tokens that continue it, each seeing of question and branches what
    `seen` (B, 1, N, P + S + N) says; None when there are none.
    """

    take: Tensor
    put: Tensor
    branch: Tensor | None = None
    seen: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """New tokens after a row that is in the cache; `seen` (B, 1, new tokens, all tokens)."""

    seen: Tensor


Layout = tuple[Lane, ...] | Step


def _attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, scale: float, cap: float | None) -> Tensor:
    """(B, heads, Q, D) of queries over keys with fewer heads (grouped); causal without `seen`."""
    if cap is None and seen is None:
        grouped = query.shape[1] != key.shape[1]
        return nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=grouped
        )
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if cap is None:
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=scale)
    if seen is None:
        seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    logits = torch.tanh(query @ key.transpose(2, 3) * scale / cap) * cap  # Gemma 2
    return logits.masked_fill(~seen, float("-inf")).softmax(-1, dtype=torch.float32).to(query.dtype) @ value


def _lane_attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    scaling: float,
    lanes: Layout,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """The interface of transformers' attention functions: (B, heads, L, D) in, (B, L, heads, D) out."""
    if isinstance(lanes, Step):
        return _attend(query, key, value, lanes.seen, scaling, softcap).transpose(1, 2).contiguous(), None
    batch, heads, length, width = query.shape
    rows = [tensor.transpose(1, 2).reshape(batch * length, -1) for tensor in (query, key, value)]
    counts = (heads, key.shape[1], value.shape[1])

    def taken(index: Tensor) -> list[Tensor]:
        return [
            row.index_select(0, index.flatten()).view(*index.shape, count, width).transpose(1, 2)
            for row, count in zip(rows, counts, strict=True)
        ]

    out = query.new_zeros(batch * length + 1, heads * width)

    def put(index: Tensor, states: Tensor) -> None:
        out.index_copy_(0, index.flatten(), states.transpose(1, 2).reshape(-1, heads * width))

    for lane in lanes:
        q, k, v = taken(lane.take)
        put(lane.put, _attend(q, k, v, None, scaling, softcap))
        if lane.branch is not None:
            q, branch_k, branch_v = taken(lane.branch)
            k, v = torch.cat([k, branch_k], dim=2), torch.cat([v, branch_v], dim=2)
            put(lane.branch, _attend(q, k, v, lane.seen, scaling, softcap))
    return out[:-1].view(batch, length, heads, width), None


AttentionInterface.register(NAME, _lane_attention)


@contextmanager
def lane_attention(body: Any) -> Iterator[None]:
    """Inside, the body's layers attend by lanes; they must be called with `lanes=`."""
    usual = body.config._attn_implementation
    body.config._attn_implementation = NAME
    try:
        yield
    finally:
        body.config._attn_implementation = usual
