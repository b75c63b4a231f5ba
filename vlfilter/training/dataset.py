"""Samples for the trainer, one at a time: tokens from memory, the image from its file when it is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlfilter.data.annotations import Instruction
from vlfilter.errors import VlfilterError
from vlfilter.models.preprocess import ImageSettings, normalise, to_pixels
from vlfilter.training.conversation_data import ConversationEncoder
from vlfilter.training.data_check import open_image


@dataclass(frozen=True, slots=True)
class TrainSample:
    """`input_ids` and `labels` (L,) int64; `image` normalised (1, 3, H, W), or None for text alone."""

    input_ids: Tensor
    labels: Tensor
    image: Tensor | None


class ConversationDataset(Dataset[TrainSample]):
    """Checked rows as samples. A row that can no longer be read raises `VlfilterError` with its id."""

    def __init__(self, rows: Sequence[Instruction], folder: str, encoder: ConversationEncoder, images: ImageSettings):
        self.rows, self.folder, self.encoder, self.images = rows, folder, encoder, images

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> TrainSample:
        row = self.rows[index]
        try:
            tokens = self.encoder.encode(row)
            image = None if row.image is None else open_image(self.folder, row.image)
        except ValueError as error:
            raise VlfilterError(f"row {row.id or index} was checked, but now: {error}. Start again.") from error
        pixels = None
        if image is not None:
            pixels = normalise(torch.from_numpy(to_pixels(image, self.images).copy())[None], self.images)
        return TrainSample(torch.tensor(tokens.ids), torch.tensor(tokens.labels), pixels)


def collate(samples: Sequence[TrainSample]) -> dict[str, list[Any]]:
    """A batch as `CausalVlm.forward` takes it: lists, nothing padded."""
    return {
        "input_ids": [sample.input_ids for sample in samples],
        "labels": [sample.labels for sample in samples],
        "images": [sample.image for sample in samples],
    }
