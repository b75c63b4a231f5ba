"""Language model bodies: which transformers model a published checkpoint holds, told by its config.json alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from vlfilter.errors import VlfilterError

Head = Literal["score", "lm"]

# body → (`architectures` of the published classifier, its `model_type`)
PUBLISHED: dict[str, tuple[str, str]] = {
    "qwen2": ("LlavaQwenClassifier", "llava_qwen"),
    "qwen3": ("LlavaQwen3Classifier", "llava_qwen3"),
    "llama": ("LlavaLlamaClassifier", "llava_llama"),
    "phi3": ("LlavaPhi3Classifier", "llava_phi3"),
    "gemma2": ("LlavaGemmaClassifier", "llava_gemma"),
}


def head_of(config: Mapping[str, Any]) -> Head:
    """Which head a published config.json describes; needs no torch. Without `architectures` it is a classifier."""
    return "score" if str((config.get("architectures") or ["Classifier"])[0]).endswith("Classifier") else "lm"


def architecture(kind: str, head: Head) -> str:
    """The published class name of a body with a head: `LlavaQwenClassifier`, `LlavaQwenForCausalLM`."""
    stem = PUBLISHED[kind][0].removesuffix("Classifier")
    return stem + ("Classifier" if head == "score" else "ForCausalLM")


_MODEL_TYPES = {model_type: body for body, (_, model_type) in PUBLISHED.items()} | {
    "llava": "llama",
    "llava_phi": "phi3",
}
_LEGACY_FIELDS = {"rope_theta", "rope_scaling", "partial_rotary_factor"}


def body_kind(config: Mapping[str, Any], origin: str) -> str:
    """`qwen2`, `qwen3`, `llama`, `phi3` or `gemma2`; needs no torch. A folder's name never decides.

    Raises `VlfilterError` for another architecture; `origin` names the checkpoint in the message.
    """
    architectures = [str(name) for name in config.get("architectures") or []]
    for body, (published, _) in PUBLISHED.items():
        stem = published.removesuffix("Classifier")
        if any(name in (published, f"{stem}ForCausalLM") for name in architectures):
            return body
    if known := _MODEL_TYPES.get(str(config.get("model_type"))):
        return known
    raise VlfilterError(
        f"{origin} is a {', '.join(architectures) or config.get('model_type') or 'model of unknown type'}, not one of "
        f"the supported vision-language models: {', '.join(name for name, _ in PUBLISHED.values())}."
    )


def body_config(kind: str, config: Mapping[str, Any], origin: str) -> Any:
    """The body's transformers configuration: only the fields that it knows, taken from a published config.json."""
    from transformers import Gemma2Config, LlamaConfig, Phi3Config, PreTrainedConfig, Qwen2Config, Qwen3Config

    classes: dict[str, Any] = {
        "qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig, "phi3": Phi3Config, "gemma2": Gemma2Config
    }  # fmt: skip
    shared = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    own = {field.name for field in dataclasses.fields(classes[kind])} - shared | _LEGACY_FIELDS
    fields = {name: value for name, value in config.items() if name in own and value is not None}
    # The model never sees a pad id (it pads with zero vectors), and one outside the vocabulary cannot be built.
    fields["pad_token_id"] = None
    try:
        return classes[kind](**fields)
    except Exception as error:  # the library's validation raises its own families of errors
        raise VlfilterError(f"{origin}: config.json describes no valid {kind} model: {error}") from error


def attention(kind: str, device: str) -> str:
    """The fastest exact attention: Gemma 2 needs eager (soft-capped logits); FlashAttention 2 where it is installed."""
    if kind == "gemma2":
        return "eager"
    from transformers.utils import is_flash_attn_2_available

    return "flash_attention_2" if device.startswith("cuda") and is_flash_attn_2_available() else "sdpa"
