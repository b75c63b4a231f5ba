"""Training of a classifier or regressor over images with text (UniFilter, arXiv 2510.15162)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.models.vlm import loss as level_loss
from vlfilter.training.loop import LogRow, LoopSettings, train


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """`input_ids` and `images` as `VisionLanguageModel.forward` takes them; `labels` (B,), levels or classes."""

    input_ids: list[Tensor]
    images: list[Tensor]
    labels: Tensor


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
