"""What a retry finds to do: shards without a whole table, and tables with rows of a kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.helpers import make_tar, pair, pairs
from tests.toy import NAME
from vlfilter.data.states import State
from vlfilter.errors import VlfilterError
from vlfilter.forms import parse_form
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.loaded import load_runners
from vlfilter.scoring.params import Dispatch, ScoreParams
from vlfilter.scoring.plan import plan_run, record_run
from vlfilter.scoring.retry import RetryParams, mark_rows, runs_to_repeat
from vlfilter.scoring.status import read_status


@pytest.fixture
def params(toy_run: Callable[[int, int], ScoreParams], tmp_path: Path) -> ScoreParams:
    """Four shards; 00001 has a corrupt image, 00002 one that the toy cannot prepare, 00003 both."""
    params = toy_run(4, 3)
    corrupt, unprepared = ("c", pair("c", image=b"broken")), ("u", pair("u", caption="unprepared"))
    make_tar(tmp_path / "data" / "00001.tar", [corrupt, *pairs(2, 10)])
    make_tar(tmp_path / "data" / "00002.tar", [unprepared, *pairs(2, 20)])
    make_tar(tmp_path / "data" / "00003.tar", [corrupt, unprepared, *pairs(2, 30)])
    score_all(params)
    record_run(params, 4)
    return params


def score_all(params: ScoreParams) -> list[str]:
    done = []
    for work in plan_run(params).work:
        score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings())
        done.append(work.shard.name)
    return done


def marked(params: ScoreParams, who: str = "somebody", **asked: object) -> list[str]:
    mark_rows(RetryParams(output=params.output, **asked), who)
    return [state.shard.name for state in plan_run(params).states if state.state is State.STALE]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"status": ["failed"]}, ["00002", "00003"]),
        ({"status": ["corrupt_image"]}, ["00001", "00003"]),
        ({"status": ["corrupt_image", "failed"]}, ["00001", "00002", "00003"]),
        ({"reason": "cannot prepare this"}, ["00002", "00003"]),
        ({"status": ["corrupt_image"], "reason": "cannot prepare"}, []),
        ({"status": ["refused"]}, []),
    ],
)
def test_tables_with_such_rows_are_stale(params: ScoreParams, asked: dict[str, object], expected: list[str]) -> None:
    assert marked(params, **asked) == expected


def test_they_are_made_again_once_and_status_says_why(params: ScoreParams, tmp_path: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "toy").glob("*.parquet")}
    assert marked(params, status=["failed"]) == ["00002", "00003"]
    [status] = read_status(params.output)
    assert status.open() == [(name, "stale", "asked to be made again") for name in ("00002", "00003")]
    assert pq.read_table(tmp_path / "out" / "toy" / "00002.parquet").num_rows == 3  # there until the new one is

    assert score_all(params) == ["00002", "00003"]
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out" / "toy").glob("*.parquet")}
    assert {name for name in after if after[name] != before[name]} == {"00002.parquet", "00003.parquet"}
    assert score_all(params) == []


def test_a_retry_that_was_cut_off_goes_on_with_what_is_left(params: ScoreParams) -> None:
    assert marked(params, "run 1", status=["failed"]) == ["00002", "00003"]
    work = plan_run(params).work[0]
    score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings())
    assert marked(params, "run 1", status=["failed"]) == ["00003"]  # the rows of 00002 failed again, but it had its try
    assert marked(params, "run 2", status=["failed"]) == ["00002", "00003"]


def test_the_last_run_is_repeated_as_it_was(params: ScoreParams) -> None:
    [run] = runs_to_repeat(RetryParams(output=params.output))
    recorded = params.model_copy(update={"shards": [params.shards]})
    assert run == recorded
    elsewhere = Dispatch(mode="deployment")
    [run] = runs_to_repeat(RetryParams(output=params.output, dispatch=elsewhere))
    assert run == recorded.model_copy(update={"dispatch": elsewhere})


def test_scorers_of_different_runs_are_repeated_apart(params: ScoreParams, tmp_path: Path) -> None:
    """The clip scorer came later, over one shard: a retry must not score all shards with it."""
    later = params.model_copy(
        update={"shards": str(tmp_path / "data" / "00001.tar"), "scorer": ["injection"], "model": {}}
    )
    record_run(later, 1)
    runs = runs_to_repeat(RetryParams(output=params.output))
    assert [(run.scorer, run.shards, run.model) for run in runs] == [
        (["injection"], [later.shards], {}),
        ([NAME], [params.shards], params.model),
    ]
    assert [run.scorer for run in runs_to_repeat(RetryParams(output=params.output, scorer=["toy"]))] == [[NAME]]


def test_a_mistake_is_told(params: ScoreParams, tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="'unifilter' has no tables in"):
        runs_to_repeat(RetryParams(output=params.output, scorer=["unifilter"]))
    with pytest.raises(VlfilterError, match="no run has written"):
        runs_to_repeat(RetryParams(output=str(tmp_path / "nothing")))
    with pytest.raises(VlfilterError, match=r"retry: status\.0: Input should be 'corrupt_image'"):
        parse_form(RetryParams, {"output": params.output, "status": ["ok"]}, "retry")
