"""CLIP's two towers (Radford et al. 2021) under the parameter names of transformers checkpoints, for inference.

transformers' own classes give the same features, but importing them takes as much CPU time as scoring 1,500 samples.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlfilter.errors import VlfilterError
from vlfilter.models.clip_config import ClipShape, TextShape, VisionShape

QUICK = 1.702
# by transformers' names
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": lambda x: x * torch.sigmoid(QUICK * x),
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
}
LEGACY_EOS = 2  # configurations from before 2023 give this eos, whatever it is: the highest id is the caption's end


# Weights always come from a checkpoint, and random ones for parameters without memory would import torch's compiler.
class _Linear(nn.Linear):
    def reset_parameters(self) -> None: ...


class _Embedding(nn.Embedding):
    def reset_parameters(self) -> None: ...


class _Conv(nn.Conv2d):
    def reset_parameters(self) -> None: ...


class ClipTowers(nn.Module):
    """Features are not normalised. Raises `VlfilterError` for an unknown activation."""

    def __init__(self, config: ClipShape):
        super().__init__()
        vision, text = config.vision_config, config.text_config
        self.vision_model = _VisionTower(vision)
        self.text_model = _TextTower(text)
        self.visual_projection = _Linear(vision.hidden_size, config.projection_dim, bias=False)
        self.text_projection = _Linear(text.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.zeros(()))  # stored in checkpoints; a cosine does not need it

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (N, 3, H, W) → features (N, dimension)."""
        features: Tensor = self.visual_projection(self.vision_model(pixels))
        return features

    def encode_texts(self, ids: Tensor) -> Tensor:
        """Token ids (N, L), eos in each row and anything behind it → features (N, dimension)."""
        features: Tensor = self.text_projection(self.text_model(ids))
        return features


class _VisionTower(nn.Module):
    def __init__(self, config: VisionShape):
        super().__init__()
        patches = (config.image_size // config.patch_size) ** 2
        self.embeddings = nn.Module()
        self.embeddings.class_embedding = nn.Parameter(torch.zeros(config.hidden_size))
        self.embeddings.patch_embedding = _Conv(
            config.num_channels, config.hidden_size, config.patch_size, config.patch_size, bias=False
        )
        self.embeddings.position_embedding = _Embedding(patches + 1, config.hidden_size)
        self.pre_layrnorm = _norm(config)  # spelled so in every checkpoint
        self.encoder = _Encoder(config, causal=False)
        self.post_layernorm = _norm(config)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.embeddings.class_embedding.expand(len(pixels), 1, -1)
        states = torch.cat([first, patches], dim=1) + self.embeddings.position_embedding.weight
        pooled: Tensor = self.post_layernorm(self.encoder(self.pre_layrnorm(states))[:, 0])
        return pooled


class _TextTower(nn.Module):
    def __init__(self, config: TextShape):
        super().__init__()
        self.eos = config.eos_token_id
        self.embeddings = nn.Module()
        self.embeddings.token_embedding = _Embedding(config.vocab_size, config.hidden_size)
        self.embeddings.position_embedding = _Embedding(config.max_position_embeddings, config.hidden_size)
        self.encoder = _Encoder(config, causal=True)
        self.final_layer_norm = _norm(config)

    def forward(self, ids: Tensor) -> Tensor:
        words = self.embeddings.token_embedding(ids)
        states = self.encoder(words + self.embeddings.position_embedding.weight[: ids.shape[1]])
        ends = ids.argmax(1) if self.eos == LEGACY_EOS else (ids == self.eos).int().argmax(1)
        pooled: Tensor = self.final_layer_norm(states[torch.arange(len(ids), device=ids.device), ends])
        return pooled


class _Encoder(nn.Module):
    def __init__(self, config: VisionShape | TextShape, causal: bool):
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config, causal) for _ in range(config.num_hidden_layers))

    def forward(self, states: Tensor) -> Tensor:
        for layer in self.layers:
            states = layer(states)
        return states


class _Layer(nn.Module):
    """Pre-norm: attention, then a two-layer perceptron, each added to its input."""

    def __init__(self, config: VisionShape | TextShape, causal: bool):
        super().__init__()
        if config.hidden_act not in _ACTIVATIONS:
            raise VlfilterError(f"CLIP with activation {config.hidden_act!r} is unknown: {', '.join(_ACTIVATIONS)}.")
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.causal = causal
        self.quick = config.hidden_act == "quick_gelu"
        self.activation = _ACTIVATIONS[config.hidden_act]
        self.layer_norm1 = _norm(config)
        self.self_attn = nn.ModuleDict({name: _Linear(width, width) for name in ("q_proj", "k_proj", "v_proj")})
        self.self_attn["out_proj"] = _Linear(width, width)
        self.layer_norm2 = _norm(config)
        self.mlp = nn.ModuleDict(
            {"fc1": _Linear(width, config.intermediate_size), "fc2": _Linear(config.intermediate_size, width)}
        )

    def forward(self, states: Tensor) -> Tensor:
        states = states + self._attend(self.layer_norm1(states))
        return states + self._perceive(self.layer_norm2(states))

    def _perceive(self, states: Tensor) -> Tensor:
        first, second = self.mlp["fc1"], self.mlp["fc2"]
        if not self.quick:
            inner: Tensor = second(self.activation(first(states)))
            return inner
        # Quick GELU is silu(QUICK · x) / QUICK. The factors ride on the products: each pass over `inner` that is left
        # out saves a tenth of a layer's time on a GPU.
        inner = functional.silu(torch.addmm(QUICK * first.bias, states.flatten(0, 1), first.weight.t(), alpha=QUICK))
        return torch.addmm(second.bias, inner, second.weight.t(), alpha=1 / QUICK).view_as(states)

    def _attend(self, states: Tensor) -> Tensor:
        split = (*states.shape[:2], self.heads, -1)
        query, key, value = (
            self.self_attn[name](states).view(split).transpose(1, 2) for name in ("q_proj", "k_proj", "v_proj")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        joined: Tensor = self.self_attn["out_proj"](mixed.transpose(1, 2).flatten(2))
        return joined


def _norm(config: VisionShape | TextShape) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
