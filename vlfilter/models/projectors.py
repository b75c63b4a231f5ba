"""Projectors: from the vision tower's features to the language model's embedding space.

Every projector is a module (N, patches, vision width) → (N, image tokens, hidden) whose parameter names are those of
the published checkpoints below `model.mm_projector.`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlfilter.errors import VlfilterError


@dataclass(frozen=True, slots=True)
class ProjectorConfig:
    """`kind` is `linear`, `identity`, `mlp{N}x_gelu`, `concat4` or `aapool_mlp`; only the last reads `tokens` (a
    square)."""

    kind: str = "aapool_mlp"
    tokens: int = 144


class AvgPoolProjector(nn.Module):
    """Adaptive average pooling of the square patch grid to √tokens × √tokens, then linear, GELU (erf), linear.

    Windows of neighbouring tokens overlap where the grid is no multiple (27 → 12: 3 × 3 each), as published.
    """

    def __init__(self, vision_width: int, hidden: int, tokens: int):
        super().__init__()
        self.side = math.isqrt(tokens)
        if self.side**2 != tokens:
            raise VlfilterError(f"aapool_mlp makes a square of image tokens; {tokens} is no square (144, 256, …).")
        self.mlp_projector = nn.Sequential(nn.Linear(vision_width, hidden), nn.GELU(), nn.Linear(hidden, hidden))

    def forward(self, features: Tensor) -> Tensor:
        grid = math.isqrt(features.shape[1])
        if grid**2 != features.shape[1]:
            raise VlfilterError(f"aapool_mlp needs a square grid of patches, not {features.shape[1]}.")
        image = features.transpose(1, 2).unflatten(2, (grid, grid))
        pooled = nn.functional.adaptive_avg_pool2d(image, self.side)
        projected: Tensor = self.mlp_projector(pooled.flatten(2).transpose(1, 2))
        return projected


class ConcatProjector(nn.Linear):
    """Each four neighbouring tokens in raster order (a strip, no square) as one vector, then linear: MiniGPT-v2's."""

    together = 4

    def __init__(self, vision_width: int, hidden: int):
        super().__init__(self.together * vision_width, hidden)

    def forward(self, features: Tensor) -> Tensor:
        if features.shape[1] % self.together:
            raise VlfilterError(f"concat4 needs a multiple of {self.together} patches, not {features.shape[1]}.")
        return super().forward(features.unflatten(1, (-1, self.together)).flatten(2))


def build_projector(config: ProjectorConfig, vision_width: int, hidden: int) -> nn.Module:
    """The projector's module. Raises `VlfilterError` for an unknown kind, or an identity between unequal widths."""
    if config.kind == "linear":
        return nn.Linear(vision_width, hidden)
    if config.kind == "concat4":
        return ConcatProjector(vision_width, hidden)
    if config.kind == "aapool_mlp":
        return AvgPoolProjector(vision_width, hidden, config.tokens)
    if config.kind == "identity":
        if vision_width != hidden:
            raise VlfilterError(f"an identity projector cannot join width {vision_width} to {hidden}.")
        return nn.Identity()
    if match := re.fullmatch(r"mlp([1-9])x_gelu", config.kind):
        layers: list[nn.Module] = [nn.Linear(vision_width, hidden)]
        for _ in range(int(match[1]) - 1):
            layers += [nn.GELU(), nn.Linear(hidden, hidden)]
        return nn.Sequential(*layers)
    raise VlfilterError(
        f"unknown projector {config.kind!r}: known are linear, identity, mlp2x_gelu (any N), concat4, aapool_mlp."
    )


def image_tokens(config: ProjectorConfig, patches: int) -> int:
    """How many positions of the language model one image takes, given the tower's features per image."""
    if config.kind == "concat4":
        return patches // ConcatProjector.together
    return config.tokens if config.kind == "aapool_mlp" else patches


def projector_dtype(projector: nn.Module, default: torch.dtype) -> torch.dtype:
    """The dtype of a projector's weights; `default` for one without any."""
    return next((parameter.dtype for parameter in projector.parameters()), default)
