"""Two processes that score the same shard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.toy import ToyScorer
from vlfilter.scoring import loaded
from vlfilter.scoring.base import Prepared
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.loaded import load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import plan_run


def test_whoever_comes_second_leaves_the_finished_table(
    toy_run: Callable[[int, int], ScoreParams], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = toy_run(1, 3)
    [work] = plan_run(params).work
    table = tmp_path / "out" / "toy" / "00000.parquet"
    score = ToyScorer.score
    written: list[bytes] = []

    def overtaken(self: ToyScorer, batch: list[Prepared]) -> object:
        if not written:  # another run scores and writes the shard while this one is at it
            written.append(b"")
            loaded._kept.clear()  # a process of its own has a model of its own
            score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings())
            written.append(table.read_bytes())
        return score(self, batch)

    monkeypatch.setattr(ToyScorer, "score", overtaken)
    [result] = score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings())
    assert table.read_bytes() == written[1]
    assert result.footer.counts == {"ok": 3}
    score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings())
    assert table.read_bytes() != written[1]  # asked for though it was there, as for tables to be made again
