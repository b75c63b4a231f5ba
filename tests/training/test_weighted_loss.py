"""The weighted loss is the published one, its gradients too, and finite where the published one is not."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vlfilter.training import causal, weighted
from vlfilter.training.causal import TokenLosses
from vlfilter.training.score_net import ScoreNet, read_score_net, write_score_net
from vlfilter.training.weighted import SampleLoss, by_sample, weighted_loss

FIXTURES = Path(__file__).parent.parent / "fixtures" / "self_filter"
FLOAT32 = ("clip_fp32", "clip1536_fp32", "clip_fp32_emptyrow", "uniform", "bsz1")
BFLOAT16 = ("clip_bf16", "scores_bf16")


class Run(NamedTuple):
    loss: Tensor
    weights: Tensor
    grad_score_net: Tensor
    grad_logits: Tensor


def run(arrays: dict[str, Tensor], dtype: torch.dtype, kind: SampleLoss = "token_sum") -> Run:
    """Through the modules that train: logits come in as hidden states of a head that is the identity."""
    net = ScoreNet(arrays["features"].shape[1], seed=0, computed=dtype)
    net.weight = nn.Parameter(arrays["score_net_weight"].to(dtype))
    logits = arrays["logits"].clone().requires_grad_()
    head = TokenLosses(nn.Parameter(torch.eye(logits.shape[2])), None)
    following = arrays["labels"][:, 1:]
    learnt = following >= 0
    losses = head(logits[:, :-1][learnt], following[learnt])
    scores, _ = net(arrays["features"].float())
    out = weighted_loss(scores, by_sample(losses, learnt), learnt.sum(1), kind)
    out.loss.backward()
    assert net.weight.grad is not None
    assert logits.grad is not None
    return Run(out.loss.detach(), out.weights, net.weight.grad.float(), logits.grad)


def fixture(name: str) -> dict[str, Tensor]:
    with np.load(FIXTURES / f"weighted_loss_{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.mark.parametrize("name", FLOAT32)
def test_loss_weights_and_gradients_are_the_published_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal, "CHUNK", 5)  # samples lie across chunks
    arrays = fixture(name)
    ours = run(arrays, torch.float32)
    for ours_, theirs in zip(ours, [v for k, v in arrays.items() if k.startswith("expected")], strict=True):
        torch.testing.assert_close(ours_, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BFLOAT16)
def test_in_bfloat16_they_are_the_published_ones_too(name: str) -> None:
    arrays = fixture(name)
    ours = run(arrays, torch.bfloat16)
    torch.testing.assert_close(ours.weights, arrays["expected_weights"], rtol=4e-3, atol=0)
    torch.testing.assert_close(ours.loss, arrays["expected_loss"], rtol=4e-3, atol=0)
    torch.testing.assert_close(ours.grad_logits, arrays["expected_grad_logits"], rtol=4e-3, atol=4e-3)
    # the published gradient, itself a bfloat16 number, to its last digit
    step = 2**-8 * float(arrays["expected_grad_score_net"].abs().max())
    torch.testing.assert_close(ours.grad_score_net, arrays["expected_grad_score_net"], rtol=0, atol=2 * step)
    exact = run(arrays, torch.float32)
    assert not torch.allclose(exact.weights, arrays["expected_weights"], rtol=1e-4), "bfloat16 shows"


def test_a_loss_that_underflowed_is_finite() -> None:
    arrays = fixture("underflow")
    ours = run(arrays, torch.float32)
    assert torch.isinf(arrays["expected_loss"])
    following = arrays["labels"][:, 1:]
    plain = nn.functional.cross_entropy(
        arrays["logits"][:, :-1].flatten(0, 1), following.flatten(), ignore_index=-100, reduction="none"
    ).view(following.shape)
    expected = 2 * (arrays["expected_weights"] * plain.sum(1)).sum() / (following >= 0).sum()
    torch.testing.assert_close(ours.loss, expected, rtol=1e-5, atol=1e-5)
    assert bool(torch.isfinite(ours.grad_logits).all())
    assert bool(torch.isfinite(ours.grad_score_net).all())


def test_equal_scores_make_it_plain_cross_entropy() -> None:
    arrays = fixture("uniform")
    torch.testing.assert_close(run(arrays, torch.float32).loss, arrays["plain_cross_entropy"], rtol=1e-6, atol=0)


def test_a_batch_of_one_teaches_the_score_net_nothing() -> None:
    assert float(run(fixture("bsz1"), torch.float32).grad_score_net.abs().max()) == 0


def test_a_batch_without_learnt_positions_is_no_division_by_zero() -> None:
    arrays = fixture("clip_fp32")
    arrays["labels"] = torch.full_like(arrays["labels"], -100)
    for kind in ("token_sum", "sample_mean"):
        ours = run(arrays, torch.float32, kind)  # type: ignore[arg-type]
        assert float(ours.loss) == 0
        assert bool(torch.isfinite(ours.grad_score_net).all())


NUMBERS = st.floats(-4, 4, width=32)
SAMPLES = st.lists(st.tuples(NUMBERS, st.floats(0.015625, 8, width=32), st.integers(1, 40)), min_size=2, max_size=12)


def columns(samples: list[tuple[float, float, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (B,), losses (B, 1) summed over positions, and positions (B,); float64: only the formula is looked at."""
    scores, means, tokens = (torch.tensor(column) for column in zip(*samples, strict=True))
    return scores.double(), (means.double() * tokens)[:, None], tokens


@pytest.mark.parametrize("kind", ["token_sum", "sample_mean"])
@settings(max_examples=50, deadline=None)
@given(samples=SAMPLES, by=NUMBERS)
def test_moving_all_scores_changes_nothing(
    kind: SampleLoss, samples: list[tuple[float, float, int]], by: float
) -> None:
    scores, sums, tokens = columns(samples)
    before, after = weighted_loss(scores, sums, tokens, kind), weighted_loss(scores + by, sums, tokens, kind)
    torch.testing.assert_close(after.loss, before.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after.weights, before.weights, rtol=1e-5, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(samples=SAMPLES)
def test_the_score_nets_gradient_is_the_specified_one(samples: list[tuple[float, float, int]]) -> None:
    """dL/ds_i = w_i (B / n) (S_i − Σ w_j S_j): with per-sample means, (m_i − Σ w_j m_j) w_i, whatever the lengths."""
    scores, sums, tokens = columns(samples)
    w, own = scores.softmax(0), sums[:, 0]
    for kind, values in (("token_sum", own * len(samples) / tokens.sum()), ("sample_mean", own / tokens)):
        free = scores.clone().requires_grad_()
        weighted_loss(free, sums, tokens, kind).loss.backward()  # type: ignore[arg-type]
        torch.testing.assert_close(free.grad, w * (values - (w * values).sum()), rtol=1e-4, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(samples=SAMPLES, longer=st.integers(2, 9))
def test_a_mean_a_sample_is_blind_to_length(samples: list[tuple[float, float, int]], longer: int) -> None:
    scores, sums, tokens = columns(samples)
    times = torch.ones(len(samples), dtype=torch.int64)
    times[0] = longer  # the first sample says the same, so many times
    for kind, moves in (("sample_mean", False), ("token_sum", True)):
        slopes = []
        for factor in (torch.ones_like(times), times):
            free = scores.clone().requires_grad_()
            weighted_loss(free, sums * factor[:, None], tokens * factor, kind).loss.backward()  # type: ignore[arg-type]
            slopes.append(free.grad)
        assert torch.allclose(slopes[0], slopes[1], rtol=1e-6, atol=1e-9) is not moves


@pytest.mark.parametrize("kind", ["token_sum", "sample_mean"])
def test_the_mean_gradient_of_all_processes_is_that_of_the_joint_batch(
    kind: SampleLoss, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rank after the other; real processes are in test_self_filter_slow.py."""
    draw = torch.Generator().manual_seed(3)
    scores, losses = torch.randn(6, generator=draw).double(), torch.rand(6, 5, generator=draw).double()
    learnt = torch.rand(6, 5, generator=draw) < 0.7
    losses, tokens = losses * learnt, learnt.sum(1)
    joint = [scores.clone().requires_grad_(), losses.clone().requires_grad_()]
    expected = weighted_loss(joint[0], joint[1], tokens, kind)
    expected.loss.backward()
    parts = [slice(0, 2), slice(2, 4), slice(4, 6)]

    def all_gather(told: list[Tensor], own: Tensor) -> None:
        for numbers, part in zip(told, parts, strict=True):
            numbers.copy_(torch.stack([scores[part].float(), losses[part].sum(1), tokens[part]]))
        assert torch.equal(told[weighted.dist.get_rank()], own)

    monkeypatch.setattr(weighted.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(weighted.dist, "get_world_size", lambda: len(parts))
    monkeypatch.setattr(weighted.dist, "all_gather", all_gather)
    for rank, part in enumerate(parts):
        monkeypatch.setattr(weighted.dist, "get_rank", lambda rank=rank: rank)
        own = [scores[part].clone().requires_grad_(), losses[part].clone().requires_grad_()]
        found = weighted.weighted_loss_of_all(own[0], own[1], tokens[part], kind)
        found.loss.backward()
        torch.testing.assert_close(found.loss, expected.loss, rtol=1e-6, atol=0)
        torch.testing.assert_close(found.weights, expected.weights)
        for mine, theirs in zip(own, joint, strict=True):
            assert mine.grad is not None
            assert theirs.grad is not None
            torch.testing.assert_close(mine.grad / len(parts), theirs.grad[part], rtol=1e-5, atol=1e-7)


def test_the_net_begins_the_same_whatever_was_drawn_before(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = ScoreNet(1536, seed=42, computed=torch.float32)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = ScoreNet(1536, seed=42, computed=torch.float32)
    assert torch.equal(first.weight, second.weight)
    assert not torch.equal(first.weight, ScoreNet(1536, seed=43, computed=torch.float32).weight)
    assert first.bias is None
    assert float(first.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "torch's own state is left alone"
    write_score_net(tmp_path, first.weight.detach())
    assert torch.equal(read_score_net(tmp_path), first.weight)
    assert [path.name for path in tmp_path.iterdir()] == ["score_net.safetensors"]


def test_a_float32_net_sees_the_exact_weight_and_the_held_one_learns() -> None:
    vectors = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    net = ScoreNet(64, seed=0, computed=torch.float32)
    exact = net.weight.detach().clone()
    net.to(torch.bfloat16)
    rounded, _ = net(vectors)
    net.exact = exact
    scores, norm = net(vectors)
    assert torch.equal(scores, nn.functional.linear(vectors, exact)[:, 0])
    assert not torch.allclose(scores, rounded, atol=1e-5)
    assert torch.equal(norm, exact.norm())
    scores.sum().backward()
    assert net.weight.grad is not None
    assert torch.equal(net.weight.grad, vectors.sum(0, keepdim=True).bfloat16())
