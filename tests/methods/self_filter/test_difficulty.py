"""Difficulty from the score net alone, and the files that difficulties come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from vlfilter.cli.app import app
from vlfilter.data.features import Features
from vlfilter.errors import VlfilterError
from vlfilter.methods.self_filter.difficulty import difficulty_of, measure_difficulty
from vlfilter.methods.self_filter.difficulty_files import read_difficulty
from vlfilter.methods.self_filter.score_net import score_net_weight

FIXTURE = Path(__file__).parent.parent.parent / "fixtures" / "self_filter" / "clip_difficulty.npz"


def published(folder: Path, weight: torch.Tensor, kind: str) -> Path:
    """A checkpoint as published: shards with an index. The shard without the score net is left out."""
    folder.mkdir(parents=True)
    names = [f"shard-{i}.{'bin' if kind == 'pytorch_model.bin' else 'safetensors'}" for i in (1, 2)]
    index = {"weight_map": {"model.embed_tokens.weight": names[0], "score_net.weight": names[1]}}
    (folder / f"{kind}.index.json").write_text(json.dumps(index))
    tensors = {"score_net.weight": weight, "lm_head.weight": torch.ones(3, 2)}
    if names[1].endswith(".bin"):
        torch.save(tensors, folder / names[1])
    else:
        save_file(tensors, folder / names[1])
    return folder


def model(folder: Path, weight: torch.Tensor) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"score_net.weight": weight}, folder / "score_net.safetensors")
    return str(folder)


def test_published_difficulties() -> None:
    stored = np.load(FIXTURE)
    values = difficulty_of(Features.of(stored["features"]), stored["score_net_weight"][0].astype(np.float32))
    np.testing.assert_allclose(values, stored["expected_fp32"], atol=1e-6, rtol=0)
    np.testing.assert_allclose(values, stored["expected_fp16_cpu"], atol=2e-3, rtol=0)
    assert values.dtype == np.float64


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin", "alone"])
def test_the_weight_is_read_alone(tmp_path: Path, kind: str) -> None:
    weight = torch.randn(1, 5).bfloat16()
    folder = tmp_path / "model"
    if kind == "alone":
        model(folder, weight)
    else:
        published(folder, weight, kind)
    np.testing.assert_array_equal(score_net_weight(str(folder)), weight.float()[0].numpy())


def test_models_without_a_usable_score_net_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VlfilterError, match="does not exist"):
        score_net_weight(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(VlfilterError, match="has no weights"):
        score_net_weight(str(tmp_path / "empty"))
    with pytest.raises(VlfilterError, match="one row of finite numbers"):
        score_net_weight(model(tmp_path / "nan", torch.full((1, 3), float("nan"))))
    other = published(tmp_path / "other", torch.ones(1, 3), "model.safetensors")
    (other / "shard-2.safetensors").unlink()
    with pytest.raises(VlfilterError, match=r"lacks shard-2\.safetensors"):
        score_net_weight(str(other))
    (other / "model.safetensors.index.json").write_text('{"weight_map": {"lm_head.weight": "shard-2.safetensors"}}')
    with pytest.raises(VlfilterError, match=r"holds no score_net\.weight"):
        score_net_weight(str(other))


def test_every_row_comes_out_and_a_second_run_keeps_the_file(tmp_path: Path) -> None:
    features = np.array([[1, 2, 3], [np.nan, 0, 0], [0, -1, 0.5]], np.float32)
    np.savez(tmp_path / "features.npz", features=features)
    net = model(tmp_path / "model", torch.tensor([[1.0, 0.5, -2.0]]))
    output = tmp_path / "difficulty.parquet"

    summary = measure_difficulty(net, str(tmp_path / "features.npz"), str(output))
    assert dict(summary.counts) == {"ok": 2, "failed": 1}
    assert (summary.lowest, summary.median, summary.highest) == (1.5, 2.75, 4.0)
    assert pq.read_table(output).to_pydict() == {
        "id": [0, 1, 2],
        "difficulty": [4.0, None, 1.5],
        "status": ["ok", "failed", "ok"],
        "reason": [None, "a feature is NaN or infinite", None],
    }
    read = read_difficulty(str(output))
    assert read.difficulty.ids.tolist() == [0, 2]
    assert read.left_out == ((1, "a feature is NaN or infinite"),)

    before = output.stat().st_mtime_ns
    again = measure_difficulty(net, str(tmp_path / "features.npz"), str(output))
    assert again.kept
    assert (again.lowest, again.median, again.highest) == (1.5, 2.75, 4.0)
    assert output.stat().st_mtime_ns == before
    model(tmp_path / "model", torch.tensor([[1.0, 0.5, -1.0]]))
    assert not measure_difficulty(net, str(tmp_path / "features.npz"), str(output)).kept
    assert read_difficulty(str(output)).difficulty.values.tolist() == [1.0, 1.0]


def test_the_score_net_of_other_features_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "features.npz", features=np.ones((2, 4), np.float32))
    arguments = ["--model", model(tmp_path / "model", torch.ones(1, 3)), "--output", str(tmp_path / "d.parquet")]
    with pytest.raises(VlfilterError, match="takes 3 numbers a sample, the features have 4"):
        CliRunner().invoke(
            app,
            ["self-filter", "difficulty", *arguments, "--features", str(tmp_path / "features.npz")],
            catch_exceptions=False,
        )


def test_a_json_file_keeps_its_order(tmp_path: Path) -> None:
    path = tmp_path / "difficulty.json"
    path.write_text('{"7": 1, "0": -2.5, "3": 1e-3}')
    read = read_difficulty(str(path))
    assert read.difficulty.ids.tolist() == [7, 0, 3]
    assert read.difficulty.values.tolist() == [1.0, -2.5, 0.001]
    assert read.left_out == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"1": NaN, "2": 1, "3": Infinity, "4": null}', "difficulty of 3 ids: 1, 3, 4 is missing or no finite"),
        ('{"1": 2, "5": 1, "1": 2}', "more than one difficulty for 1 ids: 1"),
        ('{"1": 1, "01": 2}', "more than one difficulty"),
        ('{"a.jpg": 1}', "'a.jpg' is no id"),
        ('{"1": "hard"}', 'the difficulty of 1 is "hard"'),
        ('{"1": true}', "no number"),
        ("[1, 2]", "should hold one JSON object"),
        ('{"1": 1', "is no JSON"),
        ("", "is no JSON"),
        ('{"1": ' + "[" * 100_000, "is no JSON"),
        ('{"1": 1, "99999999999999999999": 2}', "'99999999999999999999' is no id"),
        ('{"' + "9" * 5000 + '": 2}', "is no id"),
        ('{"1": 1' + "0" * 400 + "}", "1 ids: 1 is missing or no finite"),
    ],
)
def test_bad_json_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(VlfilterError, match=message):
        read_difficulty(str(tmp_path / "d.json"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1, 2], "difficulty": [0.5, None]}, "1 ids: 2 is missing"),
        ({"id": [1, 2], "difficulty": [0.5, float("nan")]}, "1 ids: 2 is missing or no finite"),
        ({"id": [1, 1], "difficulty": [0.5, 0.5]}, "more than one difficulty for 1 ids: 1"),
        ({"id": [1]}, "no column difficulty"),
        ({"id": ["a"], "difficulty": [0.5]}, "column id should hold whole numbers, none missing; it is string"),
        ({"id": [1.5], "difficulty": [0.5]}, "column id should hold whole numbers, none missing; it is double"),
        ({"id": [1, None], "difficulty": [0.5, 1.0]}, "column id should hold whole numbers"),
        ({"id": [1], "difficulty": ["0.5"]}, "column difficulty should hold numbers, it is string"),
    ],
)
def test_bad_parquet_is_told(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    with pytest.raises(VlfilterError, match=message):
        read_difficulty(str(tmp_path / "d.parquet"))


def test_files_that_are_not_there_or_torn_are_told(tmp_path: Path) -> None:
    for name in ("d.json", "d.parquet"):
        with pytest.raises(VlfilterError, match="no file"):
            read_difficulty(str(tmp_path / name))
    (tmp_path / "d.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(VlfilterError, match="damaged"):
        read_difficulty(str(tmp_path / "d.parquet"))
