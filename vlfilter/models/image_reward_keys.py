"""Names of ImageReward's tensors: the published ones (timm's ViT, BLIP's BERT) → transformers' BLIP classes'."""

from __future__ import annotations

import re

_TEXT, _VISION, _HEAD = "blip.text_encoder.", "blip.visual_encoder.", "mlp.layers."
_OUTSIDE = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
    "patch_embed.proj.bias": "embeddings.patch_embedding.bias",
    "norm.weight": "post_layernorm.weight",
    "norm.bias": "post_layernorm.bias",
}
_IN_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)")


def our_name(published: str) -> str | None:
    """The name in `ImageReward`, or None for what its score does not use (BLIP's projections, position ids)."""
    if published.startswith(_HEAD):
        return "head." + published.removeprefix(_HEAD)
    if published.startswith(_TEXT):
        name = published.removeprefix(_TEXT)
        return None if name == "embeddings.position_ids" else f"text.{name}"
    if not published.startswith(_VISION):
        return None
    name = published.removeprefix(_VISION)
    block = _BLOCK.fullmatch(name)
    if block is not None:
        number, part, kind = block.groups()
        return f"vision.encoder.layers.{number}.{_IN_BLOCK.get(part, part)}.{kind}"
    return f"vision.{_OUTSIDE.get(name, name)}"


def published_name(ours: str) -> str:
    """The inverse of `our_name`, for writing the published layout."""
    part, _, name = ours.partition(".")
    if part != "vision":
        return {"head": _HEAD, "text": _TEXT}[part] + name
    outside = {new: old for old, new in _OUTSIDE.items()}
    if name in outside:
        return _VISION + outside[name]
    _, _, number, rest = name.split(".", 3)
    inner, _, kind = rest.rpartition(".")
    return f"{_VISION}blocks.{number}.{ {new: old for old, new in _IN_BLOCK.items()}[inner] }.{kind}"
