"""A LLaVA-1.5 checkpoint written in transformers' own layout (`LlavaForConditionalGeneration`), which vLLM serves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from torch import Tensor
from transformers import LlavaConfig

from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import OpenedVlm, open_vlm
from vlfilter.models.conversation import IMAGE_PLACEHOLDER, trained_template
from vlfilter.models.conversation import template as find_template
from vlfilter.models.folders import new_folder
from vlfilter.models.hf_config import HF_ARCHITECTURE, HF_FEATURES, TRAINED_AS
from vlfilter.models.hf_template import chat_template
from vlfilter.models.layout import hf_name
from vlfilter.models.locate import VisionWeights
from vlfilter.models.preprocess import preprocessor_config
from vlfilter.models.weights import SHARD_BYTES, StoredTensor, write_stored

SERVED_BODIES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def export_hf(
    model: str,
    output: str | Path,
    *,
    base: str | None = None,
    dtype: str = "auto",
    vision: VisionWeights = "auto",
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a language model with a CLIP tower and an `mlp2x_gelu` projector in transformers' layout.

    Returns the folder, which appears whole or not at all. The image gets a token `<image>` of its own, for which the
    vocabulary grows by a row of zeros where the tokenizer has filled it (its logit is 0, which a trained model's own
    exceed by far). `dtype` `auto` keeps that of config.json. One shard of weights is in memory at a time. Raises
    `VlfilterError` for another architecture, when the folder exists with something in it, or cannot be written.
    """
    opened = open_vlm(model, head="lm", base=base, vision=vision)
    check_exportable(opened, model)
    weights = _dtype(opened, dtype)
    tokenizer = opened.tokenizer.hf
    tokenizer.add_tokens([AddedToken(IMAGE_PLACEHOLDER, normalized=False, special=True)], special_tokens=True)
    image_token = int(tokenizer.convert_tokens_to_ids(IMAGE_PLACEHOLDER))
    rows = max(int(opened.config.body.vocab_size), image_token + 1)
    named = opened.config.published.get("mm_conversation_template")
    trained = trained_template(opened.config.body.model_type, int(opened.config.body.vocab_size))
    template = find_template(str(named)) if named else trained
    if template.answers_apart:
        raise VlfilterError(
            f"{model} was trained with the template {template.name}, whose pieces are tokenised apart: no chat "
            "template can write it."
        )
    bos = tokenizer.bos_token if opened.tokenizer.automatic_bos is not None else ""
    tokenizer.chat_template = chat_template(template, bos)
    tokenizer.model_max_length = opened.config.max_length or tokenizer.model_max_length
    with new_folder(output) as folder:
        write_stored(folder, _tensors(opened, rows), weights, shard_bytes)
        tokenizer.save_pretrained(folder)
        _config(opened, image_token, rows, weights).save_pretrained(folder)
        for name, value in _side_files(opened).items():
            (folder / name).write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return Path(output)


def check_exportable(opened: OpenedVlm, origin: str) -> None:
    """Raises `VlfilterError` unless transformers and vLLM have a class for the model."""
    config = opened.config
    parts = (
        ("vision tower", config.vision.model_type, ("clip_vision_model",)),
        ("projector", config.projector.kind, ("mlp2x_gelu",)),
        ("language model", config.body.model_type, tuple(SERVED_BODIES)),
    )
    wrong = [f"its {part} is {found} (wanted: {' or '.join(fit)})" for part, found, fit in parts if found not in fit]
    if wrong:
        raise VlfilterError(
            f"{origin} cannot be written as a {HF_ARCHITECTURE}: {'; '.join(wrong)}. transformers and vLLM have no "
            "class for it: score with --backend transformers."
        )
    if opened.images.resize != "shortest":
        raise VlfilterError(f"{origin} cannot be written as a {HF_ARCHITECTURE}: its images are not cropped as CLIP's.")


def _dtype(opened: OpenedVlm, asked: str) -> torch.dtype:
    written = opened.config.published.get("torch_dtype") or opened.config.published.get("dtype")
    name = asked if asked != "auto" else str(written or "float32")
    if name not in _DTYPES:
        raise VlfilterError(f"dtype {name!r} is unknown: {', '.join(_DTYPES)}.")
    return _DTYPES[name]


def _tensors(opened: OpenedVlm, rows: int) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for name, tensor in opened.tensors.items():
        grown = name in ("body.embed_tokens.weight", "lm_head.weight") and tensor.shape[0] < rows
        if grown:
            tensor = StoredTensor((rows, *tensor.shape[1:]), partial(_with_rows, tensor, rows))
        tensors[hf_name(name)] = tensor
    return tensors


def _with_rows(tensor: StoredTensor, rows: int) -> Tensor:
    data = tensor.read()
    return torch.cat([data, data.new_zeros(rows - len(data), *data.shape[1:])])


def _config(opened: OpenedVlm, image_token: int, rows: int, dtype: torch.dtype) -> Any:
    config, tokenizer = opened.config, opened.tokenizer
    text = config.body.to_dict() | {
        "vocab_size": rows,
        "architectures": [SERVED_BODIES[config.body.model_type]],
        "bos_token_id": tokenizer.bos,
        "eos_token_id": tokenizer.eos,
        "pad_token_id": tokenizer.hf.pad_token_id,
    }
    side = int(config.vision.image_size) // int(config.vision.patch_size)
    whole = LlavaConfig(
        text_config=text,
        vision_config=config.vision.to_dict(),
        image_token_index=image_token,
        image_seq_length=side**2 + (config.select_feature == "cls_patch"),
        projector_hidden_act="gelu",
        multimodal_projector_bias=True,
        vision_feature_layer=config.select_layer,
        vision_feature_select_strategy=HF_FEATURES[config.select_feature],
        tie_word_embeddings=bool(config.body.tie_word_embeddings),
    )
    for name in TRAINED_AS:
        if config.published.get(name) is not None:
            setattr(whole, name, config.published[name])
    whole.architectures, whole.dtype = [HF_ARCHITECTURE], dtype
    return whole


def _side_files(opened: OpenedVlm) -> Mapping[str, Mapping[str, object]]:
    config, tokenizer = opened.config, opened.tokenizer
    return {
        "preprocessor_config.json": preprocessor_config(opened.images) | {"processor_class": "LlavaProcessor"},
        "processor_config.json": {
            "processor_class": "LlavaProcessor",
            "image_token": IMAGE_PLACEHOLDER,
            "patch_size": int(config.vision.patch_size),
            "num_additional_image_tokens": 1,  # CLIP's class token
            "vision_feature_select_strategy": HF_FEATURES[config.select_feature],
        },
        "generation_config.json": {
            "bos_token_id": tokenizer.bos,
            "eos_token_id": tokenizer.eos,
            "pad_token_id": tokenizer.hf.pad_token_id,
        },
    }
