"""ImageReward (Xu et al. 2023, arXiv:2304.05977): how much people would like an image for a prompt.

BLIP's image encoder and BERT with cross-attention, both transformers' own classes, and a small MLP; the published
weights give the numbers of the published package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from vlfilter.errors import VlfilterError
from vlfilter.models.device import upload, upload_pixels
from vlfilter.models.image_reward_keys import our_name, published_name
from vlfilter.models.image_reward_source import REWARD_PRESETS, RewardSizes, VisionSizes, reward_source, size_files
from vlfilter.models.preprocess import CLIP_MEAN, CLIP_STD, ImageSettings
from vlfilter.models.weights import StoredTensor, empty_parameters, fill, open_weights
from vlfilter.models.wordpiece import WordPieces

TEXT_TOKENS = 35  # as the model was trained: of a longer prompt only the start is seen
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the raw reward on the authors' validation data


class ImageReward(nn.Module):
    """The names of its parameters are transformers' below `vision` and `text`, the published ones below `head`."""

    def __init__(self, sizes: RewardSizes):
        super().__init__()
        vision, text = sizes.vision, sizes.text
        self.vision = BlipVisionModel(
            BlipVisionConfig(
                hidden_size=vision.vision_width,
                intermediate_size=4 * vision.vision_width,
                num_hidden_layers=vision.vision_layers,
                num_attention_heads=vision.vision_heads,
                image_size=vision.image_size,
                patch_size=vision.patch_size,
                layer_norm_eps=1e-6,
            )
        )
        self.text = BlipTextModel(
            BlipTextConfig(
                vocab_size=text.vocab_size,
                hidden_size=text.hidden_size,
                encoder_hidden_size=vision.vision_width,
                intermediate_size=text.intermediate_size,
                num_hidden_layers=text.num_hidden_layers,
                num_attention_heads=text.num_attention_heads,
                max_position_embeddings=text.max_position_embeddings,
                layer_norm_eps=text.layer_norm_eps,
                hidden_act=text.hidden_act,
                bos_token_id=None,  # for writing text, which this model does not
                sep_token_id=None,
                is_decoder=True,  # builds the cross-attention; called below as an encoder
            ),
            add_pooling_layer=False,
        )
        # numbers as published; dropout (at 1, 3 and 5) and activations there are none between them
        widths = (text.hidden_size, 1024, 128, 64, 16, 1)
        layers = zip(("0", "2", "4", "6", "7"), widths[:-1], widths[1:], strict=True)
        self.head = nn.ModuleDict({number: nn.Linear(wide, narrow) for number, wide, narrow in layers})

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Normalised pixels (N, 3, H, W) and ids (N, L) with their mask (N, L; 1 counts) → rewards (N,), standardised
        (mean 0, deviation 1 on the authors' data), in the head's dtype."""
        image = self.vision(pixel_values=pixels).last_hidden_state
        seen = torch.ones(image.shape[:-1], dtype=torch.long, device=image.device)
        out = self.text(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=image,
            encoder_attention_mask=seen,
            is_decoder=False,
        )
        reward = out.last_hidden_state[:, 0]
        for layer in self.head.values():
            reward = layer(reward.to(layer.weight.dtype))
        return (reward.squeeze(-1) - MEAN) / STD


@dataclass(frozen=True)
class LoadedReward:
    """An ImageReward on its device; `tokens` is what a pair costs it."""

    model: ImageReward
    images: ImageSettings
    words: WordPieces
    tokens: int
    device: str
    dtype: torch.dtype

    def rewards(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """float32 pixels (N, 3, H, W), ids and mask (N, 35), on the device → (N,)."""
        found: Tensor = self.model(pixels.to(self.dtype), ids, mask)
        return found


def load_image_reward(
    model: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32, control_tokens: bool = False
) -> LoadedReward:
    """Load an ImageReward (for the forms of `model` see `reward_source`). The head is never below float32.

    Raises `VlfilterError` when something is missing or does not fit.
    """
    weights, sizes, vocabulary = reward_source(model).files()
    words = WordPieces(vocabulary, TEXT_TOKENS, control_tokens)
    if words.size > sizes.text.vocab_size:
        raise VlfilterError(
            f"{vocabulary} and the two tokens of BLIP make {words.size} tokens, the model has {sizes.text.vocab_size}: "
            "they do not belong together."
        )
    if sizes.text.max_position_embeddings < TEXT_TOKENS:
        raise VlfilterError(f"{model}: the text encoder has fewer than {TEXT_TOKENS} positions.")
    with empty_parameters():
        module = ImageReward(sizes)
    head = torch.promote_types(dtype, torch.float32)
    fill(module, _renamed(open_weights([weights])), str(weights.parent), device,
         lambda name: head if name.startswith("head.") else dtype)  # fmt: skip
    module.eval().requires_grad_(False)
    tokens = sizes.vision.tokens + TEXT_TOKENS
    return LoadedReward(module, reward_images(sizes.vision), words, tokens, device, dtype)


def reward_images(sizes: VisionSizes) -> ImageSettings:
    """Shorter edge to the tower's size (bicubic), centre crop, CLIP's mean and deviation."""
    size = sizes.image_size
    return ImageSettings(size, size, "shortest", size, mean=CLIP_MEAN, std=CLIP_STD, round_crop=True)


def normalise_as_published(pixels: Sequence[np.ndarray], images: ImageSettings, device: str) -> Tensor:
    """uint8 images (H, W, 3) → float32 (N, 3, H, W) in torchvision's order of operations, to the last bit."""
    stacked = upload_pixels(pixels, device).permute(0, 3, 1, 2).contiguous()
    mean, std = (upload(torch.tensor(one), device).view(1, 3, 1, 1) for one in (images.mean, images.std))
    return stacked.to(torch.float32).div_(255).sub_(mean).div_(std)


def build_image_reward(preset: str, *, seed: int = 0) -> tuple[ImageReward, RewardSizes]:
    """A model with random weights, the same for the same seed. Raises `VlfilterError` for an unknown name."""
    if preset not in REWARD_PRESETS:
        raise VlfilterError(f"no ImageReward preset is called {preset!r}. There are: {', '.join(REWARD_PRESETS)}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageReward(REWARD_PRESETS[preset]).eval(), REWARD_PRESETS[preset]


def save_image_reward(folder: Path, model: ImageReward, sizes: RewardSizes, vocabulary: str) -> Path:
    """Write the published layout (as safetensors) with a vocabulary, as `load_image_reward` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {published_name(name): tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    for name, fields in size_files(sizes).items():
        (folder / name).write_text(json.dumps(fields, indent=2) + "\n")
    (folder / "vocab.txt").write_text(vocabulary, encoding="utf-8")
    return folder


def _renamed(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    names: dict[str, Any] = {name: our_name(name) for name in stored}
    return {names[name]: tensor for name, tensor in stored.items() if names[name] is not None}
