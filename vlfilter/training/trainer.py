"""transformers' Trainer for a vision-language model: its arguments, its order of samples, its log, its checkpoints."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from vlfilter.errors import VlfilterError
from vlfilter.training.dataset import collate
from vlfilter.training.plan import Plan
from vlfilter.training.run_folder import RunFolder, keep_newest, mark_complete
from vlfilter.training.sampler import EpochSampler
from vlfilter.training.schedule import WarmupCosine
from vlfilter.training.settings import TrainSettings

WEIGHTS = "model.safetensors"


def deepspeed_config(zero: str, device: str) -> dict[str, Any] | None:
    """DeepSpeed's configuration of a ZeRO stage, with the `auto` values that the Trainer fills in.

    It names no optimizer: DeepSpeed's own would throw away the groups with and without weight decay.
    """
    if zero == "none":
        return None
    text = files("vlfilter.training").joinpath(f"deepspeed/zero{zero}.json").read_text()
    config: dict[str, Any] = json.loads(text)
    if device == "cpu":
        config["zero_optimization"]["overlap_comm"] = False  # there are no streams to overlap
    return config


def training_arguments(settings: TrainSettings, plan: Plan) -> TrainingArguments:
    """The settings in transformers' words. With DeepSpeed, call its `init_distributed` before."""
    cuda = plan.device == "cuda"
    return TrainingArguments(
        output_dir=str(RunFolder(Path(settings.output)).checkpoints),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=1 if settings.mixture else plan.per_device,  # a mixture's samples are batches
        gradient_accumulation_steps=plan.accumulation,
        learning_rate=settings.learning_rate,
        # warmup_cosine is the trainer's own
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else "cosine",
        warmup_steps=settings.warmup_ratio,  # below 1 it is a fraction
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch",
        bf16=plan.dtype == "bfloat16",
        fp16=plan.dtype == "float16",
        tf32=settings.tf32 if cuda else None,
        use_cpu=not cuda,
        ddp_backend="gloo" if not cuda and plan.processes > 1 else None,
        ddp_find_unused_parameters=False,
        deepspeed=deepspeed_config(settings.zero, plan.device),
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_steps,
        seed=settings.seed,
        dataloader_num_workers=settings.data_workers,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        report_to=[] if settings.report_to == "none" else [settings.report_to],
        run_name=Path(settings.output).name,
        disable_tqdm=True,
    )


class _SetEpoch(TrainerCallback):
    """Tells the sampler the epoch: accelerate forgets to when a resumed run skips batches."""

    def __init__(self, sampler: EpochSampler):
        self.sampler = sampler

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:  # noqa: ARG002
        self.sampler.set_epoch(int(state.epoch or 0))


class VlmTrainer(Trainer):
    """Writes a row of `metrics.jsonl` a step, and marks a checkpoint when all processes have written their part."""

    lr_scheduler: Any

    def __init__(
        self, model: nn.Module, arguments: TrainingArguments, data: Dataset[Any], lengths: Sequence[int],
        settings: TrainSettings, plan: Plan, *, sampler: EpochSampler | None = None,
    ):  # fmt: skip
        groups = plan.processes * plan.accumulation
        self.sampler = sampler or EpochSampler(
            lengths, plan.per_device, groups, settings.seed, group=settings.group_by_modality_length
        )
        super().__init__(
            model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[_SetEpoch(self.sampler)]
        )
        self.remove_callback(PrinterCallback)
        # The loss is a mean over each device's batch, as published: the Trainer divides it by the accumulated batches.
        self.model_accepts_loss_kwargs = False
        self.settings = settings
        self.run_folder = RunFolder(Path(settings.output))
        self._counts = torch.zeros(2, dtype=torch.float64)  # positions and samples since the last row, on this process
        self._since = time.perf_counter()

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:  # noqa: ARG002
        return self.sampler

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        settings = self.settings
        if settings.schedule != "warmup_cosine":
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            steps = num_training_steps // settings.epochs
            if settings.warmup_steps > steps:
                raise VlfilterError(
                    f"warmup_steps {settings.warmup_steps} are more than the {steps} steps of an epoch, in each of "
                    "which the published warm-up would begin again: give fewer."
                )
            rates = WarmupCosine(
                settings.learning_rate, settings.min_learning_rate, settings.warmup_steps,
                settings.warmup_learning_rate, steps, settings.epochs,
            )  # fmt: skip
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, lambda step: rates.at(step) / rates.rate)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002
    ) -> Any:
        outputs = model(**inputs)
        self._counts += torch.tensor([float(outputs["tokens"]), len(inputs["input_ids"])], dtype=torch.float64)
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Called on all processes after every step: adds what all of them ran, and writes the row on rank 0."""
        if "loss" not in logs:
            super().log(logs, start_time)
            return
        counts = self._counts.to(self.args.device)
        if dist.is_initialized():
            dist.all_reduce(counts)
        tokens, samples = (int(value) for value in counts.tolist())
        now = time.perf_counter()
        seconds = now - self._since
        self._counts.zero_()
        self._since = now
        logs |= {"tokens": tokens, "samples": samples, "seconds": round(seconds, 4)}
        logs |= {"tokens_per_second": round(tokens / seconds, 2), "samples_per_second": round(samples / seconds, 3)}
        super().log(logs, start_time)
        if self.is_world_process_zero():
            line = json.dumps({"step": self.state.global_step, **logs})
            with self.run_folder.metrics.open("a") as file:
                file.write(line + "\n")
            print(line, flush=True)  # noqa: T201 (the launcher reads it)
        if not math.isfinite(logs["loss"]):
            raise VlfilterError(f"the loss is {logs['loss']} in step {self.state.global_step}: lower learning_rate.")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Part of a checkpoint to resume from: DeepSpeed writes the weights itself. The model is saved elsewhere."""
        if self.is_deepspeed_enabled or not self.args.should_save:
            return
        folder = Path(str(output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        state: dict[str, Tensor] = self.model.vlm.state_dict()
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ARG002
        self.model.vlm.load_state_dict(load_file(Path(resume_from_checkpoint) / WEIGHTS))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if dist.is_initialized():
            dist.barrier()
        if self.is_world_process_zero():
            mark_complete(self.run_folder.checkpoints / f"checkpoint-{self.state.global_step}", self.state.global_step)
            keep_newest(self.run_folder.checkpoints, self.settings.save_total_limit)
