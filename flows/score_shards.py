"""Score shards: list → groups, one task a shard → reconcile → summary.

Finished shards are not touched, whoever finished them: their tables are the proof. So a run that was killed goes on
where it stopped, and *Retry* runs only what failed. Groups run here or, by `dispatch`, as flow runs of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Failed, State

from flows.dispatch import Child, Family, cancel_children, check_deployment, live_children, server_configured
from flows.score_shard_group import SHARDS_FAILED, first, score_shard_group
from tasks.artifacts import histograms, progress_artifact, shard_table
from tasks.dispatch_artifacts import GroupTable
from tasks.lineage import record_tables
from tasks.score import plan, reconcile
from vlfilter.data.shards import Shard
from vlfilter.scoring.groups import IN_MEMORY, cut_groups, drop_groups, group_home, read_group, write_groups
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.progress import BOARD
from vlfilter.scoring.status import ScorerStatus


def _run_name() -> str:
    params = ScoreParams.model_validate(runtime.flow_run.parameters["params"])
    shards = params.shards if isinstance(params.shards, str) else f"{params.shards[0]} …"
    return f"score {' + '.join(params.scorer)} · {shards}"


@flow(name="score-shards", flow_run_name=_run_name, persist_result=False, on_cancellation=[cancel_children])
def score_shards(params: ScoreParams) -> State[Any]:
    """Score every sample of the shards with the chosen scorers, and write one score table a shard and scorer."""
    todo = [work.shard for work in plan(params).work]
    BOARD.start(len(todo), sum(shard.size for shard in todo))
    elsewhere = params.dispatch.mode == "deployment" and server_configured()
    if params.dispatch.mode == "deployment" and not elsewhere:
        get_run_logger().info("no Prefect server is configured: the groups run in this process")
    said: list[str] = []
    if todo:
        with progress_artifact():
            said = (hand_out if elsewhere else run_here)(todo, params)
    statuses = reconcile(params)
    shard_table(statuses)
    histograms(params.output)
    record_tables(params, statuses)
    return _verdict(statuses, said)


def run_here(todo: Sequence[Shard], params: ScoreParams) -> list[str]:
    """Groups one after the other, each a flow run of its own, so that no run carries thousands of task runs.

    Returns what the groups said that did not complete.
    """
    groups = cut_groups(todo, params.group_size)
    url = write_groups(todo, params.group_size, IN_MEMORY)
    said = []
    for number in range(len(groups)):
        name = partial(_name, groups, number)  # called, since braces in a text would be filled in
        run = score_shard_group.with_options(flow_run_name=name)
        state: Any = run(_shared(params), url, number, return_state=True)
        said += [] if state.is_completed() else [state.message or ""]
    drop_groups(url)
    return said


def hand_out(todo: Sequence[Shard], params: ScoreParams) -> list[str]:
    """Groups as flow runs of the deployment; those that an earlier try of this run left alive are waited for too.

    Returns what the groups said that did not complete.
    """
    check_deployment(params.dispatch.deployment)
    table = GroupTable()
    family = Family(params.dispatch, may_run_again, table.show, _count_in)
    taken: set[str] = set()
    for run in live_children():
        if run.parameters.get("plan", "").startswith(group_home(params.output)):
            shards = read_group(run.parameters["plan"], run.parameters["group"])
            taken.update(shard.name for shard in shards)
            family.adopt(run, shards)
    rest = [shard for shard in todo if shard.name not in taken]
    groups = cut_groups(rest, params.group_size)
    url = write_groups(rest, params.group_size, params.output) if rest else ""
    shared = _shared(params).model_dump(mode="json", exclude_defaults=True)
    for number, group in enumerate(groups):
        parameters = {"params": shared, "plan": url, "group": number}
        family.children.append(Child(f"score {' + '.join(params.scorer)} · {_name(groups, number)}", parameters, group))
    family.run()
    table.show(family.children, last=True)
    return [child.message for child in family.children if child.state != "Completed"]


def may_run_again(run: FlowRun) -> bool:
    """After a crash, or an error of the run itself; shards that failed on their own have had their tries."""
    state = run.state
    return state is not None and (state.is_crashed() or (state.is_failed() and state.name != SHARDS_FAILED))


def _count_in(child: Child) -> None:
    """Which shards of a group failed is for the tables to tell; the bar only needs to know what is behind it."""
    done = child.state == "Completed"
    BOARD.add(size=sum(shard.size for shard in child.shards), shards=len(child.shards) if done else 0)


def _shared(params: ScoreParams) -> ScoreParams:
    """What the groups are told; a run's parameters have a size limit, and the plan lists the shards."""
    return params.model_copy(update={"shards": "listed by the parent run"})


def _name(groups: Sequence[Sequence[Shard]], number: int) -> str:
    group = groups[number]
    return f"{group[0].name} – {group[-1].name} · group {number + 1} of {len(groups)}"


def _verdict(statuses: Sequence[ScorerStatus], said: Sequence[str]) -> State[Any]:
    total = len(statuses[0].states)
    still_open = sorted({shard for status in statuses for shard, _, _ in status.open()})
    if still_open:
        message = f"{len(still_open)} of {total} shards have no score table: {first(still_open)}"
        # Where the disk is full, no note of a failure could be left either.
        unexplained = any(not why for status in statuses for _, _, why in status.open())
        return Failed(message="\n".join([message, *(said[:1] if unexplained else [])]))
    rows = ", ".join(f"{status.scorer}: {_count(status.rows())}" for status in statuses)
    return Completed(message=f"{total} shards scored. {rows}")


def _count(rows: dict[str, int]) -> str:
    return f"{sum(rows.values())} samples, {rows.get('ok', 0)} with a score"
