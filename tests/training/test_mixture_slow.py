"""Trainings on a mixture with two processes, one of them killed: the same draws, the same losses, the same adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training import mixed, small
from tests.training.test_finetune_slow import curve, killing, weights
from vlfilter.errors import VlfilterError
from vlfilter.training.launch import FinetuneResult, finetune
from vlfilter.training.run_folder import last_complete
from vlfilter.training.settings import TrainSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def killed_and_resumed(whole: TrainSettings, killed: TrainSettings) -> tuple[FinetuneResult, FinetuneResult]:
    """Trains two processes for eight steps, undisturbed and with a kill in the second epoch: both in the same steps."""
    first = finetune(whole)
    with killing(rank=1, step=6), pytest.raises(VlfilterError, match="Start it again to go on"):
        finetune(killed)
    found = last_complete(Path(killed.output) / "checkpoints")
    assert found is not None
    second = finetune(killed)
    assert second.resumed_from == found[0] >= 4
    assert [row["step"] for row in curve(killed)] == list(range(1, 9))
    assert curve(killed) == curve(whole), "losses, rates and samples of each data set"
    return first, second


@pytest.mark.parametrize("zero", ["2", "3", "none"])
def test_a_killed_run_draws_and_learns_as_if_nothing_had_happened(tmp_path: Path, zero: str) -> None:
    told, model = mixed.mixture(tmp_path), small.checkpoint(tmp_path / "model")
    whole, killed = (
        mixed.settings(tmp_path / name, told, model, zero=zero, processes=2) for name in ("whole", "killed")
    )
    first, second = killed_and_resumed(whole, killed)
    ours, theirs = weights(second.model), weights(first.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_way_of_spreading_trains_the_same_adapters(tmp_path: Path) -> None:
    told, model = mixed.mixture(tmp_path), small.checkpoint(tmp_path / "model")
    runs = []
    for zero, processes in [("none", 1), ("2", 2), ("3", 2)]:
        output = tmp_path / f"{zero}-{processes}"
        settings = mixed.settings(output, told, model, zero=zero, processes=processes, lora_dropout=0.0)
        result = finetune(settings)
        runs.append((curve(settings), weights(result.model)))
    rows, expected = runs[0]
    for others, state in runs[1:]:
        assert [row["datasets"] for row in others] == [row["datasets"] for row in rows]
        assert [row["loss"] for row in others] == pytest.approx([row["loss"] for row in rows], abs=1e-4)
        assert all(torch.allclose(state[name], expected[name], atol=1e-3) for name in expected)
