"""What filtering is for: the accuracy of a small classifier trained on what a filter keeps.

The classifier never sees the truth: its label is the object that the caption names. So a wrong caption is a wrong
label, a blurred or blank image is a label without a picture, and a vague caption gives no training sample at all. Every
training set gets the same number of steps (what time allows), the same settings and the same clean test set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vlfilter.demo.captions import LABELS, label_of
from vlfilter.training.loop import LoopSettings, train

SIDE = 32  # pixels


@dataclass(frozen=True, slots=True)
class Labelled:
    """`pixels` (n, 3, SIDE, SIDE) float32 in -1…1; `labels` (n,) int64, -1 where the caption names no object."""

    pixels: Tensor
    labels: Tensor


def labelled(images: Sequence[Image.Image], captions: Sequence[str]) -> Labelled:
    small = [np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for image in images]
    pixels = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    labels = [-1 if (label := label_of(caption)) is None else LABELS.index(label) for caption in captions]
    return Labelled(pixels.contiguous(), torch.tensor(labels))


def small_cnn() -> nn.Sequential:
    """Three strided convolutions and a linear layer, 0.05 million parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 16, len(LABELS)),
    )  # fmt: skip


def accuracy(data: Labelled, rows: np.ndarray, test: Labelled, seed: int, steps: int, batch: int = 64) -> float:
    """Train on the rows (n,) bool of `data` that have a label, and measure on `test`; the same for the same seed."""
    usable = torch.from_numpy(np.flatnonzero(rows & (data.labels >= 0).numpy()))

    def batches() -> Iterator[Tensor]:
        while len(usable):
            yield from usable[torch.randperm(len(usable))].split(batch)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = small_cnn()

        def loss(picked: Tensor) -> Tensor:
            return nn.functional.cross_entropy(model(data.pixels[picked]), data.labels[picked])

        train(model, batches(), loss, LoopSettings(steps, learning_rate=3e-3, weight_decay=0.01))
    with torch.inference_mode():
        return float((model(test.pixels).argmax(1) == test.labels).float().mean())
