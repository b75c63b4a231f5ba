"""MiniGPT-v2 with two processes, one of them killed: the same losses, and the same checkpoint in its own layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models import minigpt
from tests.training import mixed, small
from tests.training.test_finetune_slow import curve
from tests.training.test_mixture_slow import killed_and_resumed
from vlfilter.training.minigpt_v2 import export_minigpt_v2
from vlfilter.training.settings import train_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("zero", ["none", "2"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, zero: str) -> None:
    language = minigpt.language(tmp_path / "llama", small.tokenizer())
    told: dict[str, Any] = {
        "mixture": str(mixed.mixture(tmp_path)), "language_model": str(language),
        "vision_tower": str(minigpt.eva_file(tmp_path / "eva_vit_g.pth")), "image_size": 48,
        "adapter": str(minigpt.checkpoint_file(tmp_path / "checkpoint_stage2.pth")), "lora_r": minigpt.RANK,
        "projector_kind": "concat4", "select_layer": -1, "epochs": 2, "iters_per_epoch": 4, "batch_size": 8, "draws": 2,
        "per_device_batch": 2, "save_steps": 2, "warmup_steps": 2, "gradient_checkpointing": True, "zero": zero,
        "processes": 2, "learning_rate": 5e-3,
    }  # fmt: skip
    whole, killed = (train_settings(told | {"output": str(tmp_path / name)}, "minigpt_v2_tiny") for name in ("w", "k"))
    first, second = killed_and_resumed(whole, killed)
    assert curve(whole)[-1]["loss"] < curve(whole)[0]["loss"]
    files = [export_minigpt_v2(str(run.model), str(tmp_path / f"{i}.pth")) for i, run in enumerate((first, second))]
    ours, theirs = (torch.load(file, weights_only=True)["model"] for file in files)
    assert ours.keys() == theirs.keys() == minigpt.checkpoint_state().keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
