"""A real stage 1 in one process: the model and the score net learn together, and resume together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training import small
from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import load_vlm
from vlfilter.training import launch
from vlfilter.training.launch import FinetuneResult, finetune
from vlfilter.training.plan import Plan, identity, make_plan
from vlfilter.training.run_folder import read_metrics
from vlfilter.training.score_net import ScoreNet
from vlfilter.training.settings import TrainSettings, train_settings
from vlfilter.training.weighted_data import read_numbered

DIM = 6
RATE = 0.05


def features(folder: Path, count: int = 24) -> np.ndarray:
    """The first number tells how long the answer is, the others nothing. Row 5 is broken, row 24 on is not there."""
    matrix = np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)
    matrix[:, 0] = [i % 4 - 1.5 for i in range(count)]
    matrix[5, 2] = np.nan
    np.savez(folder / "features.npz", features=matrix)
    return matrix


def prepared(folder: Path, count: int = 24) -> dict[str, str]:
    told = small.data(folder, count)
    features(folder)
    return told | {"features": str(folder / "features.npz")}


def settings(folder: Path, told: dict[str, str], model: Path, **values: Any) -> TrainSettings:
    nine = {"epochs": 3, "batch_size": 8, "per_device_batch": 4, "save_steps": 2, "bad_rows": 0.2}
    own = {**told, "output": str(folder), "model": str(model), **nine, "score_learning_rate": RATE, **values}
    return train_settings(own, "self_filter_tiny")


class Trained(NamedTuple):
    settings: TrainSettings
    result: FinetuneResult
    net: torch.Tensor


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("stage1")
    told = prepared(folder, 26)
    rows = json.loads(Path(told["data"]).read_text())
    Path(told["data"]).write_text(json.dumps([*rows, {"id": "torn"}]))
    told_settings = settings(folder / "out", told, small.checkpoint(folder / "model"))
    result = finetune(told_settings)
    return Trained(told_settings, result, load_file(result.model / "score_net.safetensors")["score_net.weight"])


def test_the_model_and_the_score_net_learn(trained: Trained) -> None:
    rows = read_metrics(trained.result.metrics)
    assert [row["step"] for row in rows] == list(range(1, 10))
    assert rows[-1]["loss"] < 0.95 * rows[0]["loss"]
    assert trained.net.shape == (1, DIM)
    assert trained.net.dtype == torch.float32
    start = ScoreNet(DIM, trained.settings.seed, torch.float32).weight.detach()
    moved = (trained.net - start)[0]
    # at its own rate: nine steps of Adam, the first at rate 0 and the last at almost 0
    assert RATE < float(moved.abs().max()) < 9 * RATE
    assert float(moved[0]) < -RATE, "a longer answer weighs less: its summed loss is higher"
    assert rows[0]["score_norm"] == pytest.approx(float(start.norm()), abs=1e-6)
    assert rows[-1]["score_norm"] == pytest.approx(float(trained.net.norm()), rel=0.05)


def test_every_step_tells_of_its_weights(trained: Trained) -> None:
    rows = read_metrics(trained.result.metrics)
    for row in rows:
        assert row["weight_mean"] == pytest.approx(1, abs=1e-5)
        assert 0 < row["weight_min"] < 1 < row["weight_max"] < 4
        assert 0 < row["weight_entropy"] < 1
    assert rows[0]["weight_max"] < 1.2, "a new net weighs nearly alike"
    assert rows[-1]["weight_max"] > 1.2
    assert rows[-1]["weight_entropy"] < rows[0]["weight_entropy"]


def test_rows_without_features_are_told_and_counted(trained: Trained) -> None:
    assert (trained.result.rows, trained.result.skipped) == (27, 4)
    report = json.loads((Path(trained.settings.output) / "data_report.json").read_text())["data"]
    reasons = {row["row"]: row["reason"] for row in report["report"]["bad"]}
    assert reasons == {
        5: "number 5 has no features: a feature is NaN or infinite",
        24: "number 24 has no features: none are stored",
        25: "number 25 has no features: none are stored",
    }
    assert report["unreadable"] == ["row 26 (torn): it has no conversations"]


def test_the_model_loads_as_any_other(trained: Trained) -> None:
    loaded = load_vlm(str(trained.result.model), head="lm")
    assert loaded.config.published["mm_conversation_template"] == "vicuna_v1"
    assert not [name for name in load_file(trained.result.model / "model.safetensors") if "score_net" in name]


def test_a_published_stage_1_with_its_score_net_inside_loads_too(trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    shutil.copytree(trained.result.model, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"score_net.weight": torch.zeros(1, 1536).bfloat16()}, folder / "model.safetensors")
    assert load_vlm(str(folder), head="lm").config.head == "lm"


def test_a_finished_run_is_told_by_its_features(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_train", lambda *_: pytest.fail("it trains again"))
    assert not finetune(trained.settings).fresh
    elsewhere = Path(trained.settings.output).parent / "other" / "features.npz"
    elsewhere.parent.mkdir()
    with np.load(str(trained.settings.features)) as stored:
        matrix = stored["features"]
    np.savez(elsewhere, features=matrix + 1)
    changed = trained.settings.model_copy(update={"features": str(elsewhere), "sample_loss": "sample_mean"})
    with pytest.raises(VlfilterError, match="features, sample_loss changed"):
        finetune(changed)


def test_a_rows_number_is_its_unique_idx_else_its_place(tmp_path: Path) -> None:
    rows: list[Any] = small.rows(4)
    rows[1]["unique_idx"] = 17
    rows[2] = {"id": "torn"}
    rows.append(rows[0] | {"id": "named", "unique_idx": "9"})
    path = tmp_path / "data.json"
    path.write_text(json.dumps(rows))
    good, bad = read_numbered(str(path))
    assert [row.unique_idx for row in good] == [0, 17, 3]
    assert bad == ["row 2 (torn): it has no conversations", "row 4 (named): unique_idx is '9', not a number"]
    rows[1]["unique_idx"] = 3
    path.write_text(json.dumps(rows))
    with pytest.raises(VlfilterError, match="rows 1 and 3 are both number 3"):
        read_numbered(str(path))
    path.write_text("{}")
    with pytest.raises(VlfilterError, match="not a JSON list"):
        read_numbered(str(path))


OWN = {"data": "rows.json", "images": "images", "output": "out", "model": "m"}


@pytest.mark.parametrize(
    ("values", "recipe", "message"),
    [
        ({}, "self_filter_tiny", "self_filter needs the features of its rows"),
        ({"features": "f.npz"}, "mlm_filter_tiny", "features are for the objective self_filter"),
        ({"softmax_scope": "global"}, "mlm_filter_tiny", "for the objective self_filter only: softmax_scope"),
        ({"features": "f.npz", "trainable": "projector"}, "self_filter_tiny", "trainable is language+projector"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values: dict[str, Any], recipe: str, message: str) -> None:
    with pytest.raises(VlfilterError, match=message.replace("+", r"\+")):
        train_settings({**OWN, **values}, recipe)


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"per_device_batch": 1}, True),
        ({"batch_size": 2, "processes": 2}, True),
        ({"per_device_batch": 1, "softmax_scope": "global"}, True),
        ({"per_device_batch": 1, "softmax_scope": "global", "processes": 2}, False),
        ({"per_device_batch": 2}, False),
    ],
)
def test_a_batch_of_one_is_refused_with_an_explanation(values: dict[str, Any], refused: bool) -> None:
    def plan() -> Plan:
        return make_plan(train_settings({**OWN, "features": "f.npz", **values}, "self_filter_tiny"))

    if not refused:
        plan()
        return
    with pytest.raises(VlfilterError, match=r"score net would learn nothing .* softmax_scope global with two"):
        plan()


def test_runs_of_other_objectives_keep_their_identity(tmp_path: Path) -> None:
    """Options that came later must not make a finished model look like one of other settings."""
    told = small.data(tmp_path)
    values = small.settings(tmp_path / "out", told, small.checkpoint(tmp_path / "model"))
    names = identity(values, Plan("cpu", "float32", 1, 2, 4))["what"].keys()
    assert not names & {"features", "sample_loss", "softmax_scope", "score_dtype", "score_learning_rate"}
