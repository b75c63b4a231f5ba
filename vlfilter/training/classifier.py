"""Training of a classifier or regressor over images with text (UniFilter, arXiv 2510.15162)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.models.vlm import loss as level_loss
from vlfilter.training.loop import LogRow, LoopSettings, train


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """`input_ids` and `images` as `VisionLanguageModel.forward` takes them; `labels` (B,), levels or classes."""

    input_ids: list[Tensor]
    images: list[Tensor]
    labels: Tensor


class LevelVlm(nn.Module):
    """A vision-language model with a score head and its loss, as transformers' Trainer calls it."""

    def __init__(self, vlm: VisionLanguageModel):
        super().__init__()
        self.vlm = vlm
        self.config = vlm.config.body  # the Trainer sizes ZeRO's buckets by its hidden_size

    def forward(self, input_ids: Sequence[Tensor], images: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """`loss` (float32), `logits` (B, num_labels) float32, and `tokens`, the positions that were run.

        `input_ids` and `images` as `VisionLanguageModel.forward` takes them; `labels` (B,), levels or classes.
        """
        logits = self.vlm(input_ids, images).float()
        expanded = self.vlm.image_tokens - 1
        positions = sum(len(ids) + expanded * len(own) for ids, own in zip(input_ids, images, strict=True))
        return {"loss": level_loss(logits, labels), "logits": logits, "tokens": torch.tensor(positions)}


def train_classifier(
    model: VisionLanguageModel,
    batches: Iterable[LabelledBatch],
    settings: LoopSettings,
    on_log: Callable[[LogRow], None] | None = None,
) -> list[LogRow]:
    """Train projector, body and head with squared error (one label) or cross entropy (several), as published.

    The vision tower stays frozen, as in the published recipe: it must bring trained weights.
    """

    def loss(batch: LabelledBatch) -> Tensor:
        return level_loss(model(batch.input_ids, batch.images), batch.labels)

    return train(model, batches, loss, settings, on_log)
