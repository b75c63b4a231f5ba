"""The steps of MLM-Filter's flow: each looks at its own file first, and does what that does not show as done."""

from __future__ import annotations

from prefect import get_run_logger, task

from tasks.judge import paid_judge
from tasks.lineage import record_subset
from tasks.mlm_filter_artifacts import (
    balance_table,
    cluster_table,
    grade_table,
    loss_curve,
    selection_note,
)
from tasks.policy import ONCE, RETRIED
from tasks.report import report_link
from vlfilter.methods.mlm_filter import sampling
from vlfilter.methods.mlm_filter.balancing import balance_grades
from vlfilter.methods.mlm_filter.grading import grade_pairs
from vlfilter.methods.mlm_filter.mixing import check_images, mix_instructions
from vlfilter.methods.mlm_filter.places import Places, link_general_images
from vlfilter.methods.mlm_filter.steps import BalanceStep, GradeStep, MixStep, SampleStep, SelectStep
from vlfilter.selection import choosing
from vlfilter.training.settings import TrainSettings


@task(name="sample pairs", **RETRIED)
def sample(step: SampleStep, places: Places) -> str:
    found = sampling.sample_pairs(step.shards, places.images, places.pairs, places.captions, step.settings())
    for line in found["broken_shards"]:
        get_run_logger().warning("not sampled: %s", line)
    cluster_table(found)
    problems = ", ".join(f"{n} {status}" for status, n in found["problems"].items()) or "none without use"
    return f"{found['pairs']} of {found['samples']} pairs chosen ({problems})"


@task(name="grade pairs", **RETRIED)
def grade(step: GradeStep, version: int, output: str, places: Places) -> str:
    with paid_judge(step.judge(output)) as judge:
        found = grade_pairs(places.pairs, places.images, places.grades, judge, step.settings(version))
    grade_table(found)
    return f"{', '.join(f'{n} {status}' for status, n in found['rows'].items())} grades, ${found['usd']:.2f}"


@task(name="balance grades", **RETRIED)
def balance(step: BalanceStep, places: Places) -> str:
    found = balance_grades(places.grades, places.balanced, step.per_metric, step.seed)
    for metric, rows in found["chosen"].items():
        if rows < step.per_metric:
            get_run_logger().warning("%s has only %d scored rows of the %d asked for", metric, rows, step.per_metric)
    balance_table(found)
    return f"{found['rows']} balanced grades"


@task(name="mix instructions", **RETRIED)
def mix(step: MixStep, places: Places) -> str:
    prefix = link_general_images(places.training_images, step.images)
    found = mix_instructions(
        places.balanced, places.instructions, data=step.data, rows=step.rows, image_prefix=prefix, seed=step.seed
    )
    for line in found["unusable"]:
        get_run_logger().warning("%s: not used: %s", step.data, line)
    rows = f"{found['quality_rows']} + {found['general_rows']} instructions"
    return f"{rows} in {places.instructions}, images below {places.training_images}"


@task(name="check images", **RETRIED)
def check(places: Places) -> str:
    found = check_images(places.instructions, places.training_images)
    return f"{found['with_image']} images of {found['rows']} rows are there"


@task(name="fine-tune", **ONCE)
def finetune(settings: TrainSettings) -> str:
    from vlfilter.training.launch import finetune as train

    try:
        result = train(settings)
    finally:
        loss_curve(settings.output)
    how = "trained" if result.fresh else "was trained already"
    return f"{result.model} {how} in {result.steps} steps on {result.rows - result.skipped} rows"


@task(name="select", **RETRIED)
def choose(step: SelectStep, places: Places) -> str:
    found = choosing.choose(places.scores, step.rule, places.kept)
    selection_note(found, places.kept)
    record_subset(places.kept, places.scores, found["kept"], found["rows"], step.rule)
    report_link(places.scores, places.kept, step.rule)
    return f"{found['kept']} of {found['rows']} samples in {places.kept}"
