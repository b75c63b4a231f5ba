"""Small models for tests: every body, tower and projector, with random weights and nothing downloaded."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Blip2VisionConfig,
    CLIPVisionConfig,
    Gemma2Config,
    LlamaConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    SiglipVisionConfig,
)

from vlfilter.models.projectors import ProjectorConfig
from vlfilter.models.tokenizer import TextTokenizer, train_tokenizer
from vlfilter.models.vlm import IMAGE_TOKEN, VisionLanguageModel, VlmConfig

SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = SIZE | {"vocab_size": 320, "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": None}
BODIES: dict[str, Any] = {
    "qwen2": lambda: Qwen2Config(**TEXT),
    "qwen3": lambda: Qwen3Config(**TEXT, head_dim=8),
    "llama": lambda: LlamaConfig(**TEXT),
    "phi3": lambda: Phi3Config(**TEXT, bos_token_id=1, eos_token_id=2),
    "gemma2": lambda: Gemma2Config(**TEXT, head_dim=8, query_pre_attn_scalar=8, sliding_window=16),
}
PIXELS = 24
TOWERS: dict[str, Any] = {
    "siglip": lambda: SiglipVisionConfig(**SIZE, image_size=PIXELS, patch_size=4),
    "clip": lambda: CLIPVisionConfig(**SIZE, image_size=PIXELS, patch_size=4, projection_dim=16),
    "eva": lambda: Blip2VisionConfig(**SIZE, image_size=PIXELS, patch_size=4),
}
PROJECTORS = {
    "aapool_mlp": ProjectorConfig("aapool_mlp", 4),
    "linear": ProjectorConfig("linear"),
    "mlp2x_gelu": ProjectorConfig("mlp2x_gelu"),
    "identity": ProjectorConfig("identity"),
    "concat4": ProjectorConfig("concat4"),
}


def config(
    body: str = "qwen2",
    tower: str = "siglip",
    projector: str = "aapool_mlp",
    num_labels: int = 1,
    select_layer: int = -1,
    select_feature: str = "patch",
) -> VlmConfig:
    return VlmConfig(
        BODIES[body](),
        TOWERS[tower](),
        PROJECTORS[projector],
        select_layer=select_layer,
        select_feature=select_feature,
        num_labels=num_labels,
        max_length=512,
    )


def build(*args: Any, seed: int = 0, **options: Any) -> VisionLanguageModel:
    """A model whose score reacts to every input: larger weights than the usual initialisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionLanguageModel(config(*args, **options))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3 if "score" in name else 0.15)
    return model.eval()


@cache
def tokenizer() -> TextTokenizer:
    texts = ["a photo of a cat on a chair", "a red bus in London", "two dogs play in the snow", "an old map of Europe"]
    return train_tokenizer(texts, 320)


def pixels(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(seed))


def sample(seed: int, images: int, words: int = 5) -> tuple[Tensor, Tensor]:
    """Ids with `images` placeholders among `words` words, and the pixels."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 320, (words + images,), generator=generator)
    places = torch.randperm(words + images, generator=generator)[:images]
    ids[places] = IMAGE_TOKEN
    return ids, pixels(images, seed)
