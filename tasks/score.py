"""Tasks of a scoring run: thin wraps of the library with retries, names and logs."""

from __future__ import annotations

import random
from typing import Any

from prefect import get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE

from vlfilter.errors import StorageError, VlfilterError
from vlfilter.scoring.engine import EngineSettings, StoppedError, score_shard
from vlfilter.scoring.failures import clear_failure, note_failure
from vlfilter.scoring.groups import read_group
from vlfilter.scoring.loaded import load_processes, load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import Plan, Work, make_plan, plan_run, record_run
from vlfilter.scoring.progress import BOARD
from vlfilter.scoring.status import ScorerStatus, plan_status

RETRIES = 2


def _may_recover(error: object) -> bool:
    """Storage and devices may; a broken tar or a wrong model will not."""
    return not isinstance(error, VlfilterError) or isinstance(error, StorageError)


def _worth_another_try(_task: Any, _run: Any, state: Any) -> bool:
    return _may_recover(state.data)


def _delays(retries: int) -> list[float]:
    return [random.uniform(0.5, 1.5) * 2 ** (attempt + 1) for attempt in range(retries)]  # noqa: S311 - only jitter


# The score tables are the proof; Prefect's cache would be a second truth.
ONCE: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False, "cache_result_in_memory": False}
RETRIED: dict[str, Any] = ONCE | {
    "retries": RETRIES,
    "retry_delay_seconds": _delays,
    "retry_condition_fn": _worth_another_try,
}


@task(name="plan", **RETRIED)
def plan(params: ScoreParams) -> Plan:
    """List the shards and compare the tables that exist with what would be computed now."""
    found = plan_run(params)
    log = get_run_logger()
    for scorer in params.scorers():
        log.info("%s: %s", scorer.name, ", ".join(f"{n} {state}" for state, n in found.counts(scorer.name).items()))
    if found.work:
        params.check_servers()
    record_run(params, len(found.shards))
    return found


@task(name="plan-group", **RETRIED)
def plan_group(params: ScoreParams, plan: str, group: int) -> list[Work]:
    """What is left to do of one group: another run may have been there."""
    parts = {scorer.name: scorer.fingerprint() for scorer in params.scorers()}
    return make_plan(read_group(plan, group), parts, params.output).work


@task(name="reconcile", **RETRIED)
def reconcile(params: ScoreParams) -> list[ScorerStatus]:
    """Look at what really lies in the output: that alone decides how the run ends."""
    statuses = plan_status(plan_run(params), params.output)
    log = get_run_logger()
    for status in statuses:
        for shard, state, why in status.open():
            log.error("%s %s is %s: %s", status.scorer, shard, state, why)
    return statuses


@task(name="score-shard", task_run_name="score {work.shard.name}", **RETRIED)
def score(work: Work, params: ScoreParams) -> dict[str, dict[str, int]]:
    """Score one shard; returns the number of samples by status for each scorer."""
    shard = work.shard
    try:
        runners = load_runners(params, work.scorers)
        settings = EngineSettings(workers=params.workers, processes=load_processes(params, runners))
        results = score_shard(shard, runners, params.output, settings)
    except Exception as error:
        final = not _may_recover(error) or (runtime.task_run.run_count or 0) > RETRIES
        if final and not isinstance(error, StoppedError):
            BOARD.add(size=shard.size, shards_failed=1)
            _note(work, params, error)
        raise
    log = get_run_logger()
    for result in results:
        clear_failure(params.output, result.scorer, shard)
        counts = ", ".join(f"{n} {status}" for status, n in result.footer.counts.items()) or "no samples"
        log.info("%s %s: %s in %.1f s", result.scorer, shard.name, counts, result.footer.seconds)
        for warning in result.footer.warnings:
            log.warning("%s: %s", shard.url, warning)
    return {result.scorer: dict(result.footer.counts) for result in results}


def _note(work: Work, params: ScoreParams, error: Exception) -> None:
    """Leave the reason with those scorers that have no table now; a note that cannot be written hides nothing."""
    reason = str(error) if isinstance(error, VlfilterError) else f"{type(error).__name__}: {error}"
    try:
        parts = {scorer.name: scorer.fingerprint() for scorer in params.scorers() if scorer.name in work.scorers}
        for left in make_plan([work.shard], parts, params.output).work:
            for scorer in left.scorers:
                note_failure(params.output, scorer, work.shard, reason)
    except Exception:
        get_run_logger().exception("the failure of %s could not be noted", work.shard.name)
