"""The steps of UniFilter's flow: each looks at its own file first, and does what that does not show as done."""

from __future__ import annotations

from typing import Any

from prefect import get_run_logger, task

from tasks.judge import paid_judge
from tasks.lineage import record_subset
from tasks.loss_curve import loss_curve
from tasks.policy import ONCE, RETRIED
from tasks.report import report_link
from tasks.unifilter_artifacts import level_table, selection_note, validation_report
from vlfilter.methods.unifilter import synthesis
from vlfilter.methods.unifilter.params import Places
from vlfilter.methods.unifilter.synthesis import SynthesisPlaces, SynthesizeStep
from vlfilter.methods.unifilter.train_steps import SelectStep
from vlfilter.methods.unifilter.writing import write_levels
from vlfilter.selection import choosing
from vlfilter.training.settings import TrainSettings


@task(name="choose images", **RETRIED)
def choose_images(step: SynthesizeStep, output: str) -> dict[str, Any]:
    found = synthesis.choose(step, output)
    for part in found["kinds"].values():
        for line in part["broken_shards"]:
            get_run_logger().warning("not used: %s", line)
    return found


@task(name="write levels", **RETRIED)
def write(step: SynthesizeStep, output: str) -> dict[str, Any]:
    places = SynthesisPlaces.below(output)
    with paid_judge(step.judge(output)) as judge:
        return write_levels(places.items, places.images, places.texts, judge, step.writing())


@task(name="keep rows", **RETRIED)
def keep(step: SynthesizeStep, output: str) -> dict[str, Any]:
    found = synthesis.keep(step, output)
    level_table(found)
    return found


@task(name="pretrain projector", **ONCE)
def pretrain(settings: TrainSettings) -> str:
    """Stage 1."""
    return _train(settings, "pretrain")


@task(name="train classifier", **ONCE)
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
        loss_curve(settings.output, f"unifilter-{stage}-loss", stage)
    how = "trained" if result.fresh else "was trained already"
    skipped = f", {result.skipped} skipped" if result.skipped else ""
    return f"{result.model} {how} in {result.steps} steps on {result.rows - result.skipped} rows{skipped}"


@task(name="select", **RETRIED)
def choose(step: SelectStep, places: Places) -> str:
    found = choosing.choose(places.scores, step.rule, places.kept)
    selection_note(found, places.kept)
    record_subset(places.kept, places.scores, found["kept"], found["rows"], step.rule)
    report_link(places.scores, places.kept, step.rule)
    return f"{found['kept']} of {found['rows']} samples in {places.kept}"
