"""A vision-language model put together: a language model and a vision tower, each where it was published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlfilter.data.storage import absolute
from vlfilter.errors import VlfilterError
from vlfilter.models.bodies import PUBLISHED, architecture
from vlfilter.models.checkpoints import named_ours, open_tower
from vlfilter.models.folders import is_hub_name, model_folder, read_json, weight_files
from vlfilter.models.layout import parse_config
from vlfilter.models.preprocess import ImageSettings
from vlfilter.models.tokenizer import TextTokenizer, load_tokenizer
from vlfilter.models.vision import VisionConfig
from vlfilter.models.vlm import VlmConfig
from vlfilter.models.weights import StoredTensor, open_weights


@dataclass(frozen=True, slots=True)
class Parts:
    """`language_model` is a folder or hub name, `vision_tower` also EVA's file, to be read at `image_size` pixels a
    side; `tower_apart`: what is written of the model does not hold the tower, but names it."""

    language_model: str
    vision_tower: str
    projector_kind: str
    image_tokens: int = 144
    select_layer: int = -1
    select_feature: str = "patch"
    image_size: int | None = None
    tower_apart: bool = False


@dataclass(frozen=True)
class OpenedParts:
    """The model without its projector: `tensors` by our names, each read when asked for."""

    config: VlmConfig
    tokenizer: TextTokenizer
    images: ImageSettings
    tensors: dict[str, StoredTensor]


def open_parts(parts: Parts) -> OpenedParts:
    """Look into the parts; no weights are read. Raises `VlfilterError` for what does not fit."""
    language = model_folder(parts.language_model)
    place = Path(parts.vision_tower).expanduser()
    tower = open_tower(place if place.is_file() else model_folder(parts.vision_tower), parts.image_size)
    config = parse_config(_published(parts, language, tower.config), tower.config, str(language))
    tensors = named_ours(open_weights(weight_files(language)))
    if config.body.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)  # a copy of the embeddings
    return OpenedParts(config, load_tokenizer(language, needs_bos=False), tower.images, tensors | tower.tensors)


def _published(parts: Parts, language: Path, vision: VisionConfig) -> dict[str, Any]:
    """The config.json that the published layout would have for these parts."""
    config = read_json(language / "config.json")
    kind = str(config.get("model_type"))
    if kind not in PUBLISHED:
        raise VlfilterError(f"{language} is a {kind} model; the language models are {', '.join(PUBLISHED)}.")
    # A whole model has the tower's weights, and a path of this machine means nothing elsewhere.
    local = absolute(parts.vision_tower) if parts.tower_apart else ""
    own = {
        "architectures": [architecture(kind, "lm")],
        "model_type": PUBLISHED[kind][1],
        "mm_hidden_size": vision.hidden_size,
        "mm_projector_type": parts.projector_kind,
        "mm_num_image_tokens": parts.image_tokens,
        "mm_vision_select_layer": parts.select_layer,
        "mm_vision_select_feature": parts.select_feature,
        "mm_vision_tower": parts.vision_tower if is_hub_name(parts.vision_tower) else local,
    }
    for field in ("torch_dtype", "dtype", "_name_or_path"):
        config.pop(field, None)
    return config | own
