"""What a run has to do: every shard against every scorer's tables, before any model is loaded."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vlfilter.data.shards import Shard, list_shards
from vlfilter.data.states import State, TableState, table_states
from vlfilter.data.storage import absolute, filesystem, join, read_bytes, write_bytes
from vlfilter.errors import VlfilterError
from vlfilter.scoring.again import read_again
from vlfilter.scoring.params import ScoreParams

RUN_FILE = "run.json"  # beside a scorer's tables: what was asked for last, so that `status` knows what should be there


@dataclass(frozen=True, slots=True)
class Work:
    """A shard with the scorers that still have to score it."""

    shard: Shard
    scorers: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """`states` holds one entry a shard and scorer."""

    shards: tuple[Shard, ...]
    states: tuple[TableState, ...]

    @property
    def work(self) -> list[Work]:
        """What is left to do, in order of the shards' names."""
        open_scorers: dict[str, list[str]] = {}
        for state in self.states:
            if state.state is not State.DONE:
                open_scorers.setdefault(state.shard.name, []).append(state.scorer)
        return [Work(s, tuple(open_scorers[s.name])) for s in self.shards if s.name in open_scorers]

    def counts(self, scorer: str) -> dict[str, int]:
        found = Counter(state.state for state in self.states if state.scorer == scorer)
        return {str(state): found[state] for state in State if found[state]}


def make_plan(shards: Iterable[Shard], parts: Mapping[str, Mapping[str, Any]], output: str) -> Plan:
    """`parts` holds each scorer's fingerprint by its name."""
    shards = tuple(shards)
    states = [
        state
        for name, own in parts.items()
        for state in table_states(output, name, shards, own, read_again(output, name), keep=True)
    ]
    return Plan(shards, tuple(states))


def plan_run(params: ScoreParams) -> Plan:
    """Check the scorers, list the shards, compare the tables. Raises `VlfilterError` for what the user must mend."""
    parts = {scorer.name: scorer.fingerprint() for scorer in params.scorers()}
    return make_plan(list_shards(params.shards), parts, params.output)


@dataclass(frozen=True, slots=True)
class Record:
    """What a scorer's tables were last asked for: the run's parameters, the scorer as it was given, its fingerprint."""

    params: ScoreParams
    given: str
    fingerprint: dict[str, Any]


def record_run(params: ScoreParams, shards: int) -> None:
    """Keep with each scorer's tables what they were asked for, in terms that hold in any folder."""
    specs = [params.shards] if isinstance(params.shards, str) else params.shards
    models = {name: absolute(model) if os.path.exists(model) else model for name, model in params.model.items()}
    kept = params.model_copy(update={"shards": [absolute(spec) for spec in specs], "model": models})
    for given, scorer in zip(params.scorer, params.scorers(), strict=True):
        parts = scorer.fingerprint()
        record = {"params": kept.model_dump(), "given": given, "fingerprint": parts, "shards": shards}
        url = join(params.output, scorer.name, RUN_FILE)
        write_bytes(url, json.dumps(record, indent=1, sort_keys=True).encode())


def recorded_run(output: str, scorer: str) -> Record:
    """What `record_run` kept. Raises `VlfilterError` when there is nothing."""
    url = join(output, scorer, RUN_FILE)
    try:
        record = json.loads(read_bytes(url))
        return Record(ScoreParams.model_validate(record["params"]), record["given"], record["fingerprint"])
    except FileNotFoundError:
        raise VlfilterError(f"{url} is missing: no run of `vlfilter score` has written {output}.") from None
    except (ValueError, KeyError) as error:
        raise VlfilterError(f"{url} is damaged ({error}): run `vlfilter score` again.") from None


def recorded_shards(output: str, scorer: str) -> int:
    """How many shards the last run of a scorer had; 0 when no run has left a record, as for tables from elsewhere."""
    fs, path = filesystem(join(output, scorer, RUN_FILE))
    return int(json.loads(fs.cat_file(path)).get("shards", 0)) if fs.exists(path) else 0


def recorded_scorers(output: str) -> list[str]:
    """The scorers that some run was asked for with this output."""
    fs, path = filesystem(output)
    if not fs.exists(path):
        return []
    folders = [e["name"].rstrip("/") for e in fs.ls(path, detail=True) if e["type"] == "directory"]
    return sorted(f.rsplit("/", 1)[-1] for f in folders if fs.exists(f"{f}/{RUN_FILE}"))
