"""Only complete checkpoints count, and a resumed run's loss curve has every step once."""

from __future__ import annotations

import json
from pathlib import Path

from vlfilter.training.run_folder import (
    cut_metrics,
    drop_incomplete,
    keep_newest,
    last_complete,
    mark_complete,
    read_metrics,
)


def make(folder: Path, step: int, *, complete: bool) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights").write_text("x")
    if complete:
        mark_complete(checkpoint, step)
    return checkpoint


def test_the_newest_complete_checkpoint_counts(tmp_path: Path) -> None:
    assert last_complete(tmp_path / "none") is None
    make(tmp_path, 9, complete=True)
    newest = make(tmp_path, 10, complete=True)
    torn = make(tmp_path, 11, complete=False)
    (tmp_path / "checkpoint-other").mkdir()
    assert last_complete(tmp_path) == (10, newest)
    drop_incomplete(tmp_path)
    assert not torn.exists()
    assert last_complete(tmp_path) == (10, newest)


def test_old_checkpoints_go_torn_ones_are_not_counted(tmp_path: Path) -> None:
    for step in (2, 4, 6, 10):
        make(tmp_path, step, complete=True)
    make(tmp_path, 12, complete=False)
    keep_newest(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-12", "checkpoint-6"]


def test_a_loss_curve_is_cut_where_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    cut_metrics(path, 0)
    assert read_metrics(path) == []
    rows = [{"step": step, "loss": 1 / step} for step in range(1, 6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 6, "lo')
    assert read_metrics(path) == rows
    cut_metrics(path, 3)
    assert read_metrics(path) == rows[:3]
