"""The one vision-language model: batches, readout, towers, training."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import CLIPVisionModel, SiglipVisionModel

from tests.models import small
from vlfilter.errors import VlfilterError
from vlfilter.models import vlm
from vlfilter.models.vision import VisionTower
from vlfilter.models.vlm import IMAGE_TOKEN, VisionLanguageModel, loss

COMPOSITION = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.integers(1, 40)), min_size=1, max_size=7, unique=True
)


@pytest.fixture(scope="module")
def model() -> VisionLanguageModel:
    return small.build()


@settings(max_examples=40, deadline=None)
@given(batch=COMPOSITION)
def test_neighbours_never_change_a_score(model: VisionLanguageModel, batch: list[tuple[int, int, int]]) -> None:
    samples = [small.sample(*numbers) for numbers in batch]
    with torch.inference_mode():
        together = model([ids for ids, _ in samples], [images for _, images in samples])
        alone = torch.cat([model([ids], [images]) for ids, images in samples])
    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("body", small.BODIES)
def test_neighbours_never_change_a_score_in_any_body(body: str) -> None:
    model = small.build(body, "clip", "linear", num_labels=3, select_layer=-2)
    samples = [small.sample(seed, images, words) for seed, images, words in [(1, 1, 5), (2, 0, 30), (3, 2, 1)]]
    with torch.inference_mode():
        together = model([ids for ids, _ in samples], [images for _, images in samples])
        alone = torch.cat([model([ids], [images]) for ids, images in samples])
    assert together.shape == (3, 3)
    assert together == pytest.approx(alone, abs=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3), "the scores must depend on the samples"


def test_every_word_and_every_image_counts(model: VisionLanguageModel) -> None:
    ids, images = small.sample(5, 2, 6)
    other_images = torch.cat([images[:1], small.pixels(1, seed=99)])
    other_ids = ids.clone()
    other_ids[(ids != IMAGE_TOKEN).nonzero()[0]] += 1
    with torch.inference_mode():
        base, swapped, changed_image, changed_word = (
            float(model([i], [p]))
            for i, p in [(ids, images), (ids, images.flip(0)), (ids, other_images), (other_ids, images)]
        )
    assert len({round(base, 5), round(swapped, 5), round(changed_image, 5), round(changed_word, 5)}) == 4


def test_images_go_through_the_tower_in_chunks(model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, images = small.sample(3, 3, 5)
    with torch.inference_mode():
        whole = model([ids], [images])
        monkeypatch.setattr(vlm, "IMAGE_CHUNK", 2)
        assert model([ids], [images]) == pytest.approx(whole, abs=1e-6)


def test_images_may_be_projected_before(model: VisionLanguageModel) -> None:
    first, second = small.sample(3, 2, 5), small.sample(4, 1, 9)
    with torch.inference_mode():
        vectors = model.encode_images(first[1])
        mixed = model([first[0], second[0]], [vectors, second[1]])
        assert mixed == pytest.approx(model([first[0], second[0]], [first[1], second[1]]), abs=1e-6)


def test_placeholders_must_match_images(model: VisionLanguageModel) -> None:
    good, bad = small.sample(1, 1), small.sample(2, 2)
    with pytest.raises(ValueError, match="sample 1 has 2 image placeholders but 1 images"):
        model([good[0], bad[0]], [good[1], bad[1][:1]])
    with pytest.raises(ValueError, match="sample 0 has 1 image placeholders but 0 images"):
        model([good[0]], [None])


def test_a_cut_sequence_is_read_at_its_new_end(model: VisionLanguageModel) -> None:
    ids, _ = small.sample(1, 0, 20)
    with torch.inference_mode():
        assert model([ids], [None], max_length=7) == pytest.approx(model([ids[:7]], [None]), abs=1e-6)


@pytest.mark.parametrize("layer", [-1, -2, 1, 0])
@pytest.mark.parametrize(("tower", "kind"), [("siglip", SiglipVisionModel), ("clip", CLIPVisionModel)])
def test_tower_gives_the_library_s_hidden_states(tower: str, kind: type[nn.Module], layer: int) -> None:
    config = small.TOWERS[tower]()
    ours = VisionTower(config, layer, "cls_patch").eval()
    library = kind(config).eval()
    library.load_state_dict(ours.model.state_dict())
    pixels = small.pixels(2)
    with torch.inference_mode():
        expected = library(pixels, output_hidden_states=True).hidden_states[layer]
        assert ours(pixels) == pytest.approx(expected, abs=1e-6)


def test_class_token_is_dropped_for_patch() -> None:
    config = small.TOWERS["clip"]()
    with_class, without = VisionTower(config, -1, "cls_patch"), VisionTower(config, -1, "patch")
    assert (with_class.patches, without.patches) == (37, 36)
    without.load_state_dict(with_class.state_dict())
    pixels = small.pixels(1)
    assert torch.equal(with_class(pixels)[:, 1:], without(pixels))


def test_impossible_layer_and_feature_are_refused() -> None:
    with pytest.raises(VlfilterError, match="select_layer 3"):
        VisionTower(small.TOWERS["clip"](), 3, "patch")
    with pytest.raises(VlfilterError, match="cls_patch"):
        VisionTower(small.TOWERS["clip"](), -1, "class")


def test_gemma_scales_images_like_words() -> None:
    """The published code multiplied words and images by √hidden; an image equal to a word must give the same score."""
    model = small.build("gemma2")
    words = torch.tensor([5, 6, 7])
    image = model.body.embed_tokens.weight[6][None, None]  # as the projector would give it, not yet scaled
    with torch.inference_mode():
        assert model([torch.tensor([5, IMAGE_TOKEN, 7])], [image]) == pytest.approx(model([words], [None]), abs=1e-5)


def test_loss_for_levels_and_for_classes() -> None:
    assert float(loss(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 3]))) == pytest.approx(0.5)
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    assert float(loss(logits, torch.tensor([0]))) == pytest.approx(float(-logits.log_softmax(-1)[0, 0]))


def test_training_moves_all_but_the_frozen_tower() -> None:
    model = small.build(num_labels=4).train()
    assert model.training
    assert not model.vision.training, "a frozen tower never drops out"
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    ids, images = small.sample(1, 1)
    first = loss(model([ids], [images]), torch.tensor([2]))
    first.backward()
    optimizer.step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not any(name.startswith("vision.") for name in moved)
    for part in ("projector.", "body.", "score."):
        assert any(name.startswith(part) for name in moved), part
    assert loss(model([ids], [images]), torch.tensor([2])) < first


def test_a_training_batch_without_images_still_runs_the_projector() -> None:
    model = small.build().train()
    ids, _ = small.sample(1, 0)
    loss(model([ids], [None]), torch.tensor([1.0])).backward()
    gradients = [parameter.grad for parameter in model.projector.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
