"""Retrying from what the score tables say: torn, missing and stale tables, and rows of a kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.helpers import make_tar, pair, pairs
from tests.toy import NAME
from vlfilter.cli.app import app
from vlfilter.data.states import State
from vlfilter.errors import VlfilterError
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import plan_run
from vlfilter.scoring.retry import RetryParams


@pytest.fixture
def scored(toy_run: Callable[[int, int], ScoreParams], tmp_path: Path) -> ScoreParams:
    """Six shards; 00005 has a sample that cannot be prepared."""
    from flows.score_shards import score_shards

    params = toy_run(6, 3)
    make_tar(tmp_path / "data" / "00005.tar", [("u", pair("u", caption="unprepared")), *pairs(2, 50)])
    assert score_shards(params, return_state=True).is_completed()
    return params


def tables(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.stem: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("out/toy/*.parquet")}


@pytest.mark.usefixtures("prefect_api")
def test_only_torn_missing_and_stale_tables_are_made_again(scored: ScoreParams, tmp_path: Path) -> None:
    from flows.retry_failed_shards import retry_failed_shards

    before = tables(tmp_path)
    place = tmp_path / "out" / "toy"
    (place / "00000.parquet").write_bytes(before["00000"][1][: len(before["00000"][1]) // 2])  # cut
    (place / "00001.parquet").write_bytes(b"")
    garbled = bytearray(before["00002"][1])
    garbled[-60:-20] = bytes(40)  # in the footer
    (place / "00002.parquet").write_bytes(bytes(garbled))
    (place / "00003.parquet").unlink()

    state = retry_failed_shards(RetryParams(output=scored.output), return_state=True)
    assert state.is_completed()
    assert state.message == "6 shards scored. toy: 18 samples, 17 with a score"
    after = tables(tmp_path)
    assert {name for name in after if after[name] == before[name]} == {"00004", "00005"}
    assert all(state.state is State.DONE for state in plan_run(scored).states)


@pytest.mark.usefixtures("prefect_api")
def test_the_command_makes_tables_with_such_rows_again(scored: ScoreParams, tmp_path: Path) -> None:
    before = tables(tmp_path)
    done = CliRunner().invoke(app, ["retry", "--output", scored.output])
    assert done.exit_code == 0
    assert "lacks nothing" in done.stdout
    assert tables(tmp_path) == before

    done = CliRunner().invoke(app, ["retry", "--output", scored.output, "--status", "failed", "--scorer", "toy"])
    assert done.exit_code == 0, done.stdout
    after = tables(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"00005"}

    (tmp_path / "out" / "toy" / "00001.parquet").unlink()
    (tmp_path / "data" / "00001.tar").write_bytes(b"no tar" * 300)
    done = CliRunner().invoke(app, ["retry", "--output", scored.output])
    assert done.exit_code == 1
    assert "1 of 6 shards have no score table: 00001" in done.stdout
    assert NAME not in done.stdout


def test_a_wrong_status_is_told(toy_run: Callable[[int, int], ScoreParams]) -> None:
    done = CliRunner().invoke(app, ["retry", "--output", toy_run(1, 1).output, "--status", "bad"])
    assert isinstance(done.exception, VlfilterError)
    assert str(done.exception).startswith("retry: status.0: Input should be 'corrupt_image', 'missing_image'")
