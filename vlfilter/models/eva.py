"""EVA-CLIP's ViT-g/14 from one file of weights (LAVIS's `eva_vit_g.pth`), as the vision tower of BLIP-2.

The layout is timm's: `cls_token`, `pos_embed`, `patch_embed.proj`, `blocks.N.…`, with biases for queries and values and
none for keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Blip2VisionConfig

from vlfilter.errors import VlfilterError
from vlfilter.models.vision import VisionConfig
from vlfilter.models.weights import StoredTensor, open_weights

LAYERS = 39  # of the file's 40: BLIP-2, MiniGPT-4 and v2 leave out the last
HEAD_WIDTH = 88
_UNUSED = re.compile(r"(norm|fc_norm|head)\.|mask_token$")  # behind the last block
# their name → transformers', below a block and outside
_BLOCK = {
    "norm1.weight": "layer_norm1.weight", "norm1.bias": "layer_norm1.bias", "attn.qkv.weight": "self_attn.qkv.weight",
    "attn.proj.weight": "self_attn.projection.weight", "attn.proj.bias": "self_attn.projection.bias",
    "norm2.weight": "layer_norm2.weight", "norm2.bias": "layer_norm2.bias", "mlp.fc1.weight": "mlp.fc1.weight",
    "mlp.fc1.bias": "mlp.fc1.bias", "mlp.fc2.weight": "mlp.fc2.weight", "mlp.fc2.bias": "mlp.fc2.bias",
}  # fmt: skip
_OUTSIDE = {
    "cls_token": "embeddings.class_embedding", "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
    "patch_embed.proj.bias": "embeddings.patch_embedding.bias",
}  # fmt: skip
_POSITIONS, _QUERY_BIAS, _VALUE_BIAS = "pos_embed", "attn.q_bias", "attn.v_bias"


def eva_tower(path: Path, image_size: int | None = None) -> tuple[VisionConfig, dict[str, StoredTensor]]:
    """The configuration of a file's tower, and its tensors by the names of `Blip2VisionModel`.

    `image_size` is the pixels of an image's side, to which the position embeddings are fitted (None: as in the file).
    The norm behind the blocks, which the file does not have, does nothing: weight 1, bias 0. Raises `VlfilterError`
    listing what is missing or unexpected, key by key.
    """
    stored = {name: tensor for name, tensor in open_weights([path]).items() if not _UNUSED.match(name)}
    numbers = {name: int(found[1]) for name in stored if (found := re.match(r"blocks\.(\d+)\.", name))}
    layers = min(max(numbers.values(), default=-1) + 1, LAYERS)
    stored = {name: tensor for name, tensor in stored.items() if numbers.get(name, 0) < layers}
    names = dict(_OUTSIDE)
    for layer in range(layers):
        names |= {f"blocks.{layer}.{theirs}": f"encoder.layers.{layer}.{ours}" for theirs, ours in _BLOCK.items()}
    biases = {f"blocks.{layer}.{bias}" for layer in range(layers) for bias in (_QUERY_BIAS, _VALUE_BIAS)}
    _check_names(stored, names.keys() | biases | {_POSITIONS}, layers, path)
    config = _config(stored, layers, image_size)
    tensors = {ours: stored[theirs] for theirs, ours in names.items()}
    positions, width = stored[_POSITIONS], int(config.hidden_size)
    count = (int(config.image_size) // int(config.patch_size)) ** 2 + 1
    tensors["embeddings.position_embedding"] = StoredTensor(
        (1, count, width), partial(_fitted, positions, math.isqrt(count - 1))
    )
    for layer in range(layers):
        query, value = (stored[f"blocks.{layer}.{bias}"] for bias in (_QUERY_BIAS, _VALUE_BIAS))
        bias = StoredTensor((3 * width,), partial(_biases, query, value))
        tensors[f"encoder.layers.{layer}.self_attn.qkv.bias"] = bias
    tensors["post_layernorm.weight"] = StoredTensor((width,), partial(torch.ones, width))
    tensors["post_layernorm.bias"] = StoredTensor((width,), partial(torch.zeros, width))
    return config, tensors


def fit_positions(positions: Tensor, side: int) -> Tensor:
    """Position embeddings (1, 1 + n², width) for a grid of `side` × `side` patches, bicubic in float32; the class
    token's stays."""
    first, grid = positions[:, :1].float(), positions[:, 1:].float()
    old = math.isqrt(grid.shape[1])
    if old == side:
        return positions
    image = grid.transpose(1, 2).unflatten(2, (old, old))
    fitted = nn.functional.interpolate(image, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([first, fitted.flatten(2).transpose(1, 2)], dim=1)


def _config(stored: Mapping[str, StoredTensor], layers: int, image_size: int | None) -> VisionConfig:
    width, _, patch, _ = stored["patch_embed.proj.weight"].shape
    side = math.isqrt(stored[_POSITIONS].shape[1] - 1)
    return Blip2VisionConfig(
        hidden_size=width,
        intermediate_size=stored["blocks.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=layers,
        num_attention_heads=max(width // HEAD_WIDTH, 1),
        image_size=image_size or side * patch,
        patch_size=patch,
    )


def _check_names(stored: Mapping[str, StoredTensor], wanted: set[str], layers: int, path: Path) -> None:
    if not layers:
        raise VlfilterError(f"{path} is no EVA vision tower: it has no blocks.0, blocks.1, ….")
    missing, unexpected = sorted(wanted - stored.keys()), sorted(stored.keys() - wanted)
    lines = [f"missing: {name}" for name in missing] + [f"unexpected: {name}" for name in unexpected]
    if lines:
        raise VlfilterError(f"{path} is no EVA vision tower of the published layout:\n" + "\n".join(lines))


def _fitted(positions: StoredTensor, side: int) -> Tensor:
    return fit_positions(positions.read(), side)


def _biases(query: StoredTensor, value: StoredTensor) -> Tensor:
    first = query.read()
    return torch.cat([first, torch.zeros_like(first), value.read()])
