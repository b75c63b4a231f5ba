"""The model against numbers of the published classes, whose weights follow a rule (float32, CPU, eager attention)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from transformers import Qwen2Config, SiglipVisionConfig

from vlfilter.models.layout import published_name
from vlfilter.models.projectors import ProjectorConfig
from vlfilter.models.vlm import VisionLanguageModel, VlmConfig, loss

TOWER = "model.vision_tower.vision_tower."
A, B = [60, -200, 5, 6, 7, 8, 61], [60, -200, 9, 10, 11, 12, 13, 14, 15, 61]
INTERLEAVED, J = [60, 3, 4, -200, 5, 6, -200, 7, 8, 61], [60, 9, -200, 10, 61]


def _fill(tensors: dict[str, Tensor]) -> None:
    for index, name in enumerate(sorted(tensors)):
        tensor = tensors[name]
        k = torch.arange(tensor.numel(), dtype=torch.float64)
        values = (0.05 * torch.sin(0.37 * k + 0.11 * index)).view(tensor.shape)
        tensor.copy_(1 + values if "norm" in name and name.endswith("weight") else values)


@pytest.fixture(scope="module")
def model() -> Iterator[VisionLanguageModel]:
    body = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_theta=1e6,
        pad_token_id=63,
    )
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=54, patch_size=2
    )
    built = VisionLanguageModel(VlmConfig(body, vision, ProjectorConfig("aapool_mlp", 144)), "eager").eval()
    tensors = {published_name(name): tensor for name, tensor in built.state_dict().items()}
    with torch.no_grad():
        rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(TOWER)}
        tower = {name.removeprefix(TOWER): tensor for name, tensor in tensors.items() if name.startswith(TOWER)}
        assert (len(rest), sum(t.numel() for t in rest.values()), len(tower)) == (31, 22_400, 48)
        _fill(rest)
        _fill(tower)
        with torch.inference_mode():
            yield built


def image(s: int) -> Tensor:
    k = torch.arange(3 * 54 * 54, dtype=torch.float64)
    return torch.sin(0.001 * (s + 1) * k).float().view(1, 3, 54, 54)


def score(
    model: VisionLanguageModel, *samples: tuple[list[int], list[int]], max_length: int | None = 512
) -> list[float]:
    """Scores of a batch of (ids, numbers of images)."""
    ids = [torch.tensor(i) for i, _ in samples]
    images = [torch.cat([image(s) for s in numbers]) if numbers else None for _, numbers in samples]
    scores: list[float] = model(ids, images, max_length)[:, 0].tolist()
    return scores


def test_vision_and_projected_features(model: VisionLanguageModel) -> None:
    features = model.vision(image(0))[0]
    assert features[0, :4].tolist() == pytest.approx([0.3979431, 0.3004981, 0.2566562, 0.2006346], abs=1e-5)
    assert features[728, :4].tolist() == pytest.approx([0.1985686, 0.3971606, 0.350203, 0.0241952], abs=1e-5)
    projected = model.encode_images(image(0))[0]
    assert projected[0, :4].tolist() == pytest.approx([0.0031472, -0.0022597, -0.0101672, -0.0228863], abs=1e-5)
    assert projected[77, :4].tolist() == pytest.approx([0.0031148, -0.0028464, -0.0110119, -0.0235627], abs=1e-5)
    assert projected[143, :4].tolist() == pytest.approx([0.0004503, -0.0038214, -0.0098053, -0.0207835], abs=1e-5)
    assert float(projected.sum()) == pytest.approx(-2.4613862, abs=1e-3)


def test_captions(model: VisionLanguageModel) -> None:
    assert score(model, (A, [0])) == pytest.approx([-0.7096201], abs=1e-5)
    assert score(model, (B, [1])) == pytest.approx([-0.7141976], abs=1e-5)
    assert score(model, (A, [0]), (B, [1])) == pytest.approx([-0.7096199, -0.7141976], abs=1e-5)


def test_interleaved(model: VisionLanguageModel) -> None:
    assert score(model, (INTERLEAVED, [0, 1])) == pytest.approx([-0.7512205], abs=1e-5)
    assert score(model, (INTERLEAVED, [1, 0])) == pytest.approx([-0.7533125], abs=1e-5)
    assert score(model, (J, [2])) == pytest.approx([-0.7250302], abs=1e-5)


def test_without_eos_cut_and_without_image(model: VisionLanguageModel) -> None:
    assert score(model, ([60, -200, 1, 2, 3, 4, 5, 6, 7, 8], [0])) == pytest.approx([-0.9252940], abs=1e-5)
    assert score(model, (A, [0]), max_length=100) == pytest.approx([0.7099279], abs=1e-5)
    assert score(model, ([60, 5, 6, 61], [])) == pytest.approx([-0.4952890], abs=1e-5)


def test_loss(model: VisionLanguageModel) -> None:
    logits = model([torch.tensor(A), torch.tensor(B)], [image(0), image(1)])
    assert float(loss(logits, torch.tensor([3, 0]))) == pytest.approx(7.1356792, abs=1e-4)


def test_a_cut_document_takes_no_neighbours_image(model: VisionLanguageModel) -> None:
    """The original's flat image counter scores J with image 1 here (-0.7254575): it must be J's own (-0.7250302)."""
    assert score(model, (INTERLEAVED[:6], [0]), (J, [2]))[1] == pytest.approx(-0.7250302, abs=1e-5)
    with pytest.raises(ValueError, match="sample 0 has 1 image placeholders but 2 images"):
        score(model, (INTERLEAVED[:6], [0, 1]), (J, [2]))
