"""A mixture's micro-batches as the samples of a data set: the trainer sees whole batches, of one data set each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from vlfilter.training.dataset import ConversationDataset, TrainSample, collate
from vlfilter.training.mixture_draws import Draws


@dataclass(frozen=True, slots=True)
class MixedBatch:
    """A micro-batch of one data set, told by its place in the mixture."""

    dataset: int
    samples: list[TrainSample]


class MixtureDataset(Dataset[MixedBatch]):
    """Micro-batch number i of the whole run as item i. A row that can no longer be read raises as
    `ConversationDataset` does."""

    def __init__(self, datasets: Sequence[ConversationDataset], draws: Draws):
        self.datasets, self.draws = datasets, draws

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, index: int) -> MixedBatch:
        number, places = self.draws[index]
        return MixedBatch(number, [self.datasets[number][place] for place in places])


def collate_mixed(batches: Sequence[MixedBatch]) -> dict[str, Any]:
    """One micro-batch as `CausalVlm.forward` takes it, and `dataset`, its place in the mixture."""
    (batch,) = batches
    return {**collate(batch.samples), "dataset": batch.dataset}
