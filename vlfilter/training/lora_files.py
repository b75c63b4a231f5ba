"""Adapters in a folder of their own, in peft's layout, and merged with the model that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vlfilter.errors import VlfilterError
from vlfilter.models.adapters import CONFIG, WEIGHTS, LoraConfig, check_adapter, merged, peft_name, read_adapter
from vlfilter.models.checkpoints import load_vlm, save_vlm
from vlfilter.models.layout import our_name
from vlfilter.models.locate import PROJECTOR_NAMES
from vlfilter.models.weights import open_weights
from vlfilter.training.run_folder import write_json


def write_adapter(target: Path, lora: Mapping[str, Tensor], config: LoraConfig, base: str) -> None:
    """Adapters by our names as `adapter_model.safetensors` with `adapter_config.json`, float32. `base` is told only."""
    target.mkdir(parents=True, exist_ok=True)
    tensors = {peft_name(name): tensor.float().contiguous() for name, tensor in lora.items()}
    save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
    told = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": config.r,
        "lora_alpha": config.alpha, "lora_dropout": config.dropout, "target_modules": list(config.targets),
        "bias": "none", "fan_in_fan_out": False, "inference_mode": True,
    }  # fmt: skip
    write_json(target / CONFIG, told)


def merge_adapter(adapter: str, base: str, output: str, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write the model of folder or hub name `base` with an adapter in it, and with the adapter's own projector where
    one lies beside it, as a folder that `load_vlm` reads at once.

    Raises `VlfilterError` for an adapter that does not fit, and for an output that exists with something in it.
    """
    folder = Path(adapter)
    found = read_adapter(folder)
    loaded = load_vlm(base, head="lm", dtype=dtype)
    state = loaded.model.state_dict()
    check_adapter(found.tensors, {name: tuple(tensor.shape) for name, tensor in state.items()}, str(folder))
    projector = folder / PROJECTOR_NAMES[0]
    if projector.is_file():
        own = {our_name(name): stored.read() for name, stored in open_weights([projector]).items()}
        if own.keys() - state.keys() or any(own[name].shape != state[name].shape for name in own):
            raise VlfilterError(f"{projector} does not fit the projector of {base}.")
        state |= {name: tensor.to(dtype) for name, tensor in own.items()}
    whole = merged(state, found.tensors, found.config.scale)
    return save_vlm(output, loaded.model, loaded.tokenizer, loaded.images, dtype=dtype, state=whole)
