"""Score shards: list → one task a shard → reconcile → summary.

Finished shards are not touched, whoever finished them: their tables are the proof. So a run that was killed goes on
where it stopped, and *Retry* runs only what failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from prefect import flow, runtime, unmapped
from prefect.futures import wait
from prefect.states import Completed, Failed, State
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.artifacts import histograms, progress_artifact, shard_table
from tasks.score import plan, reconcile, score
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import Work
from vlfilter.scoring.progress import BOARD
from vlfilter.scoring.status import ScorerStatus


def _run_name() -> str:
    params = ScoreParams.model_validate(runtime.flow_run.parameters["params"])
    shards = params.shards if isinstance(params.shards, str) else f"{params.shards[0]} …"
    return f"score {' + '.join(params.scorer)} · {shards}"


@flow(name="score-shards", flow_run_name=_run_name, persist_result=False)
def score_shards(params: ScoreParams) -> State[Any]:
    """Score every sample of the shards with the chosen scorers, and write one score table a shard and scorer."""
    found = plan(params)
    todo = found.work
    BOARD.start(len(todo), sum(work.shard.size for work in todo))
    groups = [todo[i : i + params.group_size] for i in range(0, len(todo), params.group_size)]
    runner = cast(TaskRunner[Any], ThreadPoolTaskRunner(max_workers=params.shards_in_flight))
    shared = params.model_copy(update={"shards": ["listed by the parent run"]})  # a run's parameters have a size limit
    with progress_artifact():
        for number, group in enumerate(groups, start=1):
            # Shards go in groups of their own flow run, so that no run carries thousands of task runs.
            name = f"group {number} of {len(groups)}: {group[0].shard.name} – {group[-1].shard.name}"
            run = score_group.with_options(task_runner=runner, flow_run_name=name)
            run(group, shared, return_state=True)
    statuses = reconcile(params)
    shard_table(statuses)
    histograms(params.output)
    return _verdict(statuses)


@flow(name="score-shard-group", persist_result=False, validate_parameters=False)
def score_group(group: list[Work], params: ScoreParams) -> State[Any]:
    """One task a shard; a failed shard fails alone."""
    futures = score.map(group, params=unmapped(params))
    wait(futures)
    failed = [w.shard.name for w, future in zip(group, futures, strict=True) if not future.state.is_completed()]
    if failed:
        return Failed(message=f"{len(failed)} of {len(group)} shards failed: {_first(failed)}")
    return Completed(message=f"{len(group)} shards scored")


def _verdict(statuses: Sequence[ScorerStatus]) -> State[Any]:
    total = len(statuses[0].states)
    still_open = sorted({shard for status in statuses for shard, _, _ in status.open()})
    if still_open:
        return Failed(message=f"{len(still_open)} of {total} shards have no score table: {_first(still_open)}")
    rows = ", ".join(f"{status.scorer}: {_count(status.rows())}" for status in statuses)
    return Completed(message=f"{total} shards scored. {rows}")


def _count(rows: dict[str, int]) -> str:
    return f"{sum(rows.values())} samples, {rows.get('ok', 0)} with a score"


def _first(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")
