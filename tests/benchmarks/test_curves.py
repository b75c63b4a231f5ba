"""The parts of the benchmarks of start-up and curves, and the picture that is made of those."""

from __future__ import annotations

import pytest

from benchmarks import plots, startup

WALL = {"wall_s": 1.5, "peak_mb": 200.0}
TOLD = {
    "shards": {way: {str(count): WALL for count in (10, 100)} for way in ("engine", "command line")},
    "workers": {"1": 100.0, "2": 180.0},
    "select": {"10000": WALL, "100000": WALL},
}


def test_flows_are_found_by_what_they_hold() -> None:
    found = startup.flows()
    assert {"flows.score_shards", "flows.minigpt_v2", "flows.data_engine"} <= set(found)
    assert not {"flows.gpu", "flows.__init__"} & set(found)


def test_torch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "RUNS", 1)
    assert startup.imported("vlfilter.models.device")["torch"]
    told = startup.imported("vlfilter.scoring.clip_score")
    assert not told["torch"]
    assert 0 < told["seconds"] < 60


def test_the_picture_shows_every_curve_and_is_the_same_each_time() -> None:
    picture = plots.scaling(TOLD)
    assert picture == plots.scaling(TOLD)
    other = {"10000": WALL, "100000": {"wall_s": 9.0, "peak_mb": 900.0}}
    changed = {"shards": {"engine": {"10": WALL, "100": WALL}}, "workers": {"1": 100.0, "2": 300.0}, "select": other}
    assert all(picture != plots.scaling(TOLD | {name: curve}) for name, curve in changed.items())
    assert picture.startswith(b"<?xml")
