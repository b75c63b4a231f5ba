"""Checks of a vision-language checkpoint's folder that need no torch, and where its vision weights come from."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from vlfilter.errors import VlfilterError
from vlfilter.models.bodies import Head, body_kind, head_of
from vlfilter.models.digests import tower_digest
from vlfilter.models.folders import has_weights, is_hub_name, read_json, tokenizer_files, weight_files
from vlfilter.models.hf_config import HF_TOWERS, as_published, is_hf_layout

VisionWeights = Literal["auto", "embedded", "hub"]
PROJECTOR_NAMES = ("mm_projector.bin", "mm_projector.safetensors")
EMBEDDED_PREFIX = "model.vision_tower.vision_tower."

_SO400M = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "num_attention_heads": 16, "image_size": 384, "patch_size": 14,
}  # fmt: skip
_CLIP_L = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 224, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip
# Shapes of the towers that published checkpoints name and embed, so that they load without the hub.
KNOWN_TOWERS: dict[str, dict[str, Any]] = {
    "google/siglip-so400m-patch14-384": _SO400M,
    "google/siglip2-so400m-patch14-384": _SO400M,
    "openai/clip-vit-large-patch14": _CLIP_L,
    "openai/clip-vit-large-patch14-336": _CLIP_L | {"image_size": 336},
}
# PIL's filter of each tower's own processor where it is not bicubic
KNOWN_RESAMPLE = {"google/siglip2-so400m-patch14-384": 2}


@dataclass(frozen=True, slots=True)
class VisionSource:
    """`embedded` in the checkpoint, or the `path` of a local tower (its folder, or EVA's file), or the `hub_name` of a
    published one."""

    embedded: bool = False
    path: Path | None = None
    hub_name: str | None = None

    def digest(self) -> str:
        """What tells this tower from others; the embedded one is told by the checkpoint's own digest."""
        if self.embedded:
            return "embedded"
        return tower_digest(str(self.path or self.hub_name))


def check_vlm_folder(folder: Path, head: Head = "score", base: Path | None = None) -> dict[str, Any]:
    """The config.json of a checkpoint with that head, after looking that all it needs is there; one in transformers'
    own layout is told in the published fields.

    With a `base` language model, the folder need hold nothing but config.json and the projector.

    Raises `VlfilterError` saying what is missing or unsupported, and what to do.
    """
    config = read_json(folder / "config.json")
    if is_hf_layout(config):
        config = as_published(config, str(folder))
    body_kind(config, str(folder))
    if head_of(config) != head:
        name = (config.get("architectures") or ["classifier"])[0]
        found, wanted = (
            ("a language model without a score head", "a classifier")
            if head == "score"
            else ("a classifier with a score head", "a language model")
        )
        raise VlfilterError(f"{folder} is a {name}: {found}, not {wanted}.")
    if base is not None:
        projector_file(folder)
        weight_files(base)
        tokenizer_files(base)
        return config
    if head == "lm" and (folder / PROJECTOR_NAMES[0]).is_file() and not has_weights(folder):
        raise VlfilterError(
            f"{folder} holds only a projector ({PROJECTOR_NAMES[0]}): name its language model too (model_base)."
        )
    weight_files(folder)
    tokenizer_files(folder)
    return config


def projector_file(folder: Path) -> Path:
    """The file of a projector-only checkpoint. Raises `VlfilterError` when there is none."""
    for name in PROJECTOR_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise VlfilterError(f"{folder} has no {PROJECTOR_NAMES[0]}: model_base is for folders that hold only a projector.")


def vision_source(folder: Path, config: Mapping[str, Any], choice: VisionWeights) -> VisionSource:
    """Where the vision weights come from.

    `hub` takes the tower that `mm_vision_tower` names, as the published scripts do: a folder or file (relative to the
    checkpoint, or absolute), else a hub name. `embedded` takes the copy inside the checkpoint (the same frozen weights,
    rounded to its dtype). `auto` takes a local tower, else the embedded copy, else the hub: the same on every
    machine of a run, with or without a network. Raises `VlfilterError` when there is none.
    """
    if choice not in get_args(VisionWeights):
        raise VlfilterError(f"vision weights {choice!r}: choose one of {', '.join(get_args(VisionWeights))}.")
    name = str(config.get("mm_vision_tower") or "")
    local = next((path for path in (folder / name, Path(name)) if name and path.exists()), None)
    if choice != "embedded" and local:
        return VisionSource(path=local)
    embedded = has_weights(folder) and _has_embedded_tower(folder)
    if choice != "hub" and embedded:
        return VisionSource(embedded=True)
    if choice != "embedded" and is_hub_name(name):
        return VisionSource(hub_name=name)
    raise VlfilterError(
        f"{folder}: no vision tower. config.json names {name or 'none'} (mm_vision_tower), which is "
        f"{'not wanted here' if choice == 'embedded' else 'neither a folder nor a hub name'}, and the checkpoint "
        f"embeds {'one (choose vision=embedded)' if embedded else 'none'}."
    )


def embedded_vision_config(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of the embedded tower. Raises `VlfilterError` when neither config.json nor its name tells it."""
    name = str(config.get("mm_vision_tower") or "")
    shape = config.get("mm_vision_config") or KNOWN_TOWERS.get(name)
    if not shape:
        raise VlfilterError(
            f"{folder} embeds the vision tower {name!r}, whose shape is not known without its config.json: put the "
            "tower's folder beside the checkpoint and name it in mm_vision_tower, or load it from the hub (vision=hub)."
        )
    return dict(shape)


def _has_embedded_tower(folder: Path) -> bool:
    return any(name.startswith((EMBEDDED_PREFIX, *HF_TOWERS)) for name in _tensor_names(folder))


def _tensor_names(folder: Path) -> set[str]:
    """Names of the stored tensors, from an index or a safetensors header (a JSON text after its length)."""
    for index in folder.glob("*.index.json"):
        return set(read_json(index).get("weight_map", {}))
    path = weight_files(folder)[0]
    if path.suffix != ".safetensors":
        return {EMBEDDED_PREFIX}  # a single .bin tells its names only to torch; loading it finds out
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = file.read(min(length, 2**27))
            if len(header) != length:
                raise ValueError("its header is cut")
            return set(json.loads(header))
    except (OSError, struct.error, ValueError) as error:
        raise VlfilterError(f"{path} is damaged ({error}): download it again.") from error
