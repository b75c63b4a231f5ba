"""Contrastive training of image and text towers (CLIP, Radford et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPModel

from vlfilter.training.loop import LogRow, LoopSettings, train

MOST_LOGIT_SCALE = 100.0  # the paper bounds the learned temperature so


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """`pixels` normalised (B, 3, H, W); `input_ids` (B, L), each row with one eos and padding to its right.

    No mask: the text tower is causal and read at eos, so padding is never seen.
    """

    pixels: Tensor
    input_ids: Tensor


def info_nce(image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE: row i of `image` (B, D) belongs to row i of `text` (B, D), all others are negatives.

    Both are normalised here; `logit_scale` is the log of the inverse temperature.
    """
    image, text = nn.functional.normalize(image, dim=-1), nn.functional.normalize(text, dim=-1)
    logits = logit_scale.exp().clamp(max=MOST_LOGIT_SCALE) * image @ text.T
    target = torch.arange(len(logits), device=logits.device)
    return (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)) / 2


def clip_loss(model: CLIPModel, batch: ClipBatch) -> Tensor:
    image = model.get_image_features(pixel_values=batch.pixels).pooler_output
    text = model.get_text_features(input_ids=batch.input_ids).pooler_output
    return info_nce(image, text, model.logit_scale)


def train_clip(
    model: CLIPModel,
    batches: Iterable[ClipBatch],
    settings: LoopSettings,
    on_log: Callable[[LogRow], None] | None = None,
) -> list[LogRow]:
    """Train both towers, their projections and the temperature."""
    return train(model, batches, lambda batch: clip_loss(model, batch), settings, on_log)
