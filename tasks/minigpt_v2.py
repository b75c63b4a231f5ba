"""The steps of MiniGPT-v2's flow; the training's own folder shows what of it is done."""

from __future__ import annotations

from prefect import task

from tasks.loss_curve import loss_curve
from tasks.minigpt_v2_artifacts import datasets_table
from tasks.policy import ONCE, RETRIED
from vlfilter.methods.minigpt_v2 import preflight
from vlfilter.methods.minigpt_v2.params import MinigptV2Params
from vlfilter.training.settings import TrainSettings


@task(name="check data sets", **RETRIED)
def check_datasets(params: MinigptV2Params) -> str:
    states = preflight.check_datasets(params, datasets_table)
    left_out = sum(sum(state.filtered.values()) for state in states)
    return f"{len(states)} data sets with {sum(state.rows for state in states)} rows, {left_out} more left out by rule"


@task(name="fine-tune", **ONCE)
def train(settings: TrainSettings) -> str:
    from vlfilter.training.launch import finetune

    try:
        result = finetune(settings)
    finally:
        loss_curve(settings.output, "minigpt-v2-loss", "fine-tune")
    how = "trained" if result.fresh else "was trained already"
    skipped = f"; {result.skipped} rows cannot be used" if result.skipped else ""
    return f"{result.model} {how} in {result.steps} steps{skipped}"
