"""EVA's vision tower from its published file, against its blocks written down as timm runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, interpolate, layer_norm, linear
from transformers import Blip2VisionModel

from tests.models import minigpt, small
from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import open_tower
from vlfilter.models.eva import eva_tower, fit_positions
from vlfilter.models.vision import VisionTower
from vlfilter.models.weights import fill

WIDTH, PATCH = minigpt.WIDTH, minigpt.PATCH


def tower(path: Path, image_size: int | None = None) -> VisionTower:
    config, tensors = eva_tower(path, image_size)
    made = VisionTower(config, -1, "patch")
    fill(made.model, tensors, str(path), "cpu", lambda _: torch.float32)
    return made


def as_published(state: dict[str, Tensor], pixels: Tensor, blocks: int) -> Tensor:
    """EVA's forward pass with its own names, then `ln_vision` with weight 1 and bias 0, without the class token."""
    count = len(pixels)
    patches = torch.nn.functional.conv2d(
        pixels, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH
    )
    hidden = torch.cat([state["cls_token"].expand(count, -1, -1), patches.flatten(2).transpose(1, 2)], 1)
    hidden = hidden + state["pos_embed"]
    for i in range(blocks):
        own = {name.removeprefix(f"blocks.{i}."): t for name, t in state.items() if name.startswith(f"blocks.{i}.")}
        normed = layer_norm(hidden, (WIDTH,), own["norm1.weight"], own["norm1.bias"], 1e-6)
        bias = torch.cat([own["attn.q_bias"], torch.zeros(WIDTH), own["attn.v_bias"]])
        qkv = linear(normed, own["attn.qkv.weight"], bias).reshape(count, -1, 3, 2, 88).permute(2, 0, 3, 1, 4)
        weights = ((qkv[0] * 88**-0.5) @ qkv[1].transpose(-2, -1)).softmax(-1)
        mixed = (weights @ qkv[2]).transpose(1, 2).reshape(count, -1, WIDTH)
        hidden = hidden + linear(mixed, own["attn.proj.weight"], own["attn.proj.bias"])
        normed = layer_norm(hidden, (WIDTH,), own["norm2.weight"], own["norm2.bias"], 1e-6)
        inner = gelu(linear(normed, own["mlp.fc1.weight"], own["mlp.fc1.bias"]))
        hidden = hidden + linear(inner, own["mlp.fc2.weight"], own["mlp.fc2.bias"])
    return layer_norm(hidden, (WIDTH,), eps=1e-5)[:, 1:]


def test_features_are_those_of_the_published_blocks(tmp_path: Path) -> None:
    made = tower(minigpt.eva_file(tmp_path / "eva.pth"))
    state = {name: tensor.half().float() for name, tensor in minigpt.eva_state().items()}
    pixels = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(3))
    assert made.patches == 9
    assert torch.allclose(made(pixels), as_published(state, pixels, 3), atol=1e-5)


def test_the_last_of_forty_blocks_is_left_out(tmp_path: Path) -> None:
    config, tensors = eva_tower(minigpt.eva_file(tmp_path / "eva.pth", blocks=40))
    assert config.num_hidden_layers == 39
    assert not any(".39." in name for name in tensors)
    assert tensors.keys() == Blip2VisionModel(config).state_dict().keys()


def test_positions_are_fitted_to_larger_images(tmp_path: Path) -> None:
    path = minigpt.eva_file(tmp_path / "eva.pth")
    config, tensors = eva_tower(path, 48)
    assert config.image_size == 48
    fitted, given = tensors["embeddings.position_embedding"].read(), minigpt.eva_state()["pos_embed"].half().float()
    assert fitted.shape == (1, 37, WIDTH)
    assert torch.equal(fitted[:, 0], given[:, 0]), "the class token's stays"
    grid = given[0, 1:].reshape(3, 3, WIDTH).permute(2, 0, 1)[None]
    expected = (
        interpolate(grid, size=(6, 6), mode="bicubic", align_corners=False)[0].permute(1, 2, 0).reshape(36, WIDTH)
    )
    assert torch.allclose(fitted[0, 1:], expected)
    assert torch.equal(fit_positions(given, 3), given)
    assert open_tower(path, 48).images.height == 48


def test_its_norm_is_the_checkpoint_s_and_its_features_keep_their_type() -> None:
    made = VisionTower(small.TOWERS["eva"](), -1, "patch")
    pixels = small.pixels(1)
    before = made(pixels)
    with torch.no_grad():
        made.model.post_layernorm.weight.mul_(3.0)
        made.model.post_layernorm.bias.add_(1.0)
    assert torch.allclose(made(pixels), 3 * before + 1, atol=1e-4)
    assert made.to(torch.bfloat16)(pixels.bfloat16()).dtype == torch.bfloat16


def test_what_does_not_belong_is_told_key_by_key(tmp_path: Path) -> None:
    path, state = tmp_path / "eva.pth", minigpt.eva_state()
    del state["blocks.1.attn.q_bias"], state["cls_token"]
    torch.save(state | {"blocks.0.gamma_1": torch.ones(1)}, path)
    with pytest.raises(VlfilterError) as raised:
        eva_tower(path)
    assert str(raised.value).splitlines()[1:] == [
        "missing: blocks.1.attn.q_bias", "missing: cls_token", "unexpected: blocks.0.gamma_1"
    ]  # fmt: skip
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(VlfilterError, match=r"is no EVA vision tower: it has no blocks\.0"):
        eva_tower(path)
    with pytest.raises(VlfilterError, match="No such file"):
        eva_tower(tmp_path / "none.pth")
