"""transformers' own LLaVA layout (`LlavaForConditionalGeneration`, llava-hf's models) in the published fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlfilter.errors import VlfilterError
from vlfilter.models.bodies import PUBLISHED, architecture

HF_ARCHITECTURE = "LlavaForConditionalGeneration"
HF_TOWERS = ("vision_tower.", "model.vision_tower.")  # where its tensors keep the tower
# additions to config.json, beside the published fields, that say how a model was trained
TRAINED_AS = ("tokenizer_model_max_length", "mm_image_mode", "mm_conversation_template")
HF_FEATURES = {"patch": "default", "cls_patch": "full"}  # mm_vision_select_feature → vision_feature_select_strategy


def is_hf_layout(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of transformers' own class; needs no torch."""
    return HF_ARCHITECTURE in (config.get("architectures") or [])


def as_published(config: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The same model in the published fields; the tower is always embedded, the head the language model's own.

    Raises `VlfilterError` for a variant that the published layout does not know (another projector, several layers).
    """
    text, vision = config.get("text_config") or {}, config.get("vision_config") or {}
    kind = str(text.get("model_type", "llama"))
    layer = config.get("vision_feature_layer", -2)
    strategy = str(config.get("vision_feature_select_strategy", "default"))
    features = {theirs: ours for ours, theirs in HF_FEATURES.items()}
    wrong = [
        f"{name} {value!r} (known: {known})"
        for name, value, known, fits in (
            ("text_config.model_type", kind, ", ".join(PUBLISHED), kind in PUBLISHED),
            ("projector_hidden_act", config.get("projector_hidden_act", "gelu"), "gelu",
             config.get("projector_hidden_act", "gelu") == "gelu"),
            ("multimodal_projector_bias", config.get("multimodal_projector_bias", True), "true",
             config.get("multimodal_projector_bias", True) is True),
            ("vision_feature_layer", layer, "one number", isinstance(layer, int)),
            ("vision_feature_select_strategy", strategy, ", ".join(features), strategy in features),
        )
        if not fits
    ]  # fmt: skip
    if wrong:
        raise VlfilterError(f"{origin} is a {HF_ARCHITECTURE} of a kind that is not supported: {'; '.join(wrong)}.")
    own = {
        "architectures": [architecture(kind, "lm")],
        "model_type": PUBLISHED[kind][1],
        "mm_vision_config": {"model_type": "clip_vision_model", **vision},
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": layer,
        "mm_vision_select_feature": features[strategy],
        "tie_word_embeddings": bool(config.get("tie_word_embeddings") or text.get("tie_word_embeddings", False)),
    } | {name: config[name] for name in TRAINED_AS if name in config}
    return {name: value for name, value in {**text, **own}.items() if name != "_name_or_path"}
