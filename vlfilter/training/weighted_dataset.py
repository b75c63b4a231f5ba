"""Samples of Self-Filter's stage 1: a conversation's tokens and image, with its features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlfilter.data.features import Features
from vlfilter.models.preprocess import ImageSettings
from vlfilter.training import dataset
from vlfilter.training.conversation_data import ConversationEncoder
from vlfilter.training.dataset import ConversationDataset, TrainSample
from vlfilter.training.weighted_data import NumberedRow


@dataclass(frozen=True, slots=True)
class WeightedSample:
    """`features` (dim,) float32."""

    sample: TrainSample
    features: Tensor


class WeightedDataset(Dataset[WeightedSample]):
    """Checked rows as samples; they must all have features. Raises as `ConversationDataset`."""

    def __init__(
        self, rows: Sequence[NumberedRow], folder: str, encoder: ConversationEncoder, images: ImageSettings,
        features: Features,
    ):  # fmt: skip
        self.conversations = ConversationDataset([row.instruction for row in rows], folder, encoder, images)
        self.numbers, self.features = [row.unique_idx for row in rows], features

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> WeightedSample:
        vector = self.features.take([self.numbers[index]])[0]
        return WeightedSample(self.conversations[index], torch.from_numpy(vector))


def collate(samples: Sequence[WeightedSample]) -> dict[str, Any]:
    """A batch as `WeightedVlm.forward` takes it: lists, nothing padded; `features` (B, dim)."""
    batch: dict[str, Any] = dataset.collate([sample.sample for sample in samples])
    return batch | {"features": torch.stack([sample.features for sample in samples])}
