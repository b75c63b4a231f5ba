"""MiniGPT-v2's checkpoints in and out of the house's folders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from vlfilter.errors import VlfilterError
from vlfilter.models.adapters import is_adapter, merged_stored, read_adapter
from vlfilter.models.checkpoints import named_ours, write_side_files
from vlfilter.models.folders import model_folder, new_folder, read_json, weight_files
from vlfilter.models.layout import parse_config, published_config, published_name
from vlfilter.models.locate import PROJECTOR_NAMES, embedded_vision_config
from vlfilter.models.minigpt_v2 import (
    IMAGE_SIZE,
    NORM,
    PROJECTOR,
    TEMPLATE,
    MiniGptCheckpoint,
    read_checkpoint,
    write_checkpoint,
)
from vlfilter.models.parts import OpenedParts, Parts, open_parts
from vlfilter.models.vision import EVA, vision_config
from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.models.weights import SHARD_BYTES, check_fit, empty_parameters, open_weights, write_stored
from vlfilter.training.lora_files import write_adapter
from vlfilter.training.run_folder import write_json

ADAPTER = "adapter"  # where a merged model's LoRA lies, below its folder


def import_minigpt_v2(
    checkpoint: str, output: str, *, language_model: str, vision_tower: str, image_size: int = IMAGE_SIZE,
    merge: bool = True, dtype: torch.dtype = torch.float16, shard_bytes: int = SHARD_BYTES,
) -> Path:  # fmt: skip
    """Write a published checkpoint as a folder that `load_vlm` reads, and return it.

    `merge` puts LoRA into the language model's weights and writes them whole, in `dtype`, with LoRA beside them; a
    shard is in memory at a time. Otherwise only LoRA and the projection are written, in float32: `load_vlm` reads them
    with the language model as `base`, and the tower where it lies now. Raises `VlfilterError` for what does not fit.
    """
    parts = Parts(language_model, vision_tower, PROJECTOR, image_size=image_size, tower_apart=not merge)
    opened = open_parts(parts)
    found = read_checkpoint(Path(checkpoint).expanduser(), opened.config)
    told = {"mm_conversation_template": TEMPLATE, "mm_image_mode": "processor"}
    config = replace(
        opened.config,
        max_length=int(opened.config.body.max_position_embeddings),
        published={**opened.config.published, **told},
    )
    opened = replace(opened, config=config)
    with new_folder(output) as folder:
        if merge:
            _write_whole(folder, opened, found, dtype, shard_bytes)
            write_adapter(folder / ADAPTER, found.adapter.tensors, found.adapter.config, language_model)
        else:
            write_adapter(folder, found.adapter.tensors, found.adapter.config, language_model)
            own = {published_name(name): stored.read().float() for name, stored in found.rest.items()}
            torch.save(own, folder / PROJECTOR_NAMES[0])
            write_json(folder / "config.json", published_config(config))
    return Path(output)


def export_minigpt_v2(model: str, output: str) -> Path:
    """Write LoRA and the projection of a folder as a published checkpoint, and return it.

    `model` is what `finetune` or `import_minigpt_v2` wrote, merged or not. Raises `VlfilterError` for a folder without
    LoRA, and for another model than MiniGPT-v2.
    """
    folder, path = model_folder(model), Path(output)
    place = next((place for place in (folder, folder / ADAPTER) if is_adapter(place)), None)
    if place is None:
        raise VlfilterError(f"{folder} has no LoRA beside its weights ({ADAPTER}/), and a checkpoint holds just that.")
    if path.exists():
        raise VlfilterError(f"{path} exists already: remove it, or choose another file.")
    told = read_json(folder / "config.json")
    vision = vision_config(embedded_vision_config(folder, told), str(folder))
    config = parse_config(told, vision, str(folder))
    if vision.model_type != EVA or config.projector.kind != PROJECTOR:
        raise VlfilterError(
            f"{folder} is no MiniGPT-v2: its tower is a {vision.model_type}, its projector {config.projector.kind}."
        )
    alone = folder / PROJECTOR_NAMES[0]
    tensors = named_ours(open_weights([alone] if alone.is_file() else weight_files(folder)))
    rest = {name: t.read().float() for name, t in tensors.items() if name.startswith("projector.") or name in NORM}
    if all(bool((rest[name] == float(name.endswith("weight"))).all()) for name in NORM & rest.keys()):
        rest = {name: tensor for name, tensor in rest.items() if name not in NORM}  # it does nothing, as published
    write_checkpoint(path, read_adapter(place), rest, config)
    return path


def _write_whole(
    folder: Path, opened: OpenedParts, found: MiniGptCheckpoint, dtype: torch.dtype, shard_bytes: int
) -> None:
    tensors = merged_stored(opened.tensors | found.rest, found.adapter)
    with empty_parameters():
        empty = VisionLanguageModel(opened.config, "eager")
    check_fit(empty, tensors, str(folder))
    write_stored(folder, {published_name(name): stored for name, stored in tensors.items()}, dtype, shard_bytes)
    write_side_files(folder, opened.config, opened.tokenizer, opened.images, dtype)
