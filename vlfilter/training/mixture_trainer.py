"""The Trainer of a mixture: batches by their number, and in the loss curve how many samples were of which data set."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from transformers import TrainingArguments

from vlfilter.training.mixture_dataset import MixtureDataset, collate_mixed
from vlfilter.training.plan import Plan
from vlfilter.training.sampler import BatchNumbers
from vlfilter.training.settings import TrainSettings
from vlfilter.training.trainer import VlmTrainer


class MixtureTrainer(VlmTrainer):
    """Adds to a row of `metrics.jsonl` the field `datasets`: the samples of each data set in that step."""

    def __init__(
        self, model: nn.Module, arguments: TrainingArguments, data: MixtureDataset, settings: TrainSettings, plan: Plan
    ):
        self._names = list(data.draws.names)
        numbers = BatchNumbers(len(data) // settings.epochs)
        super().__init__(model, arguments, data, (), settings, plan, sampler=numbers)
        self.data_collator = collate_mixed
        self._drawn = torch.zeros(len(self._names), dtype=torch.int64)  # samples since the last row, on this process

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        self._drawn[inputs.pop("dataset")] += len(inputs["input_ids"])
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        if "loss" in logs:
            drawn = self._drawn.to(self.args.device)
            if dist.is_initialized():
                dist.all_reduce(drawn)
            self._drawn.zero_()
            logs["datasets"] = dict(zip(self._names, drawn.tolist(), strict=True))
        super().log(logs, start_time)
