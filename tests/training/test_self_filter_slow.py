"""Stage 1 with two processes: killed and resumed, weighed over both, and the full-size recipe in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from tests.training import small
from tests.training.test_finetune_slow import curve, killing, optimizer_numbers, weights
from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import load_vlm
from vlfilter.training.launch import finetune
from vlfilter.training.run_folder import last_complete
from vlfilter.training.score_net import ScoreNet, read_score_net
from vlfilter.training.settings import TrainSettings, train_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DIM = 7  # odd: two processes' halves differ


def prepared(folder: Path) -> dict[str, str]:
    matrix = np.random.default_rng(1).normal(size=(24, DIM)).astype(np.float32)
    np.savez(folder / "features.npz", features=matrix)
    return small.data(folder) | {"features": str(folder / "features.npz")}


def settings(folder: Path, told: dict[str, str], model: Path, **values: Any) -> TrainSettings:
    nine = {"epochs": 3, "batch_size": 8, "per_device_batch": 2, "save_steps": 2, "score_learning_rate": 0.02}
    return train_settings({**told, "output": str(folder), "model": str(model), **nine, **values}, "self_filter_tiny")


@pytest.mark.parametrize(
    ("zero", "processes", "values"),
    [
        ("3", 2, {"softmax_scope": "global", "dtype": "bfloat16", "score_dtype": "float32"}),
        ("2", 2, {"score_learning_rate": None, "dtype": "bfloat16", "score_dtype": "float32"}),
        ("none", 1, {}),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, zero: str, processes: int, values: dict[str, Any]
) -> None:
    told, model = prepared(tmp_path), small.checkpoint(tmp_path / "model")
    how = {"zero": zero, "processes": processes, **values}
    whole = settings(tmp_path / "whole", told, model, **how)
    first = finetune(whole)
    killed = settings(tmp_path / "killed", told, model, **how)
    with killing(rank=processes - 1, step=5), pytest.raises(VlfilterError, match="Start it again to go on"):
        finetune(killed)
    found = last_complete(tmp_path / "killed" / "checkpoints")
    assert found is not None
    assert found[0] == 4, "in the middle of the second epoch"
    if zero != "none":
        loaded = load_vlm(str(model), head="lm").model
        trained = sum(p.numel() for name, p in loaded.named_parameters() if not name.startswith("vision."))
        kept = optimizer_numbers(found[1])
        assert all(0.45 * trained < count < 0.55 * trained for count in kept), "each keeps its half"
    second = finetune(killed)
    assert second.resumed_from == 4
    assert curve(killed) == curve(whole)
    assert len(curve(whole)) == 9
    assert torch.equal(read_score_net(second.model), read_score_net(first.model))
    moved = read_score_net(first.model) - ScoreNet(DIM, 42, torch.float32).weight.detach()
    assert float(moved.abs().max()) > 1e-3
    ours, theirs = weights(second.model), weights(first.model)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("loss", "zero"), [("token_sum", "3"), ("sample_mean", "none")])
def test_global_weights_are_those_of_one_process_with_the_joint_batch(tmp_path: Path, loss: str, zero: str) -> None:
    told, model = prepared(tmp_path), small.checkpoint(tmp_path / "model")
    runs = {}
    ways: dict[str, dict[str, Any]] = {
        "joint": {"processes": 1, "per_device_batch": 2},
        "global": {"processes": 2, "per_device_batch": 1, "softmax_scope": "global", "zero": zero},
        "local": {"processes": 2, "per_device_batch": 2, "zero": zero},
        "joint of 4": {"processes": 1, "per_device_batch": 4},
    }
    for name, values in ways.items():
        told_settings = settings(tmp_path / name, told, model, sample_loss=loss, **values)
        result = finetune(told_settings)
        runs[name] = (curve(told_settings), read_score_net(result.model), weights(result.model))
    (rows, net, state), (theirs, their_net, their_state) = runs["joint"], runs["global"]
    for name in ("loss", "weight_mean", "weight_min", "weight_max", "weight_entropy", "score_norm"):
        assert [row[name] for row in theirs] == pytest.approx([row[name] for row in rows], abs=1e-4), name
    assert torch.allclose(their_net, net, atol=1e-4)
    assert all(torch.allclose(their_state[name], state[name], atol=1e-3) for name in state)
    local, joint = runs["local"][1], runs["joint of 4"][1]
    assert not torch.allclose(local, joint, atol=1e-3), "two local batches are not a joint one"


def test_the_full_size_recipe_runs_from_parts_in_bfloat16(tmp_path: Path) -> None:
    told, whole = prepared(tmp_path), load_vlm(str(small.checkpoint(tmp_path / "model")), head="lm")
    language, tower = tmp_path / "language", tmp_path / "tower"
    LlamaForCausalLM(whole.config.body).save_pretrained(language)
    small.tokenizer().hf.save_pretrained(language)
    whole.model.vision.model.save_pretrained(tower)
    projector = torch.nn.Linear(int(whole.config.vision.hidden_size), int(whole.config.body.hidden_size))
    torch.save(
        {f"model.mm_projector.{name}": tensor for name, tensor in projector.state_dict().items()},
        tmp_path / "mm_projector.bin",
    )
    own = {
        **told, "language_model": str(language), "vision_tower": str(tower), "output": str(tmp_path / "out"),
        "projector": str(tmp_path / "mm_projector.bin"), "batch_size": 8, "per_device_batch": 4, "max_length": 512,
        "device": "cpu", "processes": 2, "dtype": "bfloat16", "data_workers": 1, "learning_rate": 2e-3,
    }  # fmt: skip
    result = finetune(train_settings(own, "self_filter_llava_7b"))
    assert result.steps == 9
    assert {tensor.dtype for tensor in weights(result.model).values()} == {torch.bfloat16}
    net = read_score_net(result.model)
    assert net.dtype == torch.float32
    assert not torch.equal(net, net.bfloat16().float()), "what DeepSpeed updates is finer than what it computes with"
    assert load_vlm(str(result.model), head="lm").config.projector.kind == "linear"
