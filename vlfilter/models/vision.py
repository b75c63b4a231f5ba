"""Vision towers of transformers, read at a chosen layer: SigLIP (1 and fixed-resolution 2), CLIP, and EVA-CLIP's ViT-g.

EVA's is the vision model of BLIP-2, whose `post_layernorm` is LAVIS's `ln_vision`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import (
    Blip2VisionConfig,
    Blip2VisionModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from vlfilter.errors import VlfilterError

VisionConfig: TypeAlias = Any  # one of the configurations below, whose fields are not typed
EVA = "blip_2_vision_model"
_KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    EVA: (Blip2VisionConfig, Blip2VisionModel),
    "clip_vision_model": (CLIPVisionConfig, CLIPVisionModel),
    "siglip_vision_model": (SiglipVisionConfig, SiglipVisionModel),
}
_WHOLE = {"clip": "clip_vision_model", "siglip": "siglip_vision_model", "blip-2": EVA}
CLASS_TOKEN = ("clip_vision_model", EVA)  # towers whose first feature is of no patch
_EVA_NORM_EPS = 1e-5  # LAVIS's ln_vision; the blocks have 1e-6


def vision_config(config: Mapping[str, Any], origin: str) -> VisionConfig:
    """The tower's configuration from its `config.json` (of a whole CLIP, SigLIP or BLIP-2 model, or of the vision part
    alone).

    Raises `VlfilterError` for anything else; `origin` names it in the message.
    """
    part = config.get("vision_config") or config
    kind = part.get("model_type") or _WHOLE.get(str(config.get("model_type")))
    if kind not in _KINDS:
        raise VlfilterError(
            f"{origin}: vision tower of type {kind or config.get('model_type')!r} is not supported; "
            "known are CLIP, SigLIP, SigLIP 2 of fixed resolution (not naflex), and BLIP-2's EVA-CLIP."
        )
    known = {
        name: value for name, value in part.items() if name not in ("torch_dtype", "dtype", "transformers_version")
    }
    tower: VisionConfig = _KINDS[kind][0].from_dict(known)
    return tower


class VisionTower(nn.Module):
    """A frozen encoder: pixels (N, 3, H, W) → features (N, patches, width) of one layer's output, before any norm; of
    EVA's, after its norm in float32, as MiniGPT-4 and v2 do.

    `select_layer` counts as the published code does: -1 is the last layer's output, -2 the one before it, 0 the
    embeddings. Layers above it, the final norm and the pooling head are not run. `select_feature` is `patch` (a class
    token is dropped) or `cls_patch`.
    """

    def __init__(self, config: VisionConfig, select_layer: int, select_feature: str):
        super().__init__()
        if select_feature not in ("patch", "cls_patch"):
            raise VlfilterError(f"unknown mm_vision_select_feature {select_feature!r}: patch or cls_patch.")
        depth = config.num_hidden_layers
        self.layers_run = select_layer if select_layer >= 0 else depth + 1 + select_layer
        if not 0 <= self.layers_run <= depth:
            raise VlfilterError(f"mm_vision_select_layer {select_layer} does not exist in a tower of {depth} layers.")
        self.config = config
        self.has_class_token = config.model_type in CLASS_TOKEN
        self.drop_class_token = self.has_class_token and select_feature == "patch"
        self.model = _KINDS[config.model_type][1](config)

    @property
    def width(self) -> int:
        return int(self.config.hidden_size)

    @property
    def patches(self) -> int:
        """Features per image."""
        grid = (int(self.config.image_size) // int(self.config.patch_size)) ** 2
        return grid + int(self.has_class_token and not self.drop_class_token)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        # SigLIP's come out with the patches innermost in memory, and every layer would stumble over that.
        hidden = self.model.embeddings(pixels).contiguous()
        eva = self.config.model_type == EVA
        if self.config.model_type == "clip_vision_model":
            hidden = self.model.pre_layrnorm(hidden)
        for layer in self.model.encoder.layers[: self.layers_run]:
            hidden = layer(hidden) if eva else layer(hidden, None)
        if eva:
            norm = self.model.post_layernorm
            weights = (norm.weight.float(), norm.bias.float())
            whole = nn.functional.layer_norm(hidden.float(), norm.normalized_shape, *weights, _EVA_NORM_EPS)
            hidden = whole.to(hidden.dtype)
        return hidden[:, 1:] if self.drop_class_token else hidden
