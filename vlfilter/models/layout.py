"""The published checkpoint layout (LLaVA's): names of tensors and fields of config.json, to ours and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlfilter.errors import VlfilterError
from vlfilter.models.bodies import PUBLISHED, architecture, body_config, body_kind, head_of
from vlfilter.models.hf_config import HF_ARCHITECTURE
from vlfilter.models.projectors import ProjectorConfig
from vlfilter.models.vision import VisionConfig
from vlfilter.models.vlm import VlmConfig

# published prefix → ours; the first match counts
_PREFIXES = (
    ("model.vision_tower.vision_tower.vision_model.", "vision.model."),
    ("model.mm_projector.", "projector."),
    ("model.", "body."),
    ("score.", "score."),
    ("lm_head.", "lm_head."),
)
# the same for transformers' LlavaForConditionalGeneration, in the three ways its versions have written it
_HF_PREFIXES = (
    ("vision_tower.vision_model.", "vision.model."),
    ("vision_tower.", "vision.model."),
    ("multi_modal_projector.linear_1.", "projector.0."),
    ("multi_modal_projector.linear_2.", "projector.2."),
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "body."),
    ("language_model.", "body."),
)
VISION_PREFIX = "vision."


def our_name(published: str) -> str:
    """The name of a published tensor in `VisionLanguageModel`, in LLaVA's layout or transformers' own."""
    if published.startswith(_PREFIXES[0][0]):
        return _PREFIXES[0][1] + published.removeprefix(_PREFIXES[0][0])
    inner = published.removeprefix("model.")
    for name, prefixes in ((inner, _HF_PREFIXES), (published, _PREFIXES)):
        for theirs, ours in prefixes:
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
    return published  # unknown: reported as unexpected under its own name


def published_name(ours: str) -> str:
    """The name under which a tensor of `VisionLanguageModel` is published."""
    for theirs, prefix in _PREFIXES:
        if ours.startswith(prefix):
            return theirs + ours.removeprefix(prefix)
    raise ValueError(f"{ours} is no tensor of a VisionLanguageModel")


def hf_name(ours: str) -> str:
    """The name of a tensor in the llava-hf models' files, which every version of transformers and vLLM load."""
    for theirs, prefix in _HF_PREFIXES:
        if ours.startswith(prefix):
            return theirs + ours.removeprefix(prefix)
    raise ValueError(f"{ours} is no tensor of a {HF_ARCHITECTURE}")


def parse_config(config: Mapping[str, Any], vision: VisionConfig, origin: str) -> VlmConfig:
    """A published config.json as ours. Raises `VlfilterError` for what it does not say or we do not know."""
    kind = body_kind(config, origin)
    if config.get("mm_hidden_size", vision.hidden_size) != vision.hidden_size:
        raise VlfilterError(
            f"{origin}: the projector takes features of width {config['mm_hidden_size']}, "
            f"but the vision tower {config.get('mm_vision_tower')!r} gives {vision.hidden_size}."
        )
    return VlmConfig(
        body=body_config(kind, config, origin),
        vision=vision,
        projector=ProjectorConfig(
            str(config.get("mm_projector_type", "linear")), int(config.get("mm_num_image_tokens", 256))
        ),
        select_layer=int(config.get("mm_vision_select_layer", -2)),
        select_feature=str(config.get("mm_vision_select_feature", "patch")),
        num_labels=num_labels(config),
        head=head_of(config),
        max_length=config.get("tokenizer_model_max_length"),
        published=dict(config),
    )


def num_labels(config: Mapping[str, Any]) -> int:
    """Classes of the score head, which published files write down as `id2label`; transformers' default is 2."""
    return len(config["id2label"]) if config.get("id2label") else int(config.get("num_labels", 2))


def published_config(config: VlmConfig) -> dict[str, Any]:
    """The config.json of a checkpoint: the one that was read, brought up to date with what the model is now.

    `mm_vision_config`, our one addition, describes the embedded tower, so that it can be built without the hub.
    """
    kind = config.body.model_type
    body = config.body.to_diff_dict()
    rope = body.pop("rope_parameters", None) or {}
    if rope.get("rope_type", "default") == "default":  # the published code reads the older fields
        body |= {"rope_theta": rope.get("rope_theta", 10000.0), "rope_scaling": None}
    else:
        body["rope_parameters"] = rope
    labels = {str(i): f"LABEL_{i}" for i in range(config.num_labels)}
    own = {
        "architectures": [architecture(kind, config.head)],
        "model_type": PUBLISHED[kind][1],
        "mm_hidden_size": config.vision.hidden_size,
        "mm_projector_type": config.projector.kind,
        "mm_num_image_tokens": config.projector.tokens,
        "mm_vision_select_layer": config.select_layer,
        "mm_vision_select_feature": config.select_feature,
        "mm_vision_config": config.vision.to_diff_dict(),
        "tokenizer_model_max_length": config.max_length,
    }
    if config.head == "score":
        own |= {"id2label": labels, "label2id": {label: int(i) for i, label in labels.items()}}
    defaults = {
        "mm_patch_merge_type": "flat", "mm_use_im_start_end": False, "mm_use_im_patch_token": False,
        "use_mm_proj": True, "image_aspect_ratio": "pad", "tokenizer_padding_side": "right",
    }  # fmt: skip
    for derived in ("pad_token_id", "transformers_version", "model_type", "architectures"):
        body.pop(derived, None)
    return {**defaults, **body, **config.published, **own}
