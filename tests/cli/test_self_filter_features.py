"""`vlfilter self-filter preprocess` and `features`, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.methods.self_filter import small
from vlfilter.cli.app import app
from vlfilter.data.features import open_features
from vlfilter.errors import VlfilterError


def run(*words: str) -> str:
    result = CliRunner().invoke(app, ["self-filter", *words])
    if isinstance(result.exception, VlfilterError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def save(path: Path, content: object) -> str:
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small.clip(tmp_path_factory.mktemp("models") / "clip"))


def test_from_annotations_to_both_kinds_of_features(tmp_path: Path, model: str) -> None:
    data, clip, scores = str(tmp_path / "data"), str(tmp_path / "clip"), str(tmp_path / "scores")
    source = save(tmp_path / "in.json", small.entries())
    told = run("preprocess", "--annotations", source, "--output", data, "--rows-per-shard", "4")
    assert "10 rows in 3 files" in told
    assert "9 ok, 1 unsupported; distinct images: 5, rows of text only: 1" in told
    assert "entry 8: turn 0 is from 'system', expected 'human'" in told

    options = ["--data", data, "--images", small.images(tmp_path / "images"), "--model", model, "--dtype", "float32"]
    told = run("features", "--kind", "clip", *options, "--output", clip, "--device", "cpu", "--batch", "4")
    assert "00002 (3 of 3): 2 texts, 1 images" in told
    assert "rows: 6 ok, 1 corrupt_image, 2 missing_image, 1 unsupported" in told
    assert "wrote 6 files" in told
    assert open_features(clip).ids.tolist() == [0, 1, 2, 3, 4, 7]
    again = run("features", "--kind", "clip", *options, "--output", clip, "--device", "cpu")
    assert "wrote 0 files" in again
    assert "6 were there already" in again

    reward = save(tmp_path / "reward.json", {str(i): i / 10 for i in range(12)})
    judge = save(tmp_path / "judge.json", {"0": 8.0, "3": None, "4": 3.0})
    told = run(
        "features", "--kind", "scores", "--data", data, "--clip", clip, "--image-reward", reward, "--judge", judge,
        "--normalise", "rank", "--output", scores,
    )  # fmt: skip
    assert "6 ok" in told
    assert "4 of the kept had no judge score" in told
    assert "judge_score: 3 to 8" in told
    assert "image_reward: 0 to 0.7 (2 values belong to no row)" in told
    assert "row 5: the row is text only" in told
    assert open_features(scores).ids.tolist() == [0, 1, 2, 3, 4, 7]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "clip"], "--kind clip needs --images"),
        (["--kind", "clip", "--images", "x", "--judge", "y"], "--judge is not for --kind clip"),
        (["--kind", "scores", "--judge", "y"], "--kind scores needs --clip"),
        (["--kind", "scores", "--images", "y"], "--images is not for --kind scores"),
        (["--kind", "clip", "--images", "x", "--batch", "0"], "must be at least 1"),
        (["--kind", "clip", "--images", "x"], "run `vlfilter self-filter preprocess` first"),
    ],
)
def test_mistakes_are_told(words: list[str], message: str, tmp_path: Path, model: str) -> None:
    name = ["--model", model] if "clip" in words else []
    with pytest.raises(VlfilterError, match=message):
        run("features", "--data", str(tmp_path), "--output", str(tmp_path / "out"), *words, *name)
