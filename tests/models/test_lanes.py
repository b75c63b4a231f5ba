"""Several questions in one pass give what each gives alone: every body, both attentions, any neighbours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models import small
from vlfilter.models.lanes import Row, greedy, lane_log_probabilities, tree_log_probabilities
from vlfilter.models.vlm import VisionLanguageModel

TREE = ((), (5,), (6,), (5, 7))
TOKENS = [5, 6, 7, 9]
BODIES = [*[(body, "sdpa") for body in small.BODIES if body != "gemma2"], *[(body, "eager") for body in small.BODIES]]


def build(
    body: str = "qwen2", attention: str = "sdpa", *, tied: bool = False, window: int = 512
) -> VisionLanguageModel:
    config = replace(small.config(body), head="lm")
    config.body.tie_word_embeddings = tied
    if body == "gemma2":
        config.body.sliding_window = window
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionLanguageModel(config, attention)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.15)
    return model.eval()


def ids(count: int, seed: int) -> list[int]:
    return torch.randint(3, 320, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


# prefixes and lanes of unequal lengths, the image in several places
ROWS = [
    Row([1, -200, *ids(5, 1)], [ids(4, 2), ids(9, 3), ids(1, 4)]),
    Row([-200, *ids(11, 5)], [ids(2, 6), ids(3, 7), ids(7, 8)]),
    Row([*ids(2, 9), -200], [ids(5, 10), ids(1, 11), ids(1, 12)]),
]
IMAGES = [small.pixels(1, seed) for seed in range(3)]


def plainly(model: VisionLanguageModel, row: Row, lane: int, image: Tensor, path: tuple[int, ...] = ()) -> Tensor:
    """Log-probabilities (vocabulary,) after prefix, one lane and a path, run alone."""
    return model([torch.tensor([*row.prefix, *row.lanes[lane], *path])], [image])[0].log_softmax(-1)


@pytest.mark.parametrize(("body", "attention"), BODIES)
@torch.inference_mode()
def test_probabilities_equal_separate_runs(body: str, attention: str) -> None:
    model = build(body, attention)
    found = tree_log_probabilities(model, ROWS, IMAGES, TREE, TOKENS)
    assert found.shape == (3, 3, len(TREE), len(TOKENS))
    for b, (row, image) in enumerate(zip(ROWS, IMAGES, strict=True)):
        for lane in range(3):
            for i, path in enumerate(TREE):
                assert found[b, lane, i] == pytest.approx(plainly(model, row, lane, image, path)[TOKENS], abs=1e-5)


@pytest.mark.parametrize(("body", "attention"), BODIES)
@torch.inference_mode()
def test_likelihoods_of_lanes_equal_separate_runs(body: str, attention: str) -> None:
    model = build(body, attention)
    found = lane_log_probabilities(model, ROWS, IMAGES)
    for b, (row, image) in enumerate(zip(ROWS, IMAGES, strict=True)):
        for lane, tokens in enumerate(row.lanes):
            alone = [
                float(model([torch.tensor([*row.prefix, *tokens[:i]])], [image])[0].log_softmax(-1)[token])
                for i, token in enumerate(tokens)
            ]
            assert found[b][lane].tolist() == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize(("body", "attention"), BODIES)
@torch.inference_mode()
def test_greedy_equals_separate_runs_without_a_cache(body: str, attention: str) -> None:
    model = build(body, attention)
    found = greedy(model, ROWS, IMAGES, 6)
    for b, (row, image) in enumerate(zip(ROWS, IMAGES, strict=True)):
        for lane in range(3):
            written: list[int] = []
            for _ in range(6):
                written.append(int(plainly(model, row, lane, image, tuple(written)).argmax()))
            assert found[b, lane].tolist() == written


@torch.inference_mode()
def test_neighbours_and_other_lanes_change_nothing() -> None:
    model = build()
    together = tree_log_probabilities(model, ROWS, IMAGES, TREE, TOKENS)
    reversed_ = tree_log_probabilities(model, ROWS[::-1], IMAGES[::-1], TREE, TOKENS).flip(0)
    assert together == pytest.approx(reversed_, abs=1e-5)
    for b, (row, image) in enumerate(zip(ROWS, IMAGES, strict=True)):
        alone = tree_log_probabilities(model, [row], [image], TREE, TOKENS)
        assert together[b] == pytest.approx(alone[0], abs=1e-5)
        for lane in range(3):
            single = tree_log_probabilities(model, [Row(row.prefix, [row.lanes[lane]])], [image], TREE, TOKENS)
            assert together[b, lane] == pytest.approx(single[0, 0], abs=1e-5)


@torch.inference_mode()
def test_images_already_projected_give_the_same() -> None:
    model = build()
    vectors = model.encode_images(torch.cat(IMAGES)).split(1)
    plain = tree_log_probabilities(model, ROWS, IMAGES, TREE, TOKENS)
    assert tree_log_probabilities(model, ROWS, vectors, TREE, TOKENS) == pytest.approx(plain, abs=1e-6)


@torch.inference_mode()
def test_a_tied_head_is_the_embeddings() -> None:
    model = build(tied=True)
    assert "lm_head.weight" not in model.state_dict()
    found = tree_log_probabilities(model, ROWS[:1], IMAGES[:1], ((),), TOKENS)[0, 1, 0]
    assert found == pytest.approx(plainly(model, ROWS[0], 1, IMAGES[0])[TOKENS], abs=1e-5)


@torch.inference_mode()
def test_the_probabilities_of_the_whole_vocabulary_sum_to_1() -> None:
    found = tree_log_probabilities(build(), ROWS[:1], IMAGES[:1], TREE, range(320))
    assert found.exp().sum(-1) == pytest.approx(torch.ones(1, 3, len(TREE)), abs=1e-5)


@torch.inference_mode()
def test_a_lane_that_stopped_goes_on_with_the_stop_and_disturbs_no_other() -> None:
    model = build()
    free = greedy(model, ROWS, IMAGES, 8)
    stop = int(free[0, 0, 2])
    assert (free == stop).any(-1).tolist() != [[True] * 3] * 3, "some lane must not stop"
    stopped = greedy(model, ROWS, IMAGES, 8, stop)
    for lane, whole in zip(stopped.flatten(0, 1).tolist(), free.flatten(0, 1).tolist(), strict=True):
        end = whole.index(stop) if stop in whole else 8
        assert lane == whole[:end] + [stop] * (8 - end)


@torch.inference_mode()
def test_all_stopped_ends_the_work_early(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    row = Row(ROWS[0].prefix, ROWS[0].lanes[:1])
    first, second = greedy(model, [row], IMAGES[:1], 2)[0, 0].tolist()
    runs: list[int] = []
    forward = model.body.forward

    def counted(**given: Any) -> Any:
        runs.append(1)
        return forward(**given)

    monkeypatch.setattr(model.body, "forward", counted)
    assert greedy(model, [row], IMAGES[:1], 50, stop=second)[0, 0].tolist() == [first, *[second] * 49]
    assert len(runs) == 2


@torch.inference_mode()
def test_a_window_that_is_wide_enough_is_as_none() -> None:
    """A narrower one would need a mask of its own: the scorer keeps its sequences within it."""
    image, row = IMAGES[:1], ROWS[:1]
    wide, none = build("gemma2", "eager", window=64), build("gemma2", "eager", window=512)
    assert torch.equal(greedy(wide, row, image, 20), greedy(none, row, image, 20))
