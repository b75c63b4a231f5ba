"""The steps of UniFilter's flow: each looks at its own file first, and does what that does not show as done."""

from __future__ import annotations

import random
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.judge import make_judge, spending_table
from tasks.unifilter_artifacts import level_table, loss_curve, selection_note, validation_report
from vlfilter.errors import StorageError
from vlfilter.methods.unifilter import synthesis
from vlfilter.methods.unifilter.params import Places
from vlfilter.methods.unifilter.synthesis import SynthesisPlaces, SynthesizeStep
from vlfilter.methods.unifilter.train_steps import SelectStep
from vlfilter.methods.unifilter.writing import write_levels
from vlfilter.selection import choosing
from vlfilter.training.settings import TrainSettings


def _worth_another_try(_task: Any, _run: Any, state: Any) -> bool:
    return isinstance(state.data, StorageError)


def _delays(retries: int) -> list[float]:
    return [random.uniform(0.5, 1.5) * 2 ** (attempt + 1) for attempt in range(retries)]  # noqa: S311 - only jitter


# The file and its receipt are the proof that a step is done; Prefect's cache would be a second truth.
POLICY: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 2,
    "retry_delay_seconds": _delays,
    "retry_condition_fn": _worth_another_try,
}


@task(name="choose images", **POLICY)
def choose_images(step: SynthesizeStep, output: str) -> dict[str, Any]:
    found = synthesis.choose(step, output)
    for part in found["kinds"].values():
        for line in part["broken_shards"]:
            get_run_logger().warning("not used: %s", line)
    return found


@task(name="write levels", **POLICY)
def write(step: SynthesizeStep, output: str) -> dict[str, Any]:
    places = SynthesisPlaces.below(output)
    with make_judge(step.judge(output)) as judge:
        try:
            return write_levels(places.items, places.images, places.texts, judge, step.writing())
        finally:
            spending_table(judge.spending())


@task(name="keep rows", **POLICY)
def keep(step: SynthesizeStep, output: str) -> dict[str, Any]:
    found = synthesis.keep(step, output)
    level_table(found)
    return found


@task(name="pretrain projector", cache_policy=NO_CACHE, persist_result=False)
def pretrain(settings: TrainSettings) -> str:
    """Stage 1."""
    return _train(settings, "pretrain")


@task(name="train classifier", cache_policy=NO_CACHE, persist_result=False)
def train(settings: TrainSettings) -> str:
    """Stage 2."""
    try:
        return _train(settings, "train")
    finally:
        validation_report(settings.output)


def _train(settings: TrainSettings, stage: str) -> str:
    from vlfilter.training.launch import finetune

    try:
        result = finetune(settings)
    finally:
        loss_curve(settings.output, stage)
    how = "trained" if result.fresh else "was trained already"
    skipped = f", {result.skipped} skipped" if result.skipped else ""
    return f"{result.model} {how} in {result.steps} steps on {result.rows - result.skipped} rows{skipped}"


@task(name="select", **POLICY)
def choose(step: SelectStep, places: Places) -> str:
    found = choosing.choose(places.scores, step.rule, places.kept)
    selection_note(found, places.kept)
    return f"{found['kept']} of {found['rows']} samples in {places.kept}"
