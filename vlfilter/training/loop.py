"""A small seeded training loop: AdamW, linear warm-up, cosine decay, gradient clipping, a log of losses.

For models that train in minutes in one process; large ones train with transformers' Trainer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor, nn

from vlfilter.errors import VlfilterError

Batch = TypeVar("Batch")


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """`warmup` is the fraction of `steps` in which the rate rises from 0; it then falls to 0 along a half cosine.

    `clip_norm` bounds the gradient's 2-norm. Weight decay spares vectors and scalars (norms, biases, temperatures).
    """

    steps: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: float = 0.1
    clip_norm: float = 1.0
    log_every: int = 20


@dataclass(frozen=True, slots=True)
class LogRow:
    """`loss` is the mean since the row before, `learning_rate` and `gradient_norm` (unclipped) the last step's."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float


def rate(step: int, settings: LoopSettings) -> float:
    """The factor on the learning rate in step `step` (from 0)."""
    warmup = max(1, round(settings.warmup * settings.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, settings.steps - warmup)))


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable[[Batch], Tensor],
    settings: LoopSettings,
    on_log: Callable[[LogRow], None] | None = None,
) -> list[LogRow]:
    """Train the parameters of `model` that require gradients, `settings.steps` steps, one batch each.

    `loss` maps a batch to a scalar. The caller seeds: torch's random state and the batches decide the result. The model
    is left in eval mode. Raises `VlfilterError` when the loss is not finite or the batches run out.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas)
    log: list[LogRow] = []
    recent: list[float] = []
    model.train()
    for step, batch in enumerate(islice(batches, settings.steps)):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate(step, settings)
        value = loss(batch)
        if not math.isfinite(value.item()):
            raise VlfilterError(f"the loss is {value.item()} in step {step + 1}: lower the learning rate.")
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(trained, settings.clip_norm)
        optimizer.step()
        recent.append(value.item())
        if (step + 1) % settings.log_every == 0 or step + 1 == settings.steps:
            row = LogRow(step + 1, sum(recent) / len(recent), optimizer.param_groups[0]["lr"], float(norm))
            log.append(row)
            recent.clear()
            if on_log:
                on_log(row)
    model.eval()
    if not log or log[-1].step != settings.steps:
        raise VlfilterError(f"the batches ran out before step {settings.steps}.")
    return log
