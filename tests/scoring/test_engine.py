from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.helpers import make_tar, pair, pairs
from tests.toy import NAME, ToyScorer
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.shards import Shard, list_shards
from vlfilter.data.tables import read_footer
from vlfilter.errors import ShardError, VlfilterError
from vlfilter.scoring.base import Scorer, ScorerSettings, make_scorer, scorer_class
from vlfilter.scoring.engine import EngineSettings, StoppedError, TableBuilder, score_shard
from vlfilter.scoring.progress import ProgressBoard
from vlfilter.scoring.runner import BatchRunner


@pytest.fixture
def runner(tmp_path: Path) -> BatchRunner:
    (tmp_path / "toy.txt").write_text("1.0")
    scorer = make_scorer(NAME, ScorerSettings(str(tmp_path / "toy.txt")))
    scorer.load()
    return BatchRunner(scorer, 500)


def shard_of(path: Path) -> Shard:
    return list_shards(str(path))[0]


def test_one_row_a_sample_in_tar_order(tmp_path: Path, runner: BatchRunner) -> None:
    samples = pairs(100)
    samples[3] = ("broken", pair("broken", image=b"no image"))
    samples[50] = ("mute", {"jpg": samples[50][1]["jpg"]})
    samples[70] = ("poison", pair("poison", caption="poison"))
    samples[80] = ("unprepared", pair("unprepared", caption="unprepared"))
    shard = shard_of(make_tar(tmp_path / "a.tar", samples))
    board = ProgressBoard()
    [result] = score_shard(shard, [runner], str(tmp_path / "out"), EngineSettings(), board)

    table = pq.read_table(result.url)
    assert table["key"].to_pylist() == [key for key, _ in samples]
    status = dict(zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True))
    bad = {"broken": "corrupt_image", "mute": "missing_text", "poison": "failed", "unprepared": "failed"}
    assert {key: s for key, s in status.items() if s != "ok"} == bad
    for row in table.to_pylist():
        assert (row["status"] == "ok") == (row["toy_score"] is not None) == (row["reason"] is None)
    assert dict(result.footer.counts) == {"ok": 96, "corrupt_image": 1, "missing_text": 1, "failed": 2}
    assert read_footer(result.url) == result.footer
    assert board.read().samples == 100


def test_each_image_is_decoded_once_for_all_scorers(
    tmp_path: Path, runner: BatchRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlfilter.data import decode

    decoded = 0
    real = decode.decode_image

    def counted(data: bytes, max_pixels: int) -> object:
        nonlocal decoded
        decoded += 1
        return real(data, max_pixels)

    monkeypatch.setattr(decode, "decode_image", counted)

    class Second(ToyScorer):
        name = "second"

    (tmp_path / "two.txt").write_text("2.0")
    second = Second(ScorerSettings(str(tmp_path / "two.txt")))
    second.load()
    shard = shard_of(make_tar(tmp_path / "a.tar", pairs(20)))
    results = score_shard(shard, [runner, BatchRunner(second, 500)], str(tmp_path), EngineSettings())
    assert [r.scorer for r in results] == ["toy", "second"]
    assert decoded == 20
    assert pq.read_table(results[1].url)["toy_score"].null_count == 0


def test_scores_do_not_depend_on_batches_or_workers(tmp_path: Path, runner: BatchRunner) -> None:
    shard = shard_of(make_tar(tmp_path / "a.tar", pairs(50)))
    tables = []
    for tokens, workers in ((1, 1), (60, 2), (10**6, 4)):
        runner.batch_tokens = tokens
        [result] = score_shard(shard, [runner], str(tmp_path / f"{tokens}"), EngineSettings(workers=workers))
        tables.append(pq.read_table(result.url).replace_schema_metadata(None))
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_a_scorer_that_fails_on_everything_writes_no_table(tmp_path: Path, runner: BatchRunner) -> None:
    samples = [(f"{i}", pair(f"{i}", caption=f"poison {i}")) for i in range(9)]
    shard = shard_of(make_tar(tmp_path / "a.tar", samples))
    with pytest.raises(ShardError, match="scored no sample at all"):
        score_shard(shard, [runner], str(tmp_path / "out"), EngineSettings())
    assert not (tmp_path / "out").exists()


def test_an_empty_tar_makes_an_empty_table(tmp_path: Path, runner: BatchRunner) -> None:
    shard = shard_of(make_tar(tmp_path / "a.tar", []))
    [result] = score_shard(shard, [runner], str(tmp_path / "out"), EngineSettings())
    assert pq.read_table(result.url).num_rows == 0
    assert result.footer.warnings


def test_a_sample_without_a_row_is_never_passed_over() -> None:
    builder = TableBuilder(ToyScorer.columns)
    shard = Shard("a", "/a.tar", 1, "1")
    for key in ("one", "two", "three"):
        builder.expect(key, "0" * 32)
    builder.take({0: SampleError(Status.FAILED, "x"), 2: SampleError(Status.FAILED, "x")})
    with pytest.raises(ShardError, match="no row came out for 2 samples, the first 'two'"):
        builder.table(shard)


def test_rows_are_packed_while_the_tar_is_read() -> None:
    builder = TableBuilder(ToyScorer.columns)
    for position in range(3 * builder.STRETCH):
        builder.expect(str(position), "0" * 32)
        builder.take({position: {"toy_score": float(position), "caption_length": 1}})
        assert len(builder._rows) < builder.STRETCH
    table = builder.table(Shard("a", "/a.tar", 1, "1"))
    assert table["toy_score"].to_pylist() == [float(i) for i in range(3 * builder.STRETCH)]


def test_scorers_are_found_by_name_and_by_path() -> None:
    assert scorer_class(NAME) is ToyScorer
    assert isinstance(ToyScorer.__new__(ToyScorer), Scorer)
    assert scorer_class("clip_score").__name__ == "ClipScore"


def test_a_table_names_the_weights_that_made_it(tmp_path: Path, runner: BatchRunner) -> None:
    (tmp_path / "toy.txt").write_text("777.0")  # after the model was loaded
    shard = shard_of(make_tar(tmp_path / "a.tar", pairs(3)))
    [result] = score_shard(shard, [runner], str(tmp_path / "out"), EngineSettings())
    assert result.footer.parts["weights"] == "1.0"


def test_a_small_shard_of_poison_is_done_once_the_scorer_has_proved_itself(tmp_path: Path, runner: BatchRunner) -> None:
    score_shard(shard_of(make_tar(tmp_path / "good.tar", pairs(3))), [runner], str(tmp_path / "out"), EngineSettings())
    bad = [(f"{i}", pair(f"{i}", caption=f"poison {i}")) for i in range(20)]
    [result] = score_shard(
        shard_of(make_tar(tmp_path / "bad.tar", bad)), [runner], str(tmp_path / "out"), EngineSettings()
    )
    assert dict(result.footer.counts) == {"failed": 20}


def test_a_run_that_is_stopped_leaves_the_shard_and_the_board_as_they_were(tmp_path: Path, runner: BatchRunner) -> None:
    shard = shard_of(make_tar(tmp_path / "a.tar", pairs(50)))
    board = ProgressBoard()
    board.start(1, shard.size)
    board.stop()
    with pytest.raises(StoppedError):
        score_shard(shard, [runner], str(tmp_path / "out"), EngineSettings(), board)
    assert not (tmp_path / "out").exists()
    assert (board.read().samples, board.read().bytes_done) == (0, 0)


@pytest.mark.parametrize("name", [":x", "os:path", "os:getcwd", "tests.toy:log", "tests.toy:nothing"])
def test_what_is_no_scorer_is_said(name: str) -> None:
    with pytest.raises(VlfilterError, match="scorer"):
        scorer_class(name)
