"""The steps of Self-Filter's flow: each looks at its own files first, and does what those do not show as done."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger, task

from tasks.judge import paid_judge
from tasks.lineage import asset_key, record
from tasks.loss_curve import loss_curve
from tasks.policy import ONCE, RETRIED
from tasks.self_filter_artifacts import counts_table, selection_note
from vlfilter.methods.self_filter import (
    clip_features,
    difficulty,
    judging,
    preprocess,
    rewards,
    score_features,
    selecting,
)
from vlfilter.methods.self_filter.clip_features import ClipJob, ClipSettings, ClipWorker
from vlfilter.methods.self_filter.places import SelfFilterPlaces
from vlfilter.methods.self_filter.rewards import RewardJob, RewardSettings, RewardWorker
from vlfilter.methods.self_filter.score_features import ScoreInputs
from vlfilter.methods.self_filter.steps import JudgeStep, PreprocessStep, SelectStep

if TYPE_CHECKING:
    from vlfilter.training.settings import TrainSettings


@task(name="preprocess", **RETRIED)
def number_rows(step: PreprocessStep, places: SelfFilterPlaces) -> str:
    found = preprocess.preprocess(step.annotations, places.preprocess, step.rows_per_shard)
    for line in found.examples:
        get_run_logger().warning("not used: %s", line)
    counts_table("preprocess", found.counts)
    return f"{found.rows} instructions ({_listed(found.counts)}), {found.images} distinct images"


@task(name="clip features", task_run_name="clip features {job.shard.name}", **RETRIED)
def clip_shard(job: ClipJob, images: str, settings: ClipSettings) -> None:
    _clip_worker(images, settings).run(job)


@task(name="all clip features", **RETRIED)
def clip_summary(places: SelfFilterPlaces, images: str, settings: ClipSettings) -> str:
    """Counts what the shards' tasks made, and removes what belongs to no shard any more."""
    found = clip_features.clip_features(places.preprocess, images, places.clip, settings)
    counts_table("clip", found.rows)
    return f"CLIP features: {_listed(found.rows)}; {_listed(found.images)} images"


@task(name="image reward", task_run_name="image reward {job.shard.name}", **RETRIED)
def reward_shard(job: RewardJob, images: str, settings: RewardSettings) -> None:
    _reward_worker(images, settings).run(job)


@task(name="all image rewards", **RETRIED)
def reward_summary(places: SelfFilterPlaces, images: str, settings: RewardSettings) -> str:
    found = rewards.image_rewards(places.preprocess, images, places.image_reward, settings)
    counts_table("image-reward", found.rows)
    return f"ImageReward: {_listed(found.rows)}"


@task(name="judge", **RETRIED)
def ask_judge(step: JudgeStep, output: str, places: SelfFilterPlaces) -> str:
    with paid_judge(step.judge(output)) as judge:
        tell = get_run_logger().info
        found = judging.judge_scores(places.preprocess, places.judge, judge, step.judging(), tell=tell)
    for reason, count in found.reasons.items():
        get_run_logger().warning("%d rows without a judge's score: %s", count, reason)
    counts_table("judge", found.rows)
    return f"judge: {_listed(found.rows)}, ${found.usd:.2f}"


@task(name="scores", **RETRIED)
def join_scores(inputs: ScoreInputs, method: str, places: SelfFilterPlaces) -> str:
    found = score_features.score_features(places.preprocess, inputs, places.scores, method)
    counts_table("scores", found.rows)
    return f"scores: {_listed(found.rows)}; {found.judge_filled} judge scores missing, the mean in their place"


@task(name="train", task_run_name="{stage}", **ONCE)
def train(settings: TrainSettings, stage: str) -> str:
    from vlfilter.training.launch import finetune

    try:
        result = finetune(settings)
    finally:
        loss_curve(settings.output, f"self-filter-{stage.replace(' ', '-')}-loss", stage)
    how = "trained" if result.fresh else "was trained already"
    skipped = f", {result.skipped} skipped" if result.skipped else ""
    return f"{stage}: {result.model} {how} in {result.steps} steps on {result.rows - result.skipped} rows{skipped}"


@task(name="difficulty", **RETRIED)
def measure(features: str, model: str, places: SelfFilterPlaces) -> str:
    found = difficulty.measure_difficulty(model, features, places.difficulty)
    return "; ".join(found.lines())


@task(name="select", **RETRIED)
def choose(step: SelectStep, places: SelfFilterPlaces) -> str:
    """Neighbours are CLIP's in both settings, as published."""
    found = selecting.select_samples(
        places.clip, places.difficulty, places.picks, step.selecting(), places.annotations, places.selected
    )
    for line in found.warnings():
        get_run_logger().warning("%s", line)
    selection_note(found, places)
    record(
        places.selected, "subset", [asset_key(places.annotations), asset_key(places.difficulty)], {"rows": found.picks}
    )
    return f"{found.picks} of {found.pool} rows selected in {places.selected}"


@lru_cache(maxsize=1)
def _clip_worker(images: str, settings: ClipSettings) -> ClipWorker:
    """Its model stays loaded from shard to shard."""
    return ClipWorker(images, settings)


@lru_cache(maxsize=1)
def _reward_worker(images: str, settings: RewardSettings) -> RewardWorker:
    return RewardWorker(images, settings)


def _listed(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
