"""Adapters in a folder of their own, in peft's layout, and merged with the model that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import load_vlm, save_vlm
from vlfilter.models.folders import read_json
from vlfilter.models.layout import our_name, published_name
from vlfilter.models.locate import PROJECTOR_NAMES
from vlfilter.models.weights import open_weights
from vlfilter.training.lora import LoraConfig, check_pairs, merged
from vlfilter.training.run_folder import write_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."  # peft's


def write_adapter(target: Path, lora: Mapping[str, Tensor], config: LoraConfig, base: str) -> None:
    """Adapters by our names as `adapter_model.safetensors` with `adapter_config.json`, float32. `base` is told only."""
    target.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, tensor in lora.items():
        layer, _, leaf = name.rpartition(".")
        tensors[f"{_PREFIX}{published_name(layer)}.{leaf}.weight"] = tensor.float().contiguous()
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    told = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": config.r,
        "lora_alpha": config.alpha, "lora_dropout": config.dropout, "target_modules": list(config.targets),
        "bias": "none", "fan_in_fan_out": False, "inference_mode": True,
    }  # fmt: skip
    write_json(target / CONFIG, told)


def read_adapter(folder: Path) -> tuple[dict[str, Tensor], float]:
    """The adapters of a folder by our names, and the scale that their product counts with.

    Raises `VlfilterError` for a folder that is none, or whose kind of adapter adds more than LoRA does.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise VlfilterError(f"{folder} has no adapter: {CONFIG} and {WEIGHTS} are missing.")
    told = read_json(folder / CONFIG)
    if told.get("peft_type") != "LORA" or told.get("use_dora") or told.get("rank_pattern") or told.get("use_rslora"):
        raise VlfilterError(f"{folder / CONFIG} tells of another adapter than plain LoRA.")
    lora = {}
    for name, stored in open_weights([folder / WEIGHTS]).items():
        layer, _, leaf = name.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
        lora[f"{our_name(layer + '.').removesuffix('.')}.{leaf}"] = stored.read()
    return lora, float(told["lora_alpha"]) / int(told["r"])


def merge_adapter(adapter: str, base: str, output: str, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write the model of folder or hub name `base` with an adapter in it, and with the adapter's own projector where
    one lies beside it, as a folder that `load_vlm` reads at once.

    Raises `VlfilterError` for an adapter that does not fit, and for an output that exists with something in it.
    """
    folder = Path(adapter)
    lora, scale = read_adapter(folder)
    loaded = load_vlm(base, head="lm", dtype=dtype)
    state = loaded.model.state_dict()
    check_pairs(lora, [name.removesuffix(".weight") for name in state], str(folder))
    projector = folder / PROJECTOR_NAMES[0]
    if projector.is_file():
        own = {our_name(name): stored.read() for name, stored in open_weights([projector]).items()}
        if own.keys() - state.keys() or any(own[name].shape != state[name].shape for name in own):
            raise VlfilterError(f"{projector} does not fit the projector of {base}.")
        state |= {name: tensor.to(dtype) for name, tensor in own.items()}
    try:
        whole = merged(state, lora, scale)
    except RuntimeError as error:
        raise VlfilterError(f"{folder} does not fit {base}: {error}") from None
    return save_vlm(output, loaded.model, loaded.tokenizer, loaded.images, dtype=dtype, state=whole)
