"""Run again what an output lacks, as its last runs were asked; tables with certain rows are made again too."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pyarrow.compute as pc
from pydantic import Field

from vlfilter.data.samples import Status
from vlfilter.data.states import State, TableState
from vlfilter.data.tables import open_parquet, table_url
from vlfilter.errors import VlfilterError
from vlfilter.forms import Form
from vlfilter.scoring.again import ask_again, asked_by, read_again
from vlfilter.scoring.params import Dispatch, ScoreParams
from vlfilter.scoring.plan import Record, recorded_run, recorded_scorers
from vlfilter.scoring.status import ScorerStatus, read_status

# All but `ok`: a sample that has its scores has nothing to gain.
RowStatus = Literal["corrupt_image", "missing_image", "missing_text", "too_large", "unsupported", "refused", "failed"]


class RetryParams(Form):
    """Score again what an output lacks: shards without a table, with a stale or a damaged one, as they were asked for
    last. With `status` or `reason` also the shards that hold such rows."""

    output: str = Field(description="Where the score tables are.", examples=["s3://bucket/scores"])
    scorer: list[str] = Field(default=[], description="Only these scorers; empty: all that have tables there.")
    status: list[RowStatus] = Field(default=[], description="Also the shards with rows of one of these statuses.")
    reason: str | None = Field(
        default=None,
        min_length=1,
        description="Also the shards with rows whose reason contains this text; with `status`, rows that meet both.",
        examples=["does not answer"],
    )
    dispatch: Dispatch | None = Field(default=None, description="Where the groups run; empty: as in the last run.")

    @property
    def asks_for_rows(self) -> bool:
        return bool(self.status or self.reason)


def runs_to_repeat(params: RetryParams) -> list[ScoreParams]:
    """The last runs of the scorers, each scorer in one of them. Raises `VlfilterError` where there are none."""
    known = recorded_scorers(params.output)
    if not known:
        raise VlfilterError(f"no run has written {params.output} yet: `vlfilter score --output {params.output}` does.")
    if unknown := sorted(set(params.scorer) - set(known)):
        raise VlfilterError(f"{unknown[0]!r} has no tables in {params.output}: there are {', '.join(known)}.")
    together: list[list[Record]] = []
    for name in params.scorer or known:
        record = recorded_run(params.output, name)
        for records in together:
            if records[0].params == record.params:
                records.append(record)
                break
        else:
            together.append([record])
    return [_run(records, params) for records in together]


def _run(records: list[Record], params: RetryParams) -> ScoreParams:
    run, given = records[0].params, [record.given for record in records]
    changes = {
        "output": params.output,  # it may have been moved since
        "scorer": given,
        "model": {name: model for name, model in run.model.items() if name in given},
        "options": {name: options for name, options in run.options.items() if name in given},
        "dispatch": params.dispatch or run.dispatch,
    }
    return run.model_copy(update=changes)


def mark_rows(params: RetryParams, who: str) -> dict[str, int]:
    """Ask for the tables that hold such rows to be made again; returns how many tables by scorer.

    Once for `who`: what was made again since is not asked for a second time.
    """
    marked: dict[str, int] = {}
    for status in read_status(params.output):
        if params.scorer and status.scorer not in params.scorer:
            continue
        if asked_by(params.output, status.scorer) == who:
            continue
        done = [state for state in status.states if state.state is State.DONE]
        with ThreadPoolExecutor(16) as pool:
            found = pool.map(lambda state: _rows(params, state), done)
            tables = {s.shard.name: s.footer.made for s, rows in zip(done, found, strict=True) if rows and s.footer}
        tables |= _asked_before(params.output, status)
        ask_again(params.output, status.scorer, tables, who)
        marked[status.scorer] = len(tables)
    return marked


def _asked_before(output: str, status: ScorerStatus) -> dict[str, str]:
    """The tables of an earlier request that still wait: the new note takes the place of the old one."""
    asked = read_again(output, status.scorer)
    made = {state.shard.name: state.footer.made for state in status.states if state.footer}
    return {name: moment for name, moment in asked.items() if made.get(name) == moment}


def _rows(params: RetryParams, state: TableState) -> int:
    """How many rows of a table meet what was asked; the footer's counts save opening most tables."""
    assert state.footer is not None
    wanted = _statuses(params.status)
    if not wanted & set(state.footer.counts):
        return 0
    table = open_parquet(table_url(params.output, state.scorer, state.shard.name)).read(columns=["status", "reason"])
    hits = pc.is_in(table["status"], value_set=pc.cast(sorted(wanted), "string"))
    if params.reason:
        hits = pc.and_(hits, pc.fill_null(pc.match_substring(table["reason"], params.reason), False))
    return int(pc.sum(hits).as_py() or 0)


def _statuses(given: Collection[str]) -> set[str]:
    return set(given) or {str(status) for status in Status if status is not Status.OK}
