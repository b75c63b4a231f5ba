"""The whole demo at a small size, scored by the real engine (the flow around it has its own tests)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skimage")

from tests.demo.scoring import score
from vlfilter.demo.evaluate import DemoResult, read_pool, subsets
from vlfilter.demo.layout import METRICS, Layout
from vlfilter.demo.run import DemoSizes, Steps, main, prepare
from vlfilter.demo.spoil import Kind
from vlfilter.demo.tables import markdown, verdicts
from vlfilter.errors import VlfilterError

SIZES = DemoSizes(
    pool=240, test=60, shards=3, clean=200, clip_steps=6, unifilter_steps=4, graded=64, graded_epochs=1,
    classifier_runs=2, classifier_steps=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, DemoResult]:
    layout = Layout(tmp_path_factory.mktemp("demo") / "out")
    used: list[Layout] = []
    result = main(str(layout.output), Steps(score, used.append), seed=0, sizes=SIZES, say=lambda _: None)
    assert used == [layout]
    return layout, result


def test_half_of_the_scored_samples_is_kept(demo: tuple[Layout, DemoResult]) -> None:
    scored = SIZES.pool - 2
    sizes = {a.trained_on: a.samples for a in demo[1].accuracies}
    assert sizes["everything"] == scored
    assert sizes["random"] == sizes["clip_score"] == sizes["unifilter"] == sizes["mlm_filter"] == scored // 2
    assert sizes["clean part"] == demo[1].counts[str(Kind.CLEAN)]
    assert {round(d.keep_rate, 3) for d in demo[1].detections} == {0.5}


def test_the_unreadable_samples_are_told_with_reasons(demo: tuple[Layout, DemoResult]) -> None:
    assert sorted(row.status for row in demo[1].unreadable) == ["corrupt_image", "missing_text"]
    assert all(row.reason for row in demo[1].unreadable)


def test_numbers_come_from_the_tables_and_subsets(demo: tuple[Layout, DemoResult]) -> None:
    """Recall recomputed by hand from the files."""
    layout, result = demo
    truth = {row["uid"]: row["kind"] for row in pq.read_table(layout.truth).to_pylist()}
    for detection in result.detections[1:]:
        kept = set(pq.read_table(layout.subset(detection.scorer))["uid"].to_pylist())
        spoiled = [uid for uid, kind in truth.items() if kind not in (Kind.CLEAN, Kind.BROKEN)]
        assert detection.recall == pytest.approx(sum(uid not in kept for uid in spoiled) / len(spoiled))
        pool = read_pool(layout)
        rows = np.isin(pool.uids, list(kept))
        assert pool.scores[detection.scorer][rows].min() >= pool.scores[detection.scorer][~rows].max()


def test_the_random_subset_depends_on_the_seed_only(demo: tuple[Layout, DemoResult]) -> None:
    pool = read_pool(demo[0])
    first, again, other = (subsets(demo[0], pool, seed)["random"] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_results_are_written(demo: tuple[Layout, DemoResult]) -> None:
    layout, result = demo
    record = json.loads((layout.output / "demo.json").read_text())
    assert [d["scorer"] for d in record["detections"]] == ["random", *METRICS]
    assert set(record["seconds"]) == {"prepare", "score", "select", "use", "evaluate"}
    text = (layout.output / "demo.md").read_text()
    assert text == markdown(result)
    assert f"{100 * result.accuracies[0].mean:.1f} %" in text
    assert all(f"- {verdict}" in text for verdict in verdicts(result))


def test_a_scorer_no_better_than_chance_is_told(demo: tuple[Layout, DemoResult]) -> None:
    from dataclasses import replace

    guess = replace(demo[1].detections[1], auroc=0.5, auroc_by_kind={"blank image": 0.99})
    result = replace(demo[1], detections=(demo[1].detections[0], guess))
    assert any("no better than chance (AUROC 0.500)" in line for line in verdicts(result))
    assert not any("blank image" in line for line in verdicts(result))


def test_a_prepared_demo_is_not_made_again(demo: tuple[Layout, DemoResult]) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo[0].output.rglob("*") if path.is_file()}
    said: list[str] = []
    prepare(str(demo[0].output), 0, SIZES, said.append)
    assert said == ["The shards and the models are there already."]
    assert before == {path: path.stat().st_mtime_ns for path in demo[0].output.rglob("*") if path.is_file()}


def test_a_killed_or_different_demo_is_made_afresh(tmp_path: Path) -> None:
    small = DemoSizes(
        pool=40, test=20, shards=2, clean=200, clip_steps=1, unifilter_steps=1, graded=32, graded_epochs=1
    )
    layout = prepare(str(tmp_path / "out"), 0, small, lambda _: None)
    tar = (layout.shards / "pool-00000.tar").read_bytes()
    layout.ready.unlink()  # as if it had been killed before its end
    (layout.scores).mkdir()
    said: list[str] = []
    prepare(str(layout.output), 0, small, said.append)
    assert any(line.startswith("Training") for line in said)
    assert (layout.shards / "pool-00000.tar").read_bytes() == tar
    assert not layout.scores.exists()


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(VlfilterError, match="no demo: choose a new folder"):
        prepare(str(tmp_path), 0, SIZES, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_demos_folder_must_be_local() -> None:
    with pytest.raises(VlfilterError, match="must be local"):
        prepare("s3://bucket/demo", 0, SIZES, lambda _: None)
