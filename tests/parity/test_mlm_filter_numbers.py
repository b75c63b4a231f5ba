"""MLM-Filter's two layouts against numbers of the published classes, whose weights follow a rule (CPU, float32)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, Qwen2Config, SiglipVisionConfig

from vlfilter.models.lanes import Row, greedy
from vlfilter.models.layout import published_name
from vlfilter.models.projectors import ProjectorConfig
from vlfilter.models.vlm import VisionLanguageModel, VlmConfig

TOWER = "model.vision_tower.vision_tower."
PAD = 63
A, B = [60, -200, 5, 6, 7, 8], [60, -200, 9, 10, 11, 12, 13, 14, 15]
BODY = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 512}  # fmt: skip
VISION = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}


def qwen() -> VlmConfig:
    body = Qwen2Config(**BODY, num_key_value_heads=2, rope_theta=1e6, tie_word_embeddings=True)
    vision = SiglipVisionConfig(**VISION, num_hidden_layers=2, image_size=54, patch_size=2)
    return VlmConfig(body, vision, ProjectorConfig("aapool_mlp", 144), select_layer=-1, head="lm")


def llama() -> VlmConfig:
    body = LlamaConfig(**BODY, tie_word_embeddings=False)
    vision = CLIPVisionConfig(**VISION, num_hidden_layers=3, image_size=28, patch_size=14, projection_dim=16)
    return VlmConfig(body, vision, ProjectorConfig("mlp2x_gelu"), select_layer=-2, head="lm")


def _fill(tensors: dict[str, Tensor], amplitude: float) -> None:
    for index, name in enumerate(sorted(tensors)):
        tensor = tensors[name]
        k = torch.arange(tensor.numel(), dtype=torch.float64)
        values = (amplitude * torch.sin(0.37 * k + 0.11 * index)).view(tensor.shape)
        tensor.copy_(1 + values if "norm" in name and name.endswith("weight") else values)


def build(config: Callable[[], VlmConfig], attention: str) -> VisionLanguageModel:
    model = VisionLanguageModel(config(), attention).eval()
    tensors = {published_name(name): tensor for name, tensor in model.state_dict().items()}
    if model.tied:  # the published class stores a head of its own, filled first and then tied
        tensors["lm_head.weight"] = torch.empty(64, 32)
    with torch.no_grad():
        _fill({name: tensor for name, tensor in tensors.items() if not name.startswith(TOWER)}, 0.3)
        _fill({name.removeprefix(TOWER): t for name, t in tensors.items() if name.startswith(TOWER)}, 0.05)
    return model


def image(model: VisionLanguageModel, s: int) -> Tensor:
    size = model.config.vision.image_size
    k = torch.arange(3 * size * size, dtype=torch.float64)
    return torch.sin(0.001 * (s + 1) * k).float().view(1, 3, size, size)


# (layout, logits[:5] after A and after B, the three tokens that follow each)
GOLDEN: dict[str, Any] = {
    "qwen": (
        qwen,
        [
            [0.4504195, 0.420219, 0.1778835, -0.1542513, -0.4085167],
            [-0.2182426, -0.9685289, -1.2298821, -0.8703657, -0.071471],
        ],
        [[9, 12, 21], [15, 15, 15]],
    ),
    "llama": (
        llama,
        [
            [1.0546271, 0.2701215, -0.6507467, -1.2431048, -1.2079183],
            [-0.8753324, -1.0786945, -0.7375093, -0.0240147, 0.7016032],
        ],
        [[51, 42, 41], [57, 22, 39]],
    ),
}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", GOLDEN)
@torch.inference_mode()
def test_logits_and_greedy_tokens(name: str, attention: str) -> None:
    config, logits, tokens = GOLDEN[name]
    model = build(config, attention)
    images = [image(model, 0), image(model, 1)]
    alone = torch.cat([model([torch.tensor(ids)], [pixels]) for ids, pixels in zip((A, B), images, strict=True)])
    assert alone[:, :5] == pytest.approx(torch.tensor(logits), abs=1e-5)
    together = model([torch.tensor(A), torch.tensor(B)], images)
    assert together[:, :5] == pytest.approx(torch.tensor(logits), abs=1e-5)
    rows = [Row(A[:3], [A[3:]]), Row(B[:3], [B[3:]])]
    assert greedy(model, rows, images, 3)[:, 0].tolist() == tokens
    assert [greedy(model, [row], [i], 3)[0, 0].tolist() for row, i in zip(rows, images, strict=True)] == tokens


@pytest.mark.parametrize(("name", "published"), [("qwen", [44, 61]), ("llama", [25, 16, 58])])  # 61: end of text
@torch.inference_mode()
def test_where_the_published_padding_leads(name: str, published: list[int]) -> None:
    """The published v2 code pads A on its left to B's length and masks nothing: A's answer then depends on B.

    Ours never pads on the left, so that A beside B answers as A alone (the test above). This shows the difference.
    """
    config, logits, tokens = GOLDEN[name]
    model = build(config, "eager")
    padded = [PAD] * (len(B) - len(A)) + A
    found = model([torch.tensor(padded)], [image(model, 0)])[0, :5]
    assert (found - torch.tensor(logits[0])).abs().max() > 0.01
    if name == "qwen":
        wanted = [0.4401836, 0.5101578, 0.3225937, -0.0278218, -0.3641927]
        assert found == pytest.approx(torch.tensor(wanted), abs=1e-5)
    answered = greedy(model, [Row(padded[:-1], [padded[-1:]])], [image(model, 0)], 3)[0, 0].tolist()
    assert answered[: len(published)] == published
    assert answered[0] != tokens[0][0]
