"""Vision-language checkpoints in the published layout: checked first, loaded once, written back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlfilter.errors import VlfilterError
from vlfilter.models.adapters import check_adapter, is_adapter, merged_stored, read_adapter
from vlfilter.models.bodies import Head, attention
from vlfilter.models.eva import eva_tower
from vlfilter.models.folders import model_folder, new_folder, read_json, weight_files
from vlfilter.models.layout import VISION_PREFIX, our_name, parse_config, published_config, published_name
from vlfilter.models.locate import (
    KNOWN_RESAMPLE,
    VisionSource,
    VisionWeights,
    check_vlm_folder,
    embedded_vision_config,
    projector_file,
    vision_source,
)
from vlfilter.models.preprocess import ImageSettings, default_settings, image_settings, preprocessor_config
from vlfilter.models.projectors import image_tokens
from vlfilter.models.quantize import Quantize, check_quantize, quantize_linears
from vlfilter.models.tokenizer import TextTokenizer, load_tokenizer
from vlfilter.models.vision import CLASS_TOKEN, VisionConfig, vision_config
from vlfilter.models.vlm import VisionLanguageModel, VlmConfig
from vlfilter.models.weights import (
    SHARD_BYTES,
    StoredTensor,
    empty_parameters,
    fill,
    is_derived,
    open_weights,
    write_weights,
)

SCORE_NET = "score_net."  # Self-Filter's published stage 1 keeps its score net among the model's tensors


@dataclass(frozen=True)
class LoadedVlm:
    """A model in eval mode on its device, with what prepares its input."""

    model: VisionLanguageModel
    tokenizer: TextTokenizer
    images: ImageSettings
    config: VlmConfig


@dataclass(frozen=True)
class OpenedVlm:
    """A checkpoint before its weights are read: `tensors` by our names, each read when asked for."""

    folder: Path
    config: VlmConfig
    tokenizer: TextTokenizer
    images: ImageSettings
    tensors: dict[str, StoredTensor]

    @property
    def image_tokens(self) -> int:
        """Positions that one image takes in the sequence."""
        tower = self.config.vision
        patches = (int(tower.image_size) // int(tower.patch_size)) ** 2
        if tower.model_type in CLASS_TOKEN and self.config.select_feature == "cls_patch":
            patches += 1
        return image_tokens(self.config.projector, patches)


def open_vlm(model: str, *, head: Head = "score", base: str | None = None, vision: VisionWeights = "auto") -> OpenedVlm:
    """Look into a checkpoint: in the published layout, or (a language model) in transformers' own.

    Arguments and errors as `load_vlm`'s. Reads configurations, tokenizer and the headers of the weights.
    """
    folder = model_folder(model)
    base_folder = model_folder(base) if base else None
    config_json = check_vlm_folder(folder, head, base_folder)
    source = vision_source(folder, config_json, vision)
    tower = _tower(folder, config_json, source)
    config = parse_config(config_json, tower.config, str(folder))
    tokenizer = load_tokenizer(base_folder or folder, needs_bos=head == "score")
    tensors = named_ours(open_weights(weight_files(base_folder or folder)))
    if head == "lm" and config.body.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)  # a copy of the embeddings
    if not source.embedded:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(VISION_PREFIX)}
        tensors |= tower.tensors
    if base_folder:
        tensors |= named_ours(open_weights([projector_file(folder)]))
    if base_folder and is_adapter(folder):
        adapter = read_adapter(folder)
        check_adapter(adapter.tensors, {name: stored.shape for name, stored in tensors.items()}, str(folder))
        tensors = merged_stored(tensors, adapter)
    return OpenedVlm(folder, config, tokenizer, tower.images, tensors)


def load_vlm(
    model: str,
    *,
    head: Head = "score",
    base: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    vision: VisionWeights = "auto",
    head_dtype: torch.dtype = torch.float32,
    quantize: Quantize = "none",
) -> LoadedVlm:
    """Load a checkpoint with that `head` from a local folder or the hub.

    `base` names the language model of a folder that holds only config.json and `mm_projector.bin` (LLaVA's stage 1),
    and perhaps an adapter, which is merged as weights are read.
    `dtype` is that of the tower, the projector and the body, `head_dtype` that of the score head and the logits; for
    `vision` see `vision_source`. Memory: the model itself and one tensor; to `quantize` (the body's linear layers) the
    whole model passes through the host's memory. Raises `VlfilterError`, before weights are read, for a folder that
    lacks something or whose tensors do not fit its config.json.
    """
    opened = open_vlm(model, head=head, base=base, vision=vision)
    config = opened.config
    if quantize != "none":
        check_quantize()
    with empty_parameters():
        vlm = VisionLanguageModel(config, attention(config.body.model_type, device))

    def dtype_of(name: str) -> torch.dtype:
        return head_dtype if name.startswith("score.") else dtype

    fill(vlm, opened.tensors, str(opened.folder), device if quantize == "none" else "cpu", dtype_of)
    if quantize != "none":
        quantize_linears(vlm.body, quantize, device, dtype)
        vlm.to(device)
    return LoadedVlm(vlm.eval(), opened.tokenizer, opened.images, config)


@dataclass(frozen=True)
class Tower:
    """A vision tower of its own: `tensors` by our names, each read when asked for."""

    config: VisionConfig
    images: ImageSettings
    tensors: dict[str, StoredTensor]


def open_tower(place: Path, image_size: int | None = None) -> Tower:
    """A tower in a folder (of the vision part alone, or a whole CLIP, SigLIP or BLIP-2), or EVA's file of weights.

    `image_size` is for the file: the pixels of an image's side, where those are not the file's own.
    """
    if place.is_file():
        config, tensors = eva_tower(place, image_size)
        images = default_settings(config.model_type, int(config.image_size))
    else:
        config = vision_config(read_json(place / "config.json"), str(place))
        if image_size not in (None, config.image_size):
            raise VlfilterError(f"{place} is for images of {config.image_size} pixels a side, not {image_size}.")
        images = image_settings(place, config.model_type, int(config.image_size))
        tensors = open_weights(weight_files(place))
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("vision_model.")} or tensors
    named = {f"{VISION_PREFIX}model.{name.removeprefix('vision_model.')}": tensor for name, tensor in tensors.items()}
    return Tower(config, images, {name: tensor for name, tensor in named.items() if not is_derived(name)})


def _tower(folder: Path, config: Mapping[str, Any], source: VisionSource) -> Tower:
    """The checkpoint's tower; without tensors where it is embedded."""
    if source.embedded:
        tower = vision_config(embedded_vision_config(folder, config), str(folder))
        settings = image_settings(folder, tower.model_type, int(tower.image_size))
        if not (folder / "preprocessor_config.json").is_file():
            resample = KNOWN_RESAMPLE.get(str(config.get("mm_vision_tower")), settings.resample)
            settings = replace(settings, resample=resample)
        return Tower(tower, settings, {})
    size = (config.get("mm_vision_config") or {}).get("image_size")
    return open_tower(source.path or model_folder(str(source.hub_name)), size)


def named_ours(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Stored tensors by our names, without what is computed and what is no part of the model."""
    return {our_name(name): t for name, t in stored.items() if not is_derived(name) and not name.startswith(SCORE_NET)}


def save_vlm(
    path: str | Path,
    model: VisionLanguageModel,
    tokenizer: TextTokenizer,
    images: ImageSettings,
    *,
    dtype: torch.dtype | None = None,
    state: Mapping[str, Tensor] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a checkpoint in the published layout, vision tower embedded, and return its folder.

    `dtype` converts the weights (the published ones are bfloat16); `state` replaces the model's own state dict, for
    trainers that gather it from several processes. The folder appears whole or not at all. Raises `VlfilterError` when
    it exists with something in it, or cannot be written.
    """
    tensors = {
        published_name(name): tensor.to(dtype) if dtype else tensor
        for name, tensor in (state if state is not None else model.state_dict()).items()
    }
    with new_folder(path) as folder:
        write_weights(folder, tensors, shard_bytes)
        write_side_files(folder, model.config, tokenizer, images, next(iter(tensors.values())).dtype)
    return Path(path)


def write_side_files(
    folder: Path, config: VlmConfig, tokenizer: TextTokenizer, images: ImageSettings, dtype: torch.dtype
) -> None:
    """What lies beside the weights of the published layout: config.json, preprocessor_config.json and the tokenizer."""
    own = {
        "torch_dtype": str(dtype).split(".")[-1],
        "bos_token_id": tokenizer.bos,
        "eos_token_id": tokenizer.eos,
        "pad_token_id": tokenizer.hf.pad_token_id,
    }
    _write_json(folder / "config.json", published_config(config) | own)
    _write_json(folder / "preprocessor_config.json", preprocessor_config(images))
    tokenizer.hf.save_pretrained(folder)


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
