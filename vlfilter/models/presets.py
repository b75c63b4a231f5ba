"""Model configurations by name: the published sizes, and tiny ones for tests, benchmarks and the demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import (
    Blip2VisionConfig,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
    SiglipVisionConfig,
)

from vlfilter.errors import VlfilterError
from vlfilter.models.bodies import Head
from vlfilter.models.locate import KNOWN_RESAMPLE, KNOWN_TOWERS
from vlfilter.models.preprocess import ImageSettings, default_settings
from vlfilter.models.projectors import ProjectorConfig
from vlfilter.models.tokenizer import TextTokenizer
from vlfilter.models.vision import vision_config
from vlfilter.models.vlm import VisionLanguageModel, VlmConfig

_CLIP_336 = "openai/clip-vit-large-patch14-336"
_SIGLIP, _SIGLIP2 = "google/siglip-so400m-patch14-384", "google/siglip2-so400m-patch14-384"
# the sizes of Qwen2.5-1.5B, Qwen2.5-0.5B and Qwen3-0.6B; 151,666 is len(tokenizer) of the released 1.5B classifier
_QWEN25 = {"vocab_size": 151666, "num_key_value_heads": 2, "tie_word_embeddings": True, "rope_theta": 1e6}
_QWEN25_1_5B = Qwen2Config(
    hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, **_QWEN25
)
_QWEN25_0_5B = Qwen2Config(
    hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, **_QWEN25
)
_QWEN3_0_6B = Qwen3Config(
    vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
    num_key_value_heads=8, head_dim=128, tie_word_embeddings=True, rope_theta=1e6, max_position_embeddings=40960,
)  # fmt: skip
# Vicuna 13B v1.5, which is Llama 2 13B; MLM-Filter's Qwen keeps the whole vocabulary of Qwen2.5-1.5B-Instruct
_VICUNA_13B = LlamaConfig(
    vocab_size=32000, hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40,
    num_key_value_heads=40, max_position_embeddings=4096, rms_norm_eps=1e-5,
)  # fmt: skip
_LLAMA2_7B = LlamaConfig(
    vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=32, max_position_embeddings=4096, rms_norm_eps=1e-5,
)  # fmt: skip
_TINY_LLAMA = LlamaConfig(
    vocab_size=1000, hidden_size=64, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=2048,
)  # fmt: skip
_EVA_448 = Blip2VisionConfig(image_size=448)  # transformers' defaults are ViT-g/14 without its last block
_TINY_EVA = Blip2VisionConfig(
    hidden_size=176, intermediate_size=352, num_hidden_layers=3, num_attention_heads=2, image_size=48, patch_size=8,
    initializer_range=0.02,
)  # fmt: skip
_QWEN25_INSTRUCT = Qwen2Config.from_dict(
    _QWEN25_1_5B.to_dict() | {"vocab_size": 151936, "max_position_embeddings": 32768}
)
_TINY_QWEN = Qwen2Config(
    vocab_size=1000, hidden_size=64, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=2048,
)  # fmt: skip
_DEMO_QWEN = Qwen2Config(
    vocab_size=600, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=512,
)  # fmt: skip
_DEMO_VISION = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 32, "patch_size": 16,
}  # fmt: skip
_SMALL_QWEN = Qwen2Config(
    vocab_size=49408, hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True,
)  # fmt: skip
_SMALL_SIGLIP = SiglipVisionConfig(
    hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=6, image_size=224, patch_size=16
)
_TINY_SIGLIP = SiglipVisionConfig(
    hidden_size=64, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4, image_size=48, patch_size=8
)


@dataclass(frozen=True, slots=True)
class VlmPreset:
    """A model's parts; `tower` is the hub name of its published vision tower, empty for the tiny ones and where it is
    a file; `template` what it is asked in, where its language model does not tell."""

    body: Any
    vision: Any
    projector: ProjectorConfig
    tower: str = ""
    max_length: int = 4096
    select_feature: str = "patch"
    select_layer: int = -1
    head: Head = "score"
    template: str = ""


VLM_PRESETS: dict[str, VlmPreset] = {
    "unifilter_qwen2.5_1.5b": VlmPreset(
        _QWEN25_1_5B, vision_config(KNOWN_TOWERS[_SIGLIP], _SIGLIP), ProjectorConfig("aapool_mlp", 144), _SIGLIP
    ),
    "unifilter_qwen2.5_0.5b": VlmPreset(
        _QWEN25_0_5B, vision_config(KNOWN_TOWERS[_SIGLIP], _SIGLIP), ProjectorConfig("aapool_mlp", 144), _SIGLIP
    ),
    "unifilter_qwen3_0.6b": VlmPreset(
        _QWEN3_0_6B, vision_config(KNOWN_TOWERS[_SIGLIP2], _SIGLIP2), ProjectorConfig("aapool_mlp", 144), _SIGLIP2, 8192
    ),
    # 48 px images, 36 patches pooled to 9 tokens, 0.4 million parameters
    "unifilter_tiny": VlmPreset(_TINY_QWEN, _TINY_SIGLIP, ProjectorConfig("aapool_mlp", 9), max_length=1024),
    # 224 px images, 196 patches pooled to 144 tokens, 16 million parameters, some 10 GFLOP a caption: for benchmarks
    "unifilter_small": VlmPreset(_SMALL_QWEN, _SMALL_SIGLIP, ProjectorConfig("aapool_mlp", 144), max_length=2048),
    # 32 px in 4 patches and a class token, a tower for `clip_demo`'s weights: what trains on two cores in half a minute
    "unifilter_demo": VlmPreset(
        _DEMO_QWEN,
        CLIPVisionConfig(projection_dim=64, **_DEMO_VISION),
        ProjectorConfig("mlp2x_gelu"),
        max_length=512,
        select_feature="cls_patch",
    ),
    "mlm_filter_13b": VlmPreset(
        _VICUNA_13B, vision_config(KNOWN_TOWERS[_CLIP_336], _CLIP_336), ProjectorConfig("mlp2x_gelu"), _CLIP_336, 2048,
        select_layer=-2, head="lm",
    ),
    "mlm_filter_qwen2.5_1.5b": VlmPreset(
        _QWEN25_INSTRUCT, vision_config(KNOWN_TOWERS[_SIGLIP], _SIGLIP), ProjectorConfig("aapool_mlp", 144), _SIGLIP,
        head="lm",
    ),
    "mlm_filter_tiny": VlmPreset(
        _TINY_QWEN, _TINY_SIGLIP, ProjectorConfig("aapool_mlp", 9), max_length=2048, head="lm"
    ),
    "minigpt_v2_7b": VlmPreset(
        _LLAMA2_7B, _EVA_448, ProjectorConfig("concat4"), max_length=4096, head="lm", template="minigpt_v2"
    ),
    # 48 px images, 36 patches in 9 tokens, 1.2 million parameters
    "minigpt_v2_tiny": VlmPreset(
        _TINY_LLAMA, _TINY_EVA, ProjectorConfig("concat4"), max_length=2048, head="lm", template="minigpt_v2"
    ),
    # the demo's UniFilter with a language model's head
    "mlm_filter_demo": VlmPreset(
        _DEMO_QWEN,
        CLIPVisionConfig(projection_dim=64, **_DEMO_VISION),
        ProjectorConfig("mlp2x_gelu"),
        max_length=512,
        select_feature="cls_patch",
        head="lm",
    ),
}  # fmt: skip


def _clip(projection: int, text: Mapping[str, Any], vision: Mapping[str, Any]) -> CLIPConfig:
    return CLIPConfig(
        text_config=CLIPTextConfig(projection_dim=projection, **text).to_dict(),
        vision_config=CLIPVisionConfig(projection_dim=projection, **vision).to_dict(),
        projection_dim=projection,
    )


CLIP_PRESETS: dict[str, CLIPConfig] = {
    "clip_vit_b_32": _clip(512, {}, {}),  # transformers' defaults are this model's
    "clip_vit_l_14": _clip(
        768,
        {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
         "patch_size": 14},
    ),
    # 224 px and CLIP's own vocabulary, 3.5 million parameters: for benchmarks
    "clip_tiny": _clip(
        64,
        {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
        {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
    ),
    # 32 px, 0.5 million parameters: for the demo, which trains it
    "clip_demo": _clip(
        64,
        {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
         "vocab_size": 600, "max_position_embeddings": 48, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0},
        _DEMO_VISION,
    ),
    # 48 px: for tests
    "clip_micro": _clip(
        64,
        {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
         "vocab_size": 1000, "max_position_embeddings": 32, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0},
        {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
         "image_size": 48, "patch_size": 8},
    ),
}  # fmt: skip


def vlm_config(name: str, *, vocab_size: int | None = None, num_labels: int = 1) -> VlmConfig:
    """A preset's configuration, with the vocabulary of a tokenizer. Raises `VlfilterError` for an unknown name."""
    preset = _known(VLM_PRESETS, name)
    body = type(preset.body).from_dict(preset.body.to_dict() | ({"vocab_size": vocab_size} if vocab_size else {}))
    named = {"mm_vision_tower": preset.tower, "mm_conversation_template": preset.template}
    return VlmConfig(
        body, preset.vision, preset.projector, num_labels=num_labels, max_length=preset.max_length,
        select_feature=preset.select_feature, select_layer=preset.select_layer, head=preset.head,
        published={name: told for name, told in named.items() if told},
    )  # fmt: skip


def build_vlm(name: str, tokenizer: TextTokenizer, *, num_labels: int = 1, seed: int = 0) -> VisionLanguageModel:
    """A model with random weights, the same for the same seed; torch's own random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VisionLanguageModel(vlm_config(name, vocab_size=len(tokenizer.hf), num_labels=num_labels))


def vlm_images(name: str) -> ImageSettings:
    """The preprocessing of a preset's vision tower."""
    preset = _known(VLM_PRESETS, name)
    settings = default_settings(preset.vision.model_type, int(preset.vision.image_size))
    return replace(settings, resample=KNOWN_RESAMPLE.get(preset.tower, settings.resample))


def build_clip(name: str, tokenizer: TextTokenizer | None = None, *, seed: int = 0) -> CLIPModel:
    """A CLIP with random weights, for a tokenizer of one's own or (None) the vocabulary of the preset."""
    config = _known(CLIP_PRESETS, name).to_dict()
    if tokenizer is not None:
        config["text_config"] |= {
            "vocab_size": len(tokenizer.hf), "bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos,
            "pad_token_id": tokenizer.hf.pad_token_id,
        }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPModel(CLIPConfig.from_dict(config))


def clip_images(name: str) -> ImageSettings:
    """The preprocessing of a CLIP preset."""
    return default_settings("clip_vision_model", int(_known(CLIP_PRESETS, name).vision_config.image_size))


def _known(presets: Mapping[str, Any], name: str) -> Any:
    if name not in presets:
        raise VlfilterError(f"no preset is called {name!r}. There are: {', '.join(presets)}.")
    return presets[name]
