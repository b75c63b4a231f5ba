"""Picks and the chosen LLaVA list on disk, from the command line, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from vlfilter.cli.app import app
from vlfilter.data.features import Features
from vlfilter.data.storage import read_bytes, write_bytes
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.budget import resolve_budget
from vlfilter.methods.self_filter.selecting import SelectSettings, select_samples
from vlfilter.selection.diverse import Difficulty, select_diverse

SIZE = 60


@pytest.fixture
def files(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "features.npz", features=random.standard_normal((SIZE, 6)).astype(np.float32))
    values = np.round(random.standard_normal(SIZE), 1)
    write_difficulty(tmp_path, dict(enumerate(values.tolist())))
    entries = [
        {"id": f"x{i}", "unique_idx": i, "conversations": [{"from": "human", "value": f"ä {i}"}]} for i in range(SIZE)
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(entries))
    return tmp_path


def write_difficulty(folder: Path, values: dict[int, float]) -> None:
    (folder / "difficulty.json").write_text(json.dumps({str(i): value for i, value in values.items()}))


def command(folder: Path, *more: str) -> list[str]:
    return [
        *(
            "self-filter",
            "select",
            "--features",
            str(folder / "features.npz"),
            "--output",
            str(folder / "picks.parquet"),
        ),
        *("--difficulty", str(folder / "difficulty.json"), "--similarity", "canonical", *more),
    ]


def run(folder: Path, *more: str) -> Result:
    return CliRunner().invoke(app, command(folder, *more), catch_exceptions=False)


def expected(folder: Path, budget: int, **more: Any) -> list[int]:
    values = json.loads((folder / "difficulty.json").read_text())
    difficulty = Difficulty.of({int(i): value for i, value in values.items()})
    features = Features.of(np.load(folder / "features.npz")["features"])
    return select_diverse(features, difficulty, budget, similarity="canonical", **more).ids.tolist()


def test_picks_and_the_list_in_their_order(files: Path) -> None:
    places = ["--annotations", str(files / "annotations.json"), "--selected", str(files / "selected.json")]
    result = run(files, "--budget", "20", *places)
    picks = pq.read_table(files / "picks.parquet")
    assert picks.column_names == ["rank", "id", "difficulty", "penalty"]
    rows = picks.to_pydict()
    assert rows["rank"] == list(range(20))
    assert rows["id"] == expected(files, 20)
    before = json.loads((files / "difficulty.json").read_text())
    assert rows["difficulty"] == [before[str(i)] for i in rows["id"]]
    assert rows["penalty"][0] == 0
    assert any(rows["penalty"])
    selected = json.loads((files / "selected.json").read_text())
    assert [entry["id"] for entry in selected] == [f"x{i}" for i in rows["id"]]
    assert all(entry.keys() == {"id", "conversations"} for entry in selected)
    assert "\\u00e4" in (files / "selected.json").read_text()
    assert "picked 20 of 60 candidates" in result.output
    assert "difficulty: min " in result.output
    assert not (files / "picks.parquet.state.npz").exists()


def test_the_same_again_is_kept_and_another_setting_is_not(files: Path) -> None:
    places = ["--annotations", str(files / "annotations.json"), "--selected", str(files / "selected.json")]
    run(files, "--budget", "20", *places)
    times = [(files / name).stat().st_mtime_ns for name in ("picks.parquet", "selected.json")]
    again = run(files, "--budget", "20", *places)
    assert "there already" in again.output
    assert "negative difficulty" in again.output
    assert times == [(files / name).stat().st_mtime_ns for name in ("picks.parquet", "selected.json")]
    run(files, "--budget", "20", "--gamma", "0", *places)
    ids = pq.read_table(files / "picks.parquet")["id"].to_pylist()
    assert ids == expected(files, 20, gamma=0.0)
    assert [entry["id"] for entry in json.loads((files / "selected.json").read_text())] == [f"x{i}" for i in ids]
    values = json.loads((files / "difficulty.json").read_text())
    write_difficulty(files, {int(i): -value for i, value in values.items()})
    assert "there already" not in run(files, "--budget", "20", "--gamma", "0").output


def test_negative_picks_are_counted_and_warned_of(files: Path) -> None:
    write_difficulty(files, {i: -1.0 - i / 100 for i in range(SIZE)})
    result = run(files, "--budget", "10")
    assert "10 picks had a negative difficulty" in result.output
    assert "min -1.59, median -1.295" in result.output
    assert "warning: 10 of 10 picks had a negative difficulty" in result.output
    free = run(files, "--budget", "10", "--penalty", "offset_free")
    assert "10 picks had a negative difficulty" in free.output
    assert "warning" not in free.output
    assert pq.read_table(files / "picks.parquet")["id"].to_pylist() == expected(files, 10, penalty="offset_free")


def test_rows_that_cannot_be_picked_are_listed_with_reasons(files: Path) -> None:
    features = np.load(files / "features.npz")["features"]
    features[4] = np.inf
    np.savez(files / "features.npz", features=features)
    values = {i: float(i) for i in range(SIZE) if i not in (7, 8)} | {99: 5.0}
    write_difficulty(files, values)
    result = run(files, "--budget", "100%")
    assert "picked 57 of 57" in result.output
    assert "left out: 2 × no difficulty" in result.output
    assert pq.read_table(files / "picks.parquet.left_out.parquet").to_pydict() == {
        "id": [4, 7, 8, 99],
        "status": ["failed"] * 4,
        "reason": [
            "no features: a feature is NaN or infinite",
            "no difficulty",
            "no difficulty",
            "no features: no such row",
        ],
    }
    with pytest.raises(VlfilterError, match="budget 58: the pool has 57 samples"):
        run(files, "--budget", "58")


def test_the_hardest_can_be_left_out(files: Path) -> None:
    """A tenth of sixty: six, of equal ones the first; they are listed, and the picks are those of the rest."""
    assert run(files, "--budget", "10", "--skip-hardest", "0.1").exit_code == 0
    values = {int(i): v for i, v in json.loads((files / "difficulty.json").read_text()).items()}
    hardest = sorted(values, key=lambda i: -values[i])[:6]
    left = pq.read_table(files / "picks.parquet.left_out.parquet").to_pylist()
    assert [row["id"] for row in left] == sorted(hardest)
    assert {row["reason"] for row in left} == {"among the hardest 0.1 of the pool"}
    write_difficulty(files, {i: value for i, value in values.items() if i not in hardest})
    assert pq.read_table(files / "picks.parquet")["id"].to_pylist() == expected(files, 10)
    with pytest.raises(VlfilterError, match="from 0 to below 1"):
        run(files, "--budget", "10", "--skip-hardest", "1")


@pytest.mark.parametrize(
    ("values", "message"),
    [({100 + i: 1.0 for i in range(SIZE)}, "belong together; id 0: no difficulty"), ({}, "id 0: no difficulty")],
)
def test_files_that_share_no_id_are_told(files: Path, values: dict[int, float], message: str) -> None:
    write_difficulty(files, values)
    with pytest.raises(VlfilterError, match=f"no id has both .*60 with features.*{message}"):
        run(files, "--budget", "5")
    assert not (files / "picks.parquet").exists()


def test_strict_stops_where_the_published_procedure_does(files: Path) -> None:
    with pytest.raises(VlfilterError, match=r"pick \d+ \(from 0\)"):
        run(files, "--budget", "60", "--strict")
    assert not (files / "picks.parquet").exists()


def test_annotations_that_do_not_fit_are_told(files: Path) -> None:
    entries = json.loads((files / "annotations.json").read_text())
    places = ["--annotations", str(files / "annotations.json"), "--selected", str(files / "selected.json")]
    (files / "annotations.json").write_text(json.dumps(entries[:3]))
    with pytest.raises(VlfilterError, match="has no entry for"):
        run(files, "--budget", "30", *places)
    (files / "annotations.json").write_text(json.dumps([*entries, *entries]))
    with pytest.raises(VlfilterError, match="more than one entry with the unique_idx"):
        run(files, "--budget", "30", *places)
    assert not (files / "selected.json").exists()
    with pytest.raises(VlfilterError, match="go together"):
        run(files, "--budget", "30", *places[:2])


@pytest.mark.parametrize(
    ("budget", "count"),
    [
        ("12", 12),
        (12, 12),
        (0.25, 50),
        ("0.25", 50),
        ("29%", 58),
        ("1", 1),
        ("1.0", 200),
        (1.0, 200),
        (25.0, 25),
        ("100%", 200),
        ("7.5%", 15),
    ],
)
def test_budgets(budget: Any, count: int) -> None:
    assert resolve_budget(budget, 200) == count


@pytest.mark.parametrize("budget", ["many", "120%", "0%", "-0.5", 1.5, "nan", "inf"])
def test_budgets_that_mean_nothing(budget: Any) -> None:
    with pytest.raises(VlfilterError, match="budget"):
        resolve_budget(budget, 200)


@pytest.mark.parametrize("budget", ["0", "-3", "0.001"])
def test_budgets_of_none(files: Path, budget: str) -> None:
    with pytest.raises(VlfilterError, match="budget"):
        run(files, "--budget", budget)


def test_a_killed_selection_goes_on(tmp_path: Path) -> None:
    size, budget = 8_000, 5_000
    random = np.random.default_rng(1)
    np.savez(tmp_path / "features.npz", features=random.standard_normal((size, 8)).astype(np.float32))
    write_difficulty(tmp_path, dict(enumerate(random.standard_normal(size).tolist())))
    arguments = command(tmp_path, "--budget", str(budget))
    state = tmp_path / "picks.parquet.state.npz"
    code = "import sys; from vlfilter.cli.app import app; app()"
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL)
    while not state.exists():
        assert process.poll() is None, "it ended before it could be killed"
        os.sched_yield()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "picks.parquet").exists()
    kept = dict(np.load(state))
    saved = len(kept["order"])
    assert 0 < saved < budget
    kept["order"][:2] = kept["order"][1::-1]  # a mark by which to see that these picks are not made again
    np.savez(state, **kept)

    result = run(tmp_path, "--budget", str(budget))
    assert f"{saved:,} of them by the run that was stopped" in result.output
    ids = pq.read_table(tmp_path / "picks.parquet")["id"].to_pylist()
    assert [*ids[1::-1], *ids[2:]] == expected(tmp_path, budget)
    assert not state.exists()


def test_features_difficulties_and_outputs_in_an_object_store(files: Path, s3: str) -> None:
    for name in ("features.npz", "difficulty.json", "annotations.json"):
        write_bytes(f"{s3}/{name}", (files / name).read_bytes())
    settings = SelectSettings(20, similarity="canonical")
    places = (f"{s3}/features.npz", f"{s3}/difficulty.json", f"{s3}/out/picks.parquet")
    lists = (f"{s3}/annotations.json", f"{s3}/out/selected.json")
    assert select_samples(*places, settings, *lists).picks == 20
    assert [entry["id"] for entry in json.loads(read_bytes(lists[1]))] == [f"x{i}" for i in expected(files, 20)]
    assert select_samples(*places, settings, *lists).kept
