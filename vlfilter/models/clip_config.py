"""The config.json of a transformers CLIP checkpoint, read without transformers, whose import takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from vlfilter.errors import VlfilterError


@dataclass(frozen=True, slots=True)
class VisionShape:
    """The vision tower; names and defaults are transformers' (those of ViT-B/32)."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5


@dataclass(frozen=True, slots=True)
class TextShape:
    """The text tower; names and defaults are transformers'."""

    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    vocab_size: int = 49408
    max_position_embeddings: int = 77
    eos_token_id: int = 49407
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5


@dataclass(frozen=True, slots=True)
class ClipShape:
    vision_config: VisionShape
    text_config: TextShape
    projection_dim: int = 512


Shape = TypeVar("Shape", VisionShape, TextShape)


def clip_shape(config: Mapping[str, Any], origin: str) -> ClipShape:
    """Both towers' shapes. Raises `VlfilterError` naming the field that makes no CLIP; `origin` names the file."""
    vision = _tower(VisionShape, config, "vision_config", origin)
    text = _tower(TextShape, config, "text_config", origin)
    dimension = config.get("projection_dim", 512)
    if type(dimension) is not int or dimension < 1:
        raise _invalid(origin, "projection_dim", dimension)
    return ClipShape(vision, text, dimension)


def _tower(kind: type[Shape], config: Mapping[str, Any], name: str, origin: str) -> Shape:
    # Old files hold both; transformers lets the `…_dict` decide, its missing fields included.
    given = config.get(f"{name}_dict")
    given = config.get(name) if given is None else given
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise _invalid(origin, name, given)
    values = {field.name: given[field.name] for field in fields(kind) if field.name in given}
    for field in fields(kind):
        value = values.get(field.name, field.default)
        if field.name == "layer_norm_eps":
            fits = isinstance(value, float) and value > 0
        elif field.name == "hidden_act":
            fits = isinstance(value, str)
        else:
            fits = type(value) is int and value > 0
        if not fits:
            raise _invalid(origin, f"{name}.{field.name}", value)
    shape = kind(**values)
    if shape.hidden_size % shape.num_attention_heads:
        heads = f"{shape.num_attention_heads} heads do not divide hidden_size {shape.hidden_size}"
        raise VlfilterError(f"{origin} describes no valid CLIP: in {name}, {heads}.")
    return shape


def _invalid(origin: str, name: str, value: object) -> VlfilterError:
    return VlfilterError(f"{origin} describes no valid CLIP: {name} is {value!r}.")
