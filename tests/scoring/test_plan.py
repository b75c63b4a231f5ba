from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import make_tar, pairs
from tests.toy import NAME, ToyScorer
from vlfilter.data.shards import Shard, list_shards
from vlfilter.data.states import State
from vlfilter.errors import VlfilterError
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.failures import clear_failure, note_failure, read_failures
from vlfilter.scoring.loaded import load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import plan_run, record_run
from vlfilter.scoring.status import read_status
from vlfilter.selection.select import select


@pytest.fixture
def params(toy_run: Callable[[int, int], ScoreParams]) -> ScoreParams:
    return toy_run(4, 3)


def shard_called(params: ScoreParams, name: str) -> Shard:
    return next(shard for shard in list_shards(params.shards) if shard.name == name)


def score_all(params: ScoreParams) -> list[str]:
    done = []
    for work in plan_run(params).work:
        score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings())
        done.append(work.shard.name)
    return done


def test_only_what_changed_is_done_again(params: ScoreParams, tmp_path: Path) -> None:
    assert score_all(params) == ["00000", "00001", "00002", "00003"]
    assert score_all(params) == []

    make_tar(tmp_path / "data" / "00002.tar", pairs(5))
    [work] = plan_run(params).work
    assert work.shard.name == "00002"
    assert score_all(params) == ["00002"]

    (tmp_path / "toy.txt").write_text("2.0")
    plan = plan_run(params)
    assert {state.why for state in plan.states} == {"the scorer has changed: weights"}
    assert len(score_all(params)) == 4
    assert score_all(params) == []


def test_a_damaged_table_is_noticed_and_made_again(params: ScoreParams, tmp_path: Path) -> None:
    score_all(params)
    table = tmp_path / "out" / "toy" / "00001.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2])
    [state] = [s for s in plan_run(params).states if s.state is not State.DONE]
    assert state.state is State.DAMAGED
    assert "00001.parquet is no complete score table" in state.why
    assert score_all(params) == ["00001"]
    assert table.read_bytes()[-4:] == b"PAR1"


def test_a_shard_that_comes_later_is_picked_up(params: ScoreParams, tmp_path: Path) -> None:
    score_all(params)
    make_tar(tmp_path / "data" / "new" / "00000.tar", pairs(2))
    assert score_all(params) == ["new/00000"]
    assert (tmp_path / "out" / "toy" / "new" / "00000.parquet").exists()


def test_status_tells_done_stale_failed_and_missing(params: ScoreParams, tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="no run has written"):
        read_status(params.output)
    record_run(params, 4)
    for work in plan_run(params).work[:2]:
        score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings())
    make_tar(tmp_path / "data" / "00001.tar", pairs(7))
    note_failure(params.output, "toy", shard_called(params, "00002"), "the disk was on fire")
    [status] = read_status(params.output)
    assert status.counts == {"done": 1, "stale": 1, "damaged": 0, "failed": 1, "missing": 1}
    assert status.open() == [
        ("00001", "stale", "the tar has changed"),
        ("00002", "failed", "the disk was on fire"),
        ("00003", "missing", ""),
    ]
    assert status.rows() == {"ok": 3}

    (tmp_path / "toy.txt").unlink()
    [status] = read_status(params.output)
    assert "is not a file" in status.note
    assert status.counts["done"] == 1


def test_the_same_on_s3(s3: str, params: ScoreParams, tmp_path: Path) -> None:
    from vlfilter.data.storage import filesystem

    fs, bucket = filesystem(s3)
    fs.put(str(tmp_path / "data") + "/", f"{bucket}/data/", recursive=True)
    params = params.model_copy(update={"shards": f"{s3}/data/", "output": f"{s3}/scores"})
    assert score_all(params) == ["00000", "00001", "00002", "00003"]
    assert score_all(params) == []
    shard = shard_called(params, "00002")
    note_failure(params.output, "toy", shard, "no luck")
    assert {name: f.reason for name, f in read_failures(params.output, "toy").items()} == {"00002": "no luck"}
    clear_failure(params.output, "toy", shard)
    assert read_failures(params.output, "toy") == {}
    record_run(params, 4)
    assert read_status(params.output)[0].counts["done"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scorer": ["unifilterr"], "model": {}}, "no scorer is called 'unifilterr'"),
        (
            {"scorer": ["unifilterr"], "model": {"unifilterr": "x"}},
            "no scorer is called 'unifilterr'. Known: clip_score, ",
        ),
        ({"model": {}}, "needs a model: give --model"),
        ({"model": {NAME: "/nowhere"}}, "the toy model /nowhere is not a file"),
        ({"scorer": [NAME, NAME]}, "is given twice"),
        ({"options": {"clip_score": {}}}, "--option names 'clip_score', which is not among the scorers"),
        ({"scorer": ["no.module:Thing"], "model": {"no.module:Thing": "x"}}, "cannot be imported"),
    ],
)
def test_wrong_scorers_are_said_before_anything_is_read(
    params: ScoreParams, change: dict[str, object], message: str
) -> None:
    params = params.model_copy(update={"shards": "/nowhere/at/all", **change})
    with pytest.raises(VlfilterError, match=message):
        plan_run(params)


def test_what_cannot_be_loaded_is_tried_once(params: ScoreParams, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(params.model[NAME]).write_text("0.125")  # weights that no other test has loaded
    tries = []

    def load(self: ToyScorer) -> None:
        tries.append(1)
        raise VlfilterError("the weights are cut")

    monkeypatch.setattr(ToyScorer, "load", load)
    for _ in range(3):
        with pytest.raises(VlfilterError, match="the weights are cut"):
            load_runners(params, ["toy"])
    assert len(tries) == 1


def test_a_note_about_an_older_tar_says_nothing_of_a_newer_one(params: ScoreParams, tmp_path: Path) -> None:
    record_run(params, 4)
    note_failure(params.output, "toy", shard_called(params, "00002"), "it was broken")
    make_tar(tmp_path / "data" / "00002.tar", pairs(9))
    [status] = read_status(params.output)
    assert status.counts["failed"] == 0
    assert ("00002", "missing", "") in status.open()


def test_dtype_is_told_from_the_parameters_alone(params: ScoreParams) -> None:
    assert params.settings(NAME).dtype == "float32"
    assert params.model_copy(update={"device": "cuda:1"}).settings(NAME).dtype == "bfloat16"
    assert params.model_copy(update={"device": "cuda", "dtype": "float16"}).settings(NAME).dtype == "float16"


def test_select_refuses_tables_of_different_weights_and_missing_shards(params: ScoreParams, tmp_path: Path) -> None:
    record_run(params, 4)
    score_all(params)
    chosen = str(tmp_path / "kept.npy")
    assert select(params.output, chosen, top="50%", by="toy_score").kept == 6

    (tmp_path / "toy.txt").write_text("9.0")
    work = plan_run(params).work[0]
    score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings())
    with pytest.raises(VlfilterError, match="come from different models or settings"):
        select(params.output, chosen, top="50%", by="toy_score")

    score_all(params)
    (tmp_path / "out" / "toy" / "00003.parquet").unlink()
    with pytest.raises(VlfilterError, match="1 shards have no toy table yet"):
        select(params.output, chosen, top="50%", by="toy_score")
    assert select(params.output, chosen, top="50%", by="toy_score", allow_incomplete=True).kept == 4


def test_status_tells_of_tables_of_other_runs(params: ScoreParams, tmp_path: Path) -> None:
    score_all(params)
    one = params.model_copy(update={"shards": str(tmp_path / "data" / "00001.tar")})
    record_run(one, 1)
    [status] = read_status(params.output)
    assert status.counts["done"] == 1
    assert status.note == "3 more tables are of other shards than the last run's"
