"""The Trainer of a classifier: validation after each epoch, and the best model kept in the published layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vlfilter.errors import VlfilterError
from vlfilter.models.folders import read_json
from vlfilter.training.classifier import LevelVlm
from vlfilter.training.level_metrics import level_metrics
from vlfilter.training.plan import Plan
from vlfilter.training.quality_dataset import QualityDataset, collate
from vlfilter.training.run_folder import write_json
from vlfilter.training.settings import TrainSettings
from vlfilter.training.trainer import VlmTrainer

Keep = Callable[[], None]


class _AfterEachEpoch(TrainerCallback):
    """Evaluate, then save: a checkpoint at the end of an epoch is written only when its validation is done, so that a
    run that goes on from it has missed none."""

    def __init__(self, steps: Callable[[TrainerState], int]):
        self.steps = steps

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        if state.global_step % self.steps(state) == 0:
            control.should_save = False

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        control.should_evaluate = control.should_save = True


class ClassifierTrainer(VlmTrainer):
    """`validation` decides which model is kept; `keep_model` writes the present one (all processes call it)."""

    def __init__(
        self, model: LevelVlm, arguments: TrainingArguments, data: QualityDataset, lengths: Sequence[int],
        settings: TrainSettings, plan: Plan, validation: QualityDataset, keep_model: Keep,
    ):  # fmt: skip
        super().__init__(model, arguments, data, lengths, settings, plan)
        if settings.group_by_image:
            self.sampler.families = [row.images for row in data.rows]
        self.data_collator = collate
        self.validation, self.keep_model = validation, keep_model
        self.add_callback(_AfterEachEpoch(lambda state: state.max_steps // int(state.num_train_epochs)))

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Predict all validation rows, write their metrics to `metrics.jsonl`, and keep the model if it is the best."""
        metrics = level_metrics(self._outputs(), *self._truth())
        step, epoch = self.state.global_step, round(float(self.state.epoch or 0))
        best = self._best()
        # going on from an earlier checkpoint, an epoch is validated again: it replaces what it wrote before
        better = best is None or metrics["accuracy"] > best["validation"]["accuracy"] or step <= best["step"]
        if better:
            self.keep_model()
        if self.is_world_process_zero():
            row = {"step": step, "epoch": epoch, "kept": better, "validation": metrics}
            if better:
                write_json(self.run_folder.best_epoch, row)
            line = json.dumps(row)
            with self.run_folder.metrics.open("a") as file:
                file.write(line + "\n")
            print(line, flush=True)  # noqa: T201 (the launcher reads it)
        if dist.is_initialized():
            dist.barrier()
        return {"eval_accuracy": metrics["accuracy"]}

    def _best(self) -> dict[str, Any] | None:
        path = self.run_folder.best_epoch
        found = read_json(path) if path.is_file() and self.run_folder.best.is_dir() else None
        if dist.is_initialized():
            dist.barrier()  # all have read it before rank 0 writes the next
        return found

    def _truth(self) -> tuple[list[int], list[str]]:
        rows = self.validation.rows
        return [row.label for row in rows], [row.kind for row in rows]

    def _outputs(self) -> np.ndarray:
        """Outputs (N, labels) of all rows, on every process; each runs its share of the batches."""
        model = self.model_wrapped
        model.eval()
        count, labels = len(self.validation), self.settings.labels
        found = torch.zeros(count, labels, dtype=torch.float64, device=self.args.device)
        with torch.no_grad(), self.compute_loss_context_manager():
            for places in self._batches(count):
                batch: dict[str, Any] = self._prepare_inputs(collate([self.validation[place] for place in places]))
                logits: Tensor = model(**batch)["logits"]
                found[places] = logits.double()
        model.train()
        if dist.is_initialized():
            own = torch.zeros(count, 1, dtype=torch.float64, device=self.args.device)
            own[[place for places in self._batches(count) for place in places]] = 1
            dist.all_reduce(found)
            dist.all_reduce(own)
            found = found / own  # rows that several processes ran to keep step
        if not bool(torch.isfinite(found).all()):
            raise VlfilterError(f"the model's outputs are not finite in step {self.state.global_step}: lower the rate.")
        return found.cpu().numpy()

    def _batches(self, count: int) -> Iterator[Sequence[int]]:
        """This process's places: batches of equal sizes on every process, for ZeRO-3 runs all modules together."""
        size, world, rank = self.settings.eval_batch, self.args.world_size, self.args.process_index
        share = -(-count // world)
        places = [min(rank * share + i, count - 1) for i in range(share)]
        for start in range(0, share, size):
            yield places[start : start + size]
