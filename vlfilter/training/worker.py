"""One process of a fine-tuning run, started by torchrun: `python -m vlfilter.training.worker JOB.json`."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlfilter.errors import VlfilterError
from vlfilter.models.folders import read_json
from vlfilter.training.plan import Plan
from vlfilter.training.run_folder import RunFolder, cut_metrics, drop_incomplete, last_complete
from vlfilter.training.settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import TrainingArguments

    from vlfilter.training.objective import Objective
    from vlfilter.training.trainer import VlmTrainer

WATCHED = "VLFILTER_LAUNCHER_ON_STDIN"  # set by the launcher, whose end closes our standard input


def main(job: str) -> None:
    """Train, and leave without the interpreter's own ending: gloo's threads sometimes abort in it after all is done."""
    if os.environ.get(WATCHED):
        threading.Thread(target=_end_with_the_launcher, daemon=True).start()
    told: dict[str, Any] = json.loads(Path(job).read_text())
    settings, plan = TrainSettings.model_validate(told["settings"]), Plan(**told["plan"])
    code = 0
    try:
        run(settings, plan)
    except BaseException as error:  # whatever it is, the launcher must be able to tell
        code = 1
        text = str(error) if isinstance(error, VlfilterError) else traceback.format_exc()
        with suppress(OSError):
            RunFolder(Path(settings.output)).error(int(os.environ.get("RANK", "0"))).write_text(text)
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_the_launcher() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def run(settings: TrainSettings, plan: Plan) -> None:
    """Train from the last complete checkpoint, or from the start, and write the model."""
    import torch
    import torch.distributed as dist

    from vlfilter.models.bodies import attention
    from vlfilter.models.device import resolve_dtype
    from vlfilter.models.weights import fill
    from vlfilter.training.export import export, export_lora
    from vlfilter.training.lora import add_lora, lora_config
    from vlfilter.training.mixture_objective import CheckedMixture, MixedConversations
    from vlfilter.training.objective import WeightedConversations, make_objective
    from vlfilter.training.sharded import fill_sharded, gathered_state, shard
    from vlfilter.training.start import build_empty, open_start
    from vlfilter.training.trainer import training_arguments

    folder, rank = RunFolder(Path(settings.output)), int(os.environ.get("RANK", "0"))
    print(f"rank {rank} of {plan.processes}, process {os.getpid()}", flush=True)  # noqa: T201
    if settings.zero != "none":
        _init_deepspeed(plan)
    start = open_start(settings)
    origin = str(settings.model or settings.language_model)
    vlm = build_empty(start, attention(start.config.body.model_type, plan.device), origin)
    arguments = training_arguments(settings, plan)
    dtype = resolve_dtype(plan.dtype, plan.device)
    # DeepSpeed keeps float32 copies of what it updates; without it the weights themselves must be float32
    held = torch.float32 if settings.zero == "none" else dtype
    sharded = settings.zero == "3"
    if sharded:
        vlm.image_chunk = sys.maxsize  # documents differ in images, and all processes must run the tower equally often
        fill_sharded(vlm, start.tensors, origin, held)
    else:
        fill(vlm, start.tensors, origin, arguments.device, lambda _: held)
    if settings.trainable != "language+projector":
        vlm.requires_grad_(False)
        vlm.projector.requires_grad_("projector" in settings.trainable)
    lora = lora_config(settings)
    if lora:
        known = {name.removeprefix("body."): tensor for name, tensor in start.adapter.items()}
        for layer in add_lora(vlm.body, lora, settings.seed, held, "cpu" if sharded else arguments.device, known):
            if sharded:
                shard(layer)
    if settings.gradient_checkpointing:
        vlm.body.gradient_checkpointing_enable({"use_reentrant": False})
    scores = plan.dtype if settings.score_dtype == "auto" else settings.score_dtype
    settled = settings.model_copy(update={"score_dtype": scores})
    mixed = MixedConversations(settings, start, vlm.image_tokens) if settings.mixture else None
    objective = mixed or make_objective(settled, start, vlm.image_tokens)
    weighted = isinstance(objective, WeightedConversations)

    def keep(target: Path) -> None:
        """Write the model as it is now; all processes take part."""
        state = gathered_state(vlm, sharded=sharded)
        if rank == 0:
            if lora:
                export_lora(target, vlm, start, state, dtype, lora, settings)
            else:
                export(target, vlm, start, state, dtype, whole=settings.trainable != "projector")

    told = read_json(folder.report)
    model: Any = objective.model(vlm)
    if weighted:
        model.score_net.to(device="cpu" if sharded else arguments.device, dtype=held)
        if sharded:
            shard(model.score_net)
    if isinstance(objective, MixedConversations):
        from vlfilter.training.mixture_trainer import MixtureTrainer

        batches = objective.dataset(CheckedMixture.from_json(told["data"]), plan)
        trainer: VlmTrainer = MixtureTrainer(model, arguments, batches, settings, plan)
    else:
        trainer = _one_file(objective, told, model, arguments, settings, plan, lambda: keep(folder.best))
    _check_spread(trainer, settings, plan)
    found = last_complete(folder.checkpoints)
    if rank == 0:
        drop_incomplete(folder.checkpoints)
        cut_metrics(folder.metrics, found[0] if found else 0)
        print(f"starting {f'again from step {found[0]}' if found else 'from the beginning'}", flush=True)  # noqa: T201
    if dist.is_initialized():
        dist.barrier()
    trainer.train(resume_from_checkpoint=str(found[1]) if found else None)
    if settings.objective != "classifier":
        keep(folder.model)
        if weighted:
            from vlfilter.training.score_net import whole_weight, write_score_net

            weight = whole_weight(model.score_net, settings.zero)
            if rank == 0:
                write_score_net(folder.model, weight)
    elif rank == 0 and folder.best.is_dir():
        shutil.rmtree(folder.model, ignore_errors=True)
        folder.best.rename(folder.model)
    if dist.is_initialized():
        dist.barrier()


def _one_file(
    objective: Objective, told: dict[str, Any], model: Any, arguments: TrainingArguments, settings: TrainSettings,
    plan: Plan, keep_best: Callable[[], None],
) -> VlmTrainer:  # fmt: skip
    """The trainer of an objective whose rows are in one file; `told` is the report on them."""
    from vlfilter.training.objective import CheckedFile, Levels, WeightedConversations

    report = CheckedFile.from_json(told["data"]).report
    data: Any = objective.dataset(str(settings.data), report)
    if isinstance(objective, Levels):
        from vlfilter.training.classifier_trainer import ClassifierTrainer

        checked = CheckedFile.from_json(told["validation"])
        validation = objective.dataset(str(settings.validation), checked.report)
        return ClassifierTrainer(
            model, arguments, data, report.lengths, settings, plan, validation=validation, keep_model=keep_best
        )
    if isinstance(objective, WeightedConversations):
        from vlfilter.training.weighted_trainer import WeightedTrainer

        return WeightedTrainer(model, arguments, data, report.lengths, settings, plan)
    from vlfilter.training.trainer import VlmTrainer

    return VlmTrainer(model, arguments, data, report.lengths, settings, plan)


def _init_deepspeed(plan: Plan) -> None:
    """ZeRO-3 asks deepspeed.comm for the number of processes before the Trainer would tell it."""
    import deepspeed

    if plan.device == "cpu":
        # Its kernel for shared memory is compiled for a minute on first use; gloo does without.
        sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    deepspeed.init_distributed("nccl" if plan.device == "cuda" else "gloo")


def _check_spread(trainer: VlmTrainer, settings: TrainSettings, plan: Plan) -> None:
    """Accelerate falls back to fewer processes or to plain replication silently: that must not pass for ZeRO."""
    from accelerate.utils import DistributedType

    kind, count = trainer.accelerator.distributed_type, trainer.accelerator.num_processes
    if count != plan.processes or (kind == DistributedType.DEEPSPEED) != (settings.zero != "none"):
        raise VlfilterError(f"asked for {plan.processes} processes with ZeRO {settings.zero}, got {count} with {kind}.")


if __name__ == "__main__":
    main(sys.argv[1])
