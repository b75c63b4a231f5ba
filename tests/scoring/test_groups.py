"""A plan on disk, of which each group reads its own part; and what many tables are known by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vlfilter.data import states
from vlfilter.data.footers import FILE
from vlfilter.data.shards import Shard
from vlfilter.data.states import State
from vlfilter.errors import VlfilterError
from vlfilter.scoring.engine import EngineSettings, score_shard
from vlfilter.scoring.groups import IN_MEMORY, cut_groups, drop_groups, read_group, write_groups
from vlfilter.scoring.loaded import load_runners
from vlfilter.scoring.params import ScoreParams
from vlfilter.scoring.plan import plan_run

SHARDS = [Shard(f"{i:03d}", f"s3://bucket/{{a}}/{i:03d}.tar", i, f"etag-{i}") for i in range(7)]


@pytest.mark.parametrize("home", [IN_MEMORY, "folder"])
def test_groups_are_read_as_they_were_cut(home: str, tmp_path: Path) -> None:
    home = str(tmp_path) if home == "folder" else home
    url = write_groups(SHARDS, 3, home)
    assert [read_group(url, number) for number in range(3)] == cut_groups(SHARDS, 3)
    assert [len(group) for group in cut_groups(SHARDS, 3)] == [3, 3, 1]
    assert write_groups(SHARDS, 3, home) == url
    assert write_groups(SHARDS, 2, home) != url
    drop_groups(url)
    with pytest.raises(VlfilterError, match="is gone"):
        read_group(url, 0)


def test_groups_on_s3(s3: str) -> None:
    url = write_groups(SHARDS, 3, s3)
    assert read_group(url, 2) == SHARDS[6:]


@pytest.fixture
def many(toy_run: Callable[[int, int], ScoreParams], monkeypatch: pytest.MonkeyPatch) -> ScoreParams:
    """Five scored shards, where more than two tables are many."""
    monkeypatch.setattr(states, "FEW", 2)
    params = toy_run(5, 2)
    for work in plan_run(params).work:
        score_shard(work.shard, load_runners(params, work.scorers), params.output, EngineSettings())
    assert plan_run(params).work == []  # opens the tables and keeps their footers
    return params


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables that are opened."""
    found: list[str] = []
    read = states.read_footer
    monkeypatch.setattr(states, "read_footer", lambda url: (found.append(url.rpartition("/")[2]), read(url))[1])
    return found


def test_known_tables_are_not_opened_but_changed_ones_are(many: ScoreParams, opened: list[str], tmp_path: Path) -> None:
    plan = plan_run(many)
    assert opened == []
    assert {state.state for state in plan.states} == {State.DONE}
    assert [state.footer.counts for state in plan.states if state.footer] == [{"ok": 2}] * 5

    tables = tmp_path / "out" / "toy"
    (tables / "00001.parquet").write_bytes((tables / "00001.parquet").read_bytes()[:-9])
    (tables / "00002.parquet").write_bytes((tables / "00003.parquet").read_bytes())
    (tables / "00004.parquet").unlink()
    assert [state.state for state in plan_run(many).states] == ["done", "damaged", "stale", "done", "missing"]
    assert sorted(opened) == ["00001.parquet", "00002.parquet"]


def test_the_kept_footers_prove_nothing_by_themselves(many: ScoreParams, opened: list[str], tmp_path: Path) -> None:
    kept = tmp_path / "out" / "toy" / FILE
    kept.write_bytes(kept.read_bytes()[:100])
    assert plan_run(many).work == []
    assert len(opened) == 5
    Path(next(iter(many.model.values()))).write_text("3.0")
    assert {state.why for state in plan_run(many).states} == {"the scorer has changed: weights"}
