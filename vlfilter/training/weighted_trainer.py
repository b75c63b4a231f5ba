"""The Trainer of a model with a score net: its own rate, its part of a checkpoint, and what weights it gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import TrainerCallback, TrainingArguments

from vlfilter.training.plan import Plan
from vlfilter.training.score_net import ScoreNet, read_score_net, whole_weight, write_score_net
from vlfilter.training.settings import TrainSettings
from vlfilter.training.trainer import VlmTrainer
from vlfilter.training.weighted import WeightedVlm
from vlfilter.training.weighted_dataset import WeightedDataset, collate


class _ExactScores(TrainerCallback):
    """Lets a float32 score net see the float32 weight that DeepSpeed updates, not the bfloat16 one that it holds."""

    def __init__(self, net: ScoreNet, settings: TrainSettings):
        self.net, self.zero = net, settings.zero

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        if self.net.computed == torch.float32 and self.net.weight.dtype != torch.float32:
            self.net.exact = whole_weight(self.net, self.zero).to(self.net.weight.device)

    on_step_end = on_train_begin


class WeightedTrainer(VlmTrainer):
    """Adds to a row of `metrics.jsonl` how far the weights are apart and how large the score net is.

    `weight_mean`, `weight_min` and `weight_max` are of B·w over all samples of the step (1: counts as ever),
    `weight_entropy` is the entropy of w over the most that there can be, 1 where all weigh the same and 0 where one has
    all the weight (mean of the step's batches), `score_norm` the norm of the score net's weight before the step.
    """

    def __init__(
        self, model: WeightedVlm, arguments: TrainingArguments, data: WeightedDataset, lengths: Sequence[int],
        settings: TrainSettings, plan: Plan,
    ):  # fmt: skip
        super().__init__(model, arguments, data, lengths, settings, plan)
        self.data_collator = collate
        self._net: ScoreNet = model.score_net
        self._weights: list[Tensor] = []  # B·w of each batch since the last row, on this process
        self._score_norm = torch.zeros(())
        self.add_callback(_ExactScores(self._net, settings))

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """With `score_learning_rate` the score net is a group of its own; the schedule scales both alike."""
        made = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        rate = self.settings.score_learning_rate
        if made and rate is not None:
            for group in optimizer.param_groups:
                group["params"] = [one for one in group["params"] if one is not self._net.weight]
            own = {"params": [self._net.weight], "lr": rate, "weight_decay": self.settings.weight_decay}
            optimizer.add_param_group(own)
        return optimizer

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Features stay float32: under DeepSpeed all other numbers become the model's bfloat16."""
        features = inputs["features"].to(self.args.device)
        rest = super()._prepare_inputs({name: value for name, value in inputs.items() if name != "features"})
        return rest | {"features": features}

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        self._weights.append(outputs["weights"])
        self._score_norm = outputs["score_norm"]
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs |= self._spread()
        super().log(logs, start_time)

    def _spread(self) -> dict[str, float]:
        """Of all processes' batches since the last row; all must call."""
        every = torch.cat(self._weights).double()
        entropy = torch.stack([_entropy(weights.double()) for weights in self._weights]).mean()
        self._weights.clear()
        means, ends = torch.stack([every.mean(), entropy]), torch.stack([every.min(), -every.max()])
        if dist.is_initialized():
            dist.all_reduce(means)
            dist.all_reduce(ends, dist.ReduceOp.MIN)
            means /= dist.get_world_size()
        (mean, entropy_), (least, most) = means.tolist(), ends.tolist()
        told = {"weight_mean": mean, "weight_min": least, "weight_max": -most, "weight_entropy": entropy_}
        return {name: round(value, 6) for name, value in (told | {"score_norm": self._score_norm.item()}).items()}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        if not self.is_deepspeed_enabled and self.args.should_save:
            write_score_net(Path(str(output_dir)), self._net.weight.detach().cpu())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        with torch.no_grad():
            self._net.weight.copy_(read_score_net(Path(resume_from_checkpoint)))


def _entropy(weights: Tensor) -> Tensor:
    """Of B·w (B,), over the most that there can be; 1 for a batch of one."""
    if len(weights) == 1:
        return weights.new_ones(())
    return torch.special.entr(weights / len(weights)).sum() / math.log(len(weights))
