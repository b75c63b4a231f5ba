"""Tasks of a scoring run: thin wraps of the library with retries, names and logs."""

from __future__ import annotations

import random
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from vlfilter.errors import VlfilterError
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.failures import clear_failure, note_failure
from vlfilter.scoring.loaded import load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import Plan, Work, plan_run, record_run
from vlfilter.scoring.progress import BOARD
from vlfilter.scoring.status import ScorerStatus, plan_status


@task(name="plan", cache_policy=NO_CACHE, persist_result=False, cache_result_in_memory=False)
def plan(params: ScoreParams) -> Plan:
    """List the shards and compare the tables that exist with what would be computed now."""
    found = plan_run(params)
    log = get_run_logger()
    for scorer in params.scorers():
        log.info("%s: %s", scorer.name, ", ".join(f"{n} {state}" for state, n in found.counts(scorer.name).items()))
    record_run(params)
    return found


@task(name="reconcile", cache_policy=NO_CACHE, persist_result=False, cache_result_in_memory=False)
def reconcile(params: ScoreParams) -> list[ScorerStatus]:
    """Look at what really lies in the output: that alone decides how the run ends."""
    statuses = plan_status(plan_run(params), params.output)
    log = get_run_logger()
    for status in statuses:
        for shard, state, why in status.open():
            log.error("%s %s is %s: %s", status.scorer, shard, state, why)
    return statuses


def _worth_another_try(_task: Any, _run: Any, state: Any) -> bool:
    """Storage and devices may recover; a broken tar or a wrong model will not."""
    return not isinstance(state.data, VlfilterError)


def _delays(retries: int) -> list[float]:
    return [random.uniform(0.5, 1.5) * 2 ** (attempt + 1) for attempt in range(retries)]  # noqa: S311 - only jitter


@task(
    name="score-shard",
    task_run_name="score {work.shard.name}",
    cache_policy=NO_CACHE,  # the score table is the proof; Prefect's cache would be a second truth
    persist_result=False,
    retries=2,
    retry_delay_seconds=_delays,
    retry_condition_fn=_worth_another_try,
)
def score(work: Work, params: ScoreParams) -> dict[str, dict[str, int]]:
    """Score one shard; returns the number of samples by status for each scorer."""
    shard = work.shard
    try:
        runners = load_runners(params, work.scorers)
        results = score_shard(shard, runners, params.output, EngineSettings(workers=params.workers))
    except Exception as error:
        reason = str(error) if isinstance(error, VlfilterError) else f"{type(error).__name__}: {error}"
        for scorer in work.scorers:
            note_failure(params.output, scorer, shard.name, reason)
        raise
    log = get_run_logger()
    for result in results:
        clear_failure(params.output, result.scorer, shard.name)
        counts = ", ".join(f"{n} {status}" for status, n in result.footer.counts.items()) or "no samples"
        log.info("%s %s: %s in %.1f s", result.scorer, shard.name, counts, result.footer.seconds)
        for warning in result.footer.warnings:
            log.warning("%s: %s", shard.url, warning)
    BOARD.add(shards=1)
    return {result.scorer: dict(result.footer.counts) for result in results}
