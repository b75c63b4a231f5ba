from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from vlfilter.errors import VlfilterError
from vlfilter.training.clip import info_nce
from vlfilter.training.loop import LogRow, LoopSettings, rate, train


def _batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(32, 4, generator=generator)
        yield x, x @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])


def _fit(seed: int, settings: LoopSettings) -> tuple[nn.Linear, list[LogRow]]:
    torch.manual_seed(seed)
    model = nn.Linear(4, 1)
    log = train(model, _batches(seed), lambda b: nn.functional.mse_loss(model(b[0]), b[1]), settings)
    return model, log


def test_the_loss_falls_and_the_log_is_complete() -> None:
    _, log = _fit(0, LoopSettings(200, learning_rate=0.05, weight_decay=0.0, log_every=60))
    assert [row.step for row in log] == [60, 120, 180, 200]
    assert log[-1].loss < 0.01 * log[0].loss


def test_the_same_seed_gives_the_same_weights() -> None:
    settings = LoopSettings(30, learning_rate=0.05)
    first, again, other = _fit(1, settings)[0], _fit(1, settings)[0], _fit(2, settings)[0]
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    settings = LoopSettings(100, warmup=0.1)
    rates = [rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 0.001


def test_frozen_parameters_stay_and_the_model_ends_in_eval_mode() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    model[0].requires_grad_(False)
    before = model[0].weight.clone(), model[1].weight.clone()
    train(model, _batches(0), lambda b: nn.functional.mse_loss(model(b[0]), b[1]), LoopSettings(5))
    assert torch.equal(model[0].weight, before[0])
    assert not torch.equal(model[1].weight, before[1])
    assert not model.training


def test_gradients_are_clipped() -> None:
    """Read from the last gradient itself: AdamW's first steps do not depend on its size."""
    model = nn.Linear(4, 1)
    settings = LoopSettings(3, clip_norm=0.01, log_every=1)
    log = train(model, _batches(0), lambda b: 1000 * nn.functional.mse_loss(model(b[0]), b[1]), settings)
    norm = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm().item()
    assert log[-1].gradient_norm > 1
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    model = nn.Linear(4, 1)
    with pytest.raises(VlfilterError, match="step 1: lower the learning rate"):
        train(model, _batches(0), lambda b: model(b[0]).sum() / 0, LoopSettings(3))


def test_too_few_batches_are_an_error() -> None:
    model = nn.Linear(4, 1)
    with pytest.raises(VlfilterError, match="ran out before step 3"):
        train(model, [next(_batches(0))], lambda b: model(b[0]).mean(), LoopSettings(3))


def test_info_nce_knows_what_belongs_together() -> None:
    features = torch.eye(4)
    scale = torch.tensor(3.0)
    right, wrong = info_nce(features, 5 * features, scale), info_nce(features, features.roll(1, 0), scale)
    assert right < 1e-3 < wrong
    # symmetric, and equal to cross entropy over the cosines
    a, b = torch.randn(5, 3), torch.randn(5, 3)
    assert torch.allclose(info_nce(a, b, scale), info_nce(b, a, scale))
    flat = info_nce(torch.ones(6, 2), torch.ones(6, 2), scale)
    assert flat.item() == pytest.approx(torch.log(torch.tensor(6.0)).item(), abs=1e-5)


def test_info_nce_bounds_the_temperature() -> None:
    a, b = torch.randn(5, 3), torch.randn(5, 3)
    assert torch.equal(info_nce(a, b, torch.tensor(9.0)), info_nce(a, b, torch.tensor(20.0)))
