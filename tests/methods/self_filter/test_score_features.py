"""The three scores, from JSON files and from folders: the published table, and every row accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.methods.self_filter import small
from vlfilter.data.features import open_features
from vlfilter.data.samples import Status
from vlfilter.data.storage import join, write_bytes
from vlfilter.data.tables import TAIL, open_parquet
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.clip_features import ClipSettings, clip_features, clip_scores
from vlfilter.methods.self_filter.row_shards import row_shards, write_shard
from vlfilter.methods.self_filter.score_features import ScoreInputs, ScoresSummary, score_features

FIXTURES = Path(__file__).parents[2] / "fixtures" / "self_filter"
PUBLISHED = json.loads((FIXTURES / "scores_normalise.json").read_text())


def plain_rows(count: int) -> list[dict[str, Any]]:
    turns = [{"from": "human", "value": "<image>\nQ?"}, {"from": "gpt", "value": "A."}]
    return [{"id": str(i), "image": f"{i}.jpg", "conversations": turns} for i in range(count)]


def save(path: Path, scores: Any) -> str:
    path.write_text(json.dumps(scores))
    return str(path)


@pytest.fixture
def inputs(tmp_path: Path) -> ScoreInputs:
    return ScoreInputs(
        save(tmp_path / "clip.json", PUBLISHED["clip_score"]),
        save(tmp_path / "reward.json", PUBLISHED["imagereward"]),
        save(tmp_path / "judge.json", PUBLISHED["gpt_raw"]),
    )


def table(folder: Path | str, data: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for shard in row_shards(data):
        with open_parquet(join(str(folder), f"{shard.name}.parquet")) as file:
            rows += file.read().to_pylist()
    return rows


def by_id(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    return {str(row["id"]): [row["clip_score"], row["image_reward"], row["judge_score"]] for row in rows}


def test_equals_the_published_features_in_the_published_order(tmp_path: Path, inputs: ScoreInputs) -> None:
    data, output = small.data(tmp_path, 4, plain_rows(6)), tmp_path / "scores"
    summary = score_features(data, inputs, str(output))
    assert by_id(table(output, data)) == PUBLISHED["stage1_features_by_id"]
    assert summary.judge_filled == 2
    assert summary.rows == {"ok": 6}
    assert summary.ranges["image_reward"] == [-1.5, 2.0]
    features = open_features(str(output))
    expected = np.array(list(PUBLISHED["stage1_features_by_id"].values()))
    assert features.take(np.arange(6)) == pytest.approx(expected, abs=1e-6)


def test_the_processed_scores_of_the_judge_give_the_same(tmp_path: Path, inputs: ScoreInputs) -> None:
    data = small.data(tmp_path, 4, plain_rows(6))
    judge = save(tmp_path / "processed.json", PUBLISHED["gpt_processed"])
    summary = score_features(data, ScoreInputs(inputs.clip, inputs.image_reward, judge), str(tmp_path / "out"))
    assert by_id(table(tmp_path / "out", data)) == PUBLISHED["stage1_features_by_id"]
    assert summary.judge_filled == 0


def test_ids_that_a_file_lacks_are_rows_with_a_reason(tmp_path: Path, inputs: ScoreInputs) -> None:
    clip = {k: v for k, v in PUBLISHED["clip_score"].items() if k != "4"} | {"6": 0.5, "99": 0.1}
    reward = {**PUBLISHED["imagereward"], "0": float("nan"), "5": None, "1": "high"}
    judge = {k: v for k, v in PUBLISHED["gpt_raw"].items() if k in "235"}
    given = ScoreInputs(
        save(tmp_path / "c.json", clip), save(tmp_path / "r.json", reward), save(tmp_path / "j.json", judge)
    )
    data = small.data(tmp_path, 4, plain_rows(7))
    summary = score_features(data, given, str(tmp_path / "out"))
    rows = table(tmp_path / "out", data)
    assert [row["id"] for row in rows] == list(range(7))
    why = {row["id"]: row["reason"] for row in rows if row["status"] != "ok"}
    assert sorted(why) == [0, 1, 4, 5, 6]
    assert "nan, no finite number" in why[0]
    assert "'high'" in why[1]
    assert why[4] == "there is no clip_score for this id"
    assert "None" in why[5]
    assert why[6] == "there is no image_reward for this id"
    assert [row["clip_score"] for row in rows if row["status"] == "ok"] == [1, -1]  # over the rows that are kept
    assert rows[4]["judge_score"] is None
    assert summary.rows == {"ok": 2, "failed": 5}
    assert summary.unknown == {"clip_score": 1, "image_reward": 0, "judge_score": 0}
    assert summary.judge_filled == 0
    assert [i for i, _ in open_features(str(tmp_path / "out")).left_out] == [0, 1, 4, 5, 6]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("[1, 2]", "one JSON object"),
        ("{", "not a JSON file"),
        ('{"x": 1.0}', "'x' is no id"),
        ('{"-1": 1.0}', "'-1' is no id"),
        ('{"01": 1.0}', "'01' is no id"),
        ('{"1": 1.0, "0": 2.0, "1": 1.0}', "holds id 1 twice"),
        ('{"0": 1.0, "1": 1.0}', "image_reward is 1 for all 2 rows"),
        ("{}", "no row has both a clip_score and an image_reward"),
    ],
)
def test_files_of_no_use_are_told(spoil: str, message: str, tmp_path: Path, inputs: ScoreInputs) -> None:
    data = small.data(tmp_path, 4, plain_rows(6))
    (tmp_path / "reward.json").write_text(spoil)
    with pytest.raises(VlfilterError, match=message):
        score_features(data, inputs, str(tmp_path / "out"))


def test_numbers_of_any_size_are_rows_or_ids_of_none(tmp_path: Path, inputs: ScoreInputs) -> None:
    """JSON's whole numbers and ids may be larger than any of ours."""
    data = small.data(tmp_path, 4, plain_rows(6))
    many = {"0": 10**400, "1": 1e308, "2": -2, "3": 1.5, "9" * 30: 1, "9" * 5000: 1}
    (tmp_path / "reward.json").write_text(json.dumps(many))
    summary = score_features(data, inputs, str(tmp_path / "out"))
    assert summary.unknown["image_reward"] == 2
    assert summary.ranges["image_reward"] == [-2.0, 1e308]
    assert any(reason.startswith("row 0: its image_reward in") for reason in summary.examples)


def test_missing_inputs_are_told(tmp_path: Path, inputs: ScoreInputs) -> None:
    data = small.data(tmp_path, 4, plain_rows(6))
    for gone, message in [("gone.json", "no file .*gone.json"), ("gone", "no folder .*gone")]:
        for field in ("clip", "image_reward", "judge"):
            changed = {**{n: getattr(inputs, n) for n in inputs.__slots__}, field: str(tmp_path / gone)}
            with pytest.raises(VlfilterError, match=message):
                score_features(data, ScoreInputs(**changed), str(tmp_path / "out"))
    save(tmp_path / "judge.json", {"0": None})
    with pytest.raises(VlfilterError, match="judge_score"):
        score_features(data, inputs, str(tmp_path / "out"))


def write_column(data: str, folder: Path, name: str, value: Any, **parts: Any) -> str:
    """A step's folder: `value(id)` for each row, a reason where it is a text."""
    for shard in row_shards(data):
        ids = shard.read(["id"])["id"].to_pylist()
        found = [value(i) for i in ids]
        columns = {
            "id": ids,
            name: [None if isinstance(v, str) else v for v in found],
            "status": [str(Status.REFUSED if isinstance(v, str) else Status.OK) for v in found],
            "reason": [v if isinstance(v, str) else None for v in found],
        }
        schema = pa.schema([pa.field("id", pa.int64()), pa.field(name, pa.float64()), *TAIL])
        url = join(str(folder), f"{shard.name}.parquet")
        write_shard(url, pa.table(columns, schema=schema), {"rows": shard.content, **parts})
    return str(folder)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP features of the small instructions."""
    folder = tmp_path_factory.mktemp("scores")
    settings = ClipSettings(str(small.clip(folder / "model")), "float32", device="cpu")
    clip_features(small.data(folder), small.images(folder / "images"), str(folder / "clip"), settings)
    return folder


def run(features: Path, tmp_path: Path, **changes: Any) -> ScoresSummary:
    data = str(features / "data")
    reward = write_column(data, tmp_path / "reward", "image_reward", lambda i: "not this one" if i == 2 else i * 0.5)
    judge = write_column(data, tmp_path / "judge", "judge_score", lambda i: "no number" if i == 3 else float(i))
    return score_features(data, ScoreInputs(str(features / "clip"), reward, judge), str(tmp_path / "out"), **changes)


def test_folders_of_our_steps(features: Path, tmp_path: Path) -> None:
    summary = run(features, tmp_path)
    rows = table(tmp_path / "out", str(features / "data"))
    kept = [row["id"] for row in rows if row["status"] == "ok"]
    assert kept == [0, 1, 3, 4, 7]
    halves = open_features(str(features / "clip"))
    raw = clip_scores(halves.take(kept))
    assert [row["clip_score"] for row in rows if row["id"] in kept] == pytest.approx(
        (raw - raw.min()) / (raw.max() - raw.min()) * 2 - 1
    )
    assert rows[3]["judge_score"] == pytest.approx(np.mean([0, 1, 4, 7]) / 7 * 2 - 1)  # the mean, where there was none
    assert summary.judge_filled == 1
    why = {row["id"]: (row["status"], row["reason"]) for row in rows if row["status"] != "ok"}
    assert why[2] == ("refused", "not this one")
    assert why[5] == ("missing_image", "the row is text only")
    assert why[6][0] == "corrupt_image"
    assert why[8][0] == "unsupported"
    assert why[9] == ("missing_image", "there is no image f.jpg")
    assert summary.rows == {"ok": 5, "corrupt_image": 1, "missing_image": 2, "unsupported": 1, "refused": 1}


def test_ranks_instead_of_the_range(features: Path, tmp_path: Path) -> None:
    run(features, tmp_path, method="rank")
    rows = table(tmp_path / "out", str(features / "data"))
    assert [row["image_reward"] for row in rows if row["status"] == "ok"] == [-1, -0.5, 0, 0.5, 1]
    with pytest.raises(VlfilterError, match="'z' is unknown"):
        run(features, tmp_path, method="z")


def test_what_is_done_is_kept_and_what_changed_is_made_anew(features: Path, tmp_path: Path) -> None:
    data = str(features / "data")
    reward = write_column(data, tmp_path / "reward", "image_reward", float)
    judge = save(tmp_path / "judge.json", {str(i): i % 3 for i in range(10)})
    given, output = ScoreInputs(str(features / "clip"), reward, judge), tmp_path / "out"

    def stamps() -> list[int]:
        return [path.stat().st_mtime_ns for path in sorted(output.glob("*.parquet"))]

    first = score_features(data, given, str(output))
    before = stamps()
    assert score_features(data, given, str(output)) == first
    assert stamps() == before
    (output / "00001.parquet").write_bytes(b"torn")
    assert score_features(data, given, str(output)) == first
    assert len(table(output, data)) == 10
    save(tmp_path / "judge.json", {str(i): i % 4 for i in range(10)})
    assert score_features(data, given, str(output)).ranges["judge_score"] == [0, 3]
    score_features(data, given, str(output), method="rank")
    assert table(output, data)[0]["image_reward"] == -1


def test_steps_that_are_not_finished_or_of_other_rows_are_told(features: Path, tmp_path: Path) -> None:
    data = str(features / "data")
    judge = write_column(data, tmp_path / "judge", "judge_score", float)
    reward = write_column(data, tmp_path / "reward", "image_reward", float)
    given = ScoreInputs(str(features / "clip"), reward, judge)
    stale = write_column(data, tmp_path / "stale", "image_reward", float, rows="other")
    with pytest.raises(VlfilterError, match=r"made from other rows: .*image-reward"):
        score_features(data, ScoreInputs(given.clip, stale, judge), str(tmp_path / "out"))
    with pytest.raises(VlfilterError, match="no column judge_score"):
        score_features(data, ScoreInputs(given.clip, reward, reward), str(tmp_path / "out"))
    (tmp_path / "judge" / "00003.parquet").unlink()
    with pytest.raises(VlfilterError, match=r"no 00003\.parquet, so it is not finished .*self-filter judge"):
        score_features(data, given, str(tmp_path / "out"))
    other = small.data(tmp_path, rows=small.entries()[:4])
    with pytest.raises(VlfilterError, match="features --kind clip"):
        score_features(other, given, str(tmp_path / "out"))


def test_ids_that_occur_twice_in_a_folder_are_told(tmp_path: Path, inputs: ScoreInputs) -> None:
    data = small.data(tmp_path, 3, plain_rows(6))
    column = {"id": [3, 4, 5], "image_reward": [0.1, 0.2, 0.3], "status": ["ok"] * 3, "reason": [None] * 3}
    for shard in row_shards(data):
        write_shard(join(str(tmp_path / "twice"), f"{shard.name}.parquet"), pa.table(column), {})
    with pytest.raises(VlfilterError, match="image_reward for id 3 twice"):
        score_features(data, ScoreInputs(inputs.clip, str(tmp_path / "twice"), inputs.judge), str(tmp_path / "out"))


def test_on_object_storage(s3: str, tmp_path: Path, inputs: ScoreInputs) -> None:
    data = small.data(tmp_path, 4, plain_rows(6))
    for name in ("clip", "reward", "judge"):
        write_bytes(join(s3, f"{name}.json"), (tmp_path / f"{name}.json").read_bytes())
    given = ScoreInputs(join(s3, "clip.json"), join(s3, "reward.json"), join(s3, "judge.json"))
    score_features(data, given, join(s3, "out"))
    assert by_id(table(join(s3, "out"), data)) == PUBLISHED["stage1_features_by_id"]
    assert score_features(data, given, join(s3, "out")).judge_filled == 2
