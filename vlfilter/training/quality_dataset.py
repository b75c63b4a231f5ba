"""Quality rows for the trainer, one at a time: tokens from memory, images from their files when they are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlfilter.data.quality_rows import QualityRow
from vlfilter.errors import VlfilterError
from vlfilter.models.preprocess import ImageSettings, normalise, to_pixels
from vlfilter.training.data_check import open_image
from vlfilter.training.quality_data import QualityEncoder


@dataclass(frozen=True, slots=True)
class LevelSample:
    """`input_ids` (L,) int64; `images` normalised (n, 3, H, W); `label` the level."""

    input_ids: Tensor
    images: Tensor
    label: int


class QualityDataset(Dataset[LevelSample]):
    """Checked rows as samples. A row that can no longer be read raises `VlfilterError` with its id."""

    def __init__(self, rows: Sequence[QualityRow], folder: str, encoder: QualityEncoder, images: ImageSettings):
        self.rows, self.folder, self.encoder, self.images = rows, folder, encoder, images

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> LevelSample:
        row = self.rows[index]
        try:
            tokens = self.encoder.encode(row)
            opened = [to_pixels(open_image(self.folder, path), self.images) for path in tokens.images]
        except ValueError as error:
            raise VlfilterError(f"row {row.id} was checked, but now: {error}. Start again.") from error
        pixels = normalise(torch.from_numpy(np.stack(opened)), self.images)
        return LevelSample(torch.tensor(tokens.ids), pixels, row.label)


def collate(samples: Sequence[LevelSample]) -> dict[str, Any]:
    """A batch as `LevelVlm.forward` takes it: lists, nothing padded; `labels` (B,)."""
    return {
        "input_ids": [sample.input_ids for sample in samples],
        "images": [sample.images for sample in samples],
        "labels": torch.tensor([sample.label for sample in samples]),
    }
