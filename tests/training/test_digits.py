"""Stage 2 learns: real digits with four levels of captions, from random weights; nothing where there is nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training import digits
from vlfilter.training.launch import finetune
from vlfilter.training.run_folder import RunFolder
from vlfilter.training.settings import train_settings


def accuracy(folder: Path, shuffled: bool) -> float:
    """The same command for both: three epochs over 15,600 rows on two CPU cores."""
    told = digits.make(folder, shuffled)
    how = {"output": str(folder / "out"), "epochs": 3, "batch_size": 64, "per_device_batch": 32, "processes": 2,
           "learning_rate": 1.5e-3, "max_length": 64, "eval_batch": 64, "save_steps": 10_000, "seed": 0,
           "group_by_image": True}  # fmt: skip
    finetune(train_settings({**told, **how}, "unifilter_tiny"))
    best = json.loads(RunFolder(folder / "out").best_epoch.read_text())
    return float(best["validation"]["accuracy"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_digits_are_told_from_random_weights(tmp_path: Path) -> None:
    assert accuracy(tmp_path, shuffled=False) >= 0.9


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_shuffled_labels_stay_at_chance(tmp_path: Path) -> None:
    assert 0.18 < accuracy(tmp_path, shuffled=True) < 0.32
