"""How a scoring output stands: done, stale, failed, missing, by scorer and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from vlfilter.data.shards import list_shards
from vlfilter.data.states import State, TableState, table_states
from vlfilter.data.tables import list_tables
from vlfilter.errors import VlfilterError
from vlfilter.scoring.again import read_again
from vlfilter.scoring.base import make_scorer
from vlfilter.scoring.failures import Failure, read_failures
from vlfilter.scoring.plan import Plan, recorded_run, recorded_scorers, recorded_shards


@dataclass(frozen=True)
class ScorerStatus:
    """One scorer's tables. `failures` gives the reason of every shard whose last try failed; `note` says what could
    not be checked, if anything."""

    scorer: str
    states: tuple[TableState, ...]
    failures: dict[str, Failure]
    note: str = ""

    @property
    def counts(self) -> dict[str, int]:
        counts = Counter("failed" if self.failed(s) else str(s.state) for s in self.states)
        return {name: counts[name] for name in ("done", "stale", "damaged", "failed", "missing")}

    def failed(self, state: TableState) -> bool:
        failure = self.failures.get(state.shard.name)
        return state.state is not State.DONE and failure is not None and failure.version == state.shard.version

    def rows(self) -> dict[str, int]:
        """Samples by status, over the tables that are done."""
        total: Counter[str] = Counter()
        for state in self.states:
            if state.state is State.DONE and state.footer:
                total.update(state.footer.counts)
        return dict(total)

    def open(self) -> list[tuple[str, str, str]]:
        """(shard, state, why) of every shard that is not done."""
        return [
            (s.shard.name, "failed", self.failures[s.shard.name].reason)
            if self.failed(s)
            else (s.shard.name, str(s.state), s.why)
            for s in self.states
            if s.state is not State.DONE
        ]


def plan_status(plan: Plan, output: str) -> list[ScorerStatus]:
    """The status of a run that was just planned."""
    scorers = dict.fromkeys(state.scorer for state in plan.states)
    return [
        ScorerStatus(name, tuple(s for s in plan.states if s.scorer == name), read_failures(output, name))
        for name in scorers
    ]


def read_status(output: str) -> list[ScorerStatus]:
    """Compare the tables below `output` with the tars and models as they are now.

    Raises `VlfilterError` when no run has written there or the shards cannot be listed any more.
    """
    scorers = recorded_scorers(output)
    if not scorers:
        raise VlfilterError(f"no run has written {output} yet: `vlfilter score --output {output}` does.")
    found = []
    for name in scorers:
        run = recorded_run(output, name)
        parts, note = run.fingerprint, ""
        try:
            parts = make_scorer(run.given, run.params.settings(run.given)).fingerprint()
        except VlfilterError as error:
            note = f"compared with the model as it was at the last run ({error})"
        shards = list_shards(run.params.shards)
        states = table_states(output, name, shards, parts, read_again(output, name))
        if others := len(list_tables(output, name).keys() - {shard.name for shard in shards}):
            note = f"{note + '; ' if note else ''}{others} more tables are of other shards than the last run's"
        found.append(ScorerStatus(name, tuple(states), read_failures(output, name), note))
    return found


def check_complete(output: str, scorer: str, tables: Collection[str]) -> None:
    """Raises `VlfilterError` when the last run of a scorer left shards without a table; `tables` are those it has."""
    missing = [name for name in read_failures(output, scorer) if name not in tables]
    asked = recorded_shards(output, scorer)
    if missing or len(tables) < asked:
        count = max(len(missing), asked - len(tables))
        raise VlfilterError(
            f"{count} shards have no {scorer} table yet{': ' + ', '.join(missing[:3]) if missing else ''} "
            f"(`vlfilter status --output {output}` says why): run `vlfilter score` again, or choose from what is there "
            "with --allow-incomplete."
        )
