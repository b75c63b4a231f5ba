"""Score one group of shards: one task a shard. Run in the parent's process, or by a worker as a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from prefect import flow, unmapped
from prefect.futures import wait
from prefect.states import Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.artifacts import progress_artifact
from tasks.score import plan_group, score
from vlfilter.scoring.groups import IN_MEMORY
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.progress import BOARD

SHARDS_FAILED = "ShardsFailed"  # the group did its work, so there is no use in handing it out again


@flow(name="score-shard-group", persist_result=False)
def score_shard_group(params: ScoreParams, plan: str, group: int) -> State[Any]:
    """Score group number `group` of a plan, as far as its tables are not there yet; a failed shard fails alone.

    The model is loaded once and kept from shard to shard. Started by score-shards.

    Args:
        params: What score-shards was told; the shards are those of the plan.
        plan: The list of shards that score-shards wrote beside the tables.
        group: Which group of the list, from 0.
    """
    work = plan_group(params, plan, group)
    alone = not plan.startswith(IN_MEMORY)  # else the parent's board counts all groups
    if alone:
        BOARD.start(len(work), sum(one.shard.size for one in work))
    threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(params.shards_in_flight)
    with progress_artifact() if alone else nullcontext(), threads as runner:
        futures = runner.map(score, {"work": work, "params": unmapped(params)})
        wait(futures)
    failed = {one.shard.name: f.state for one, f in zip(work, futures, strict=True) if not f.state.is_completed()}
    if failed:
        why = next(iter(failed.values())).result(raise_on_failure=False)
        message = f"{len(failed)} of {len(work)} shards failed: {first(list(failed))} ({why})"
        return Failed(name=SHARDS_FAILED, message=message)
    return Completed(message=f"{len(work)} shards scored")


def first(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")
