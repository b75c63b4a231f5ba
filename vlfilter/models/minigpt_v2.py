"""MiniGPT-v2's checkpoints: a file of torch with LoRA and the projection alone, the base weights lying apart.

Its `model` holds `llama_model.base_model.model.….q_proj.lora_A.weight` (peft's names), `llama_proj` and perhaps
`ln_vision`; `config`, `optimizer`, `scaler` and `epoch` lie beside it. Source: Vision-CAIR/MiniGPT-4 and its fork in
MLLM-DataEngine, which read it without looking whether anything is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vlfilter.data.storage import temporary_path
from vlfilter.errors import VlfilterError
from vlfilter.models.adapters import A, Adapter, B, LoraConfig, adapter_name, peft_name
from vlfilter.models.vlm import VlmConfig
from vlfilter.models.weights import StoredTensor, is_derived, read_torch, stored_tensors

PROJECTOR, TEMPLATE, IMAGE_SIZE = "concat4", "minigpt_v2", 448
NORM = {f"vision.model.post_layernorm.{leaf}" for leaf in ("weight", "bias")}  # by our names
TARGETS = ("q_proj", "v_proj")
_LORA = "llama_model."
_UNTOLD = {"lora_alpha": 16.0, "lora_dropout": 0.05}  # where the file's config does not tell
_PROJECTION = {"llama_proj.weight": "projector.weight", "llama_proj.bias": "projector.bias"}
_NORM = {f"ln_vision.{name.rpartition('.')[2]}": name for name in NORM}


@dataclass(frozen=True)
class MiniGptCheckpoint:
    """`rest` is the projection, and the tower's norm where the file has it, by our names."""

    adapter: Adapter
    rest: dict[str, StoredTensor]


def read_checkpoint(path: Path, config: VlmConfig) -> MiniGptCheckpoint:
    """A published checkpoint, for a model of that configuration.

    Raises `VlfilterError` for a file that is none, and listing key by key what is missing, unexpected or of another
    shape.
    """
    held = read_torch(path)
    if not isinstance(held, dict) or not isinstance(held.get("model"), dict):
        raise VlfilterError(f"{path} is no checkpoint of MiniGPT-v2: it has no `model`.")
    stored = {name: t for name, t in stored_tensors(held["model"], str(path)).items() if not is_derived(name)}
    ranks = sorted({tensor.shape[0] for name, tensor in stored.items() if _ours(name).endswith(f".{A}")})
    if len(ranks) != 1:
        raise VlfilterError(f"{path} is no checkpoint of MiniGPT-v2: its adapters are of {len(ranks)} ranks.")
    _check({_ours(name): (name, tensor.shape) for name, tensor in stored.items()}, config, ranks[0], path)
    tensors = {_ours(name): tensor for name, tensor in stored.items()}
    adapters = {name: tensor.read() for name, tensor in tensors.items() if name.endswith((f".{A}", f".{B}"))}
    rest = {name: tensor for name, tensor in tensors.items() if name not in adapters}
    told = held["config"].get("model") if isinstance(held.get("config"), dict) else None
    told = told if isinstance(told, dict) else {}
    alpha, dropout = (float(told.get(name, default)) for name, default in _UNTOLD.items())
    return MiniGptCheckpoint(Adapter(adapters, LoraConfig(ranks[0], alpha, dropout, TARGETS)), rest)


def write_checkpoint(path: Path, adapter: Adapter, rest: Mapping[str, Tensor], config: VlmConfig) -> None:
    """Write the published layout, in float32, whole or not at all: `model`, and in `config` the numbers of LoRA.

    Raises `VlfilterError` for adapters beside other layers than MiniGPT-v2's, listing key by key what does not fit.
    """
    tensors = {**adapter.tensors, **rest}
    found = {ours: (_published(ours), tuple(tensor.shape)) for ours, tensor in tensors.items()}
    _check(found, config, adapter.config.r, path)
    named = {_published(ours): tensor.detach().to("cpu", torch.float32).clone() for ours, tensor in tensors.items()}
    told = {
        "arch": "minigpt_v2", "image_size": int(config.vision.image_size), "lora_r": adapter.config.r,
        "lora_alpha": adapter.config.alpha, "lora_dropout": adapter.config.dropout, "lora_target_modules": [*TARGETS],
        "chat_template": True, "end_sym": "</s>",
    }  # fmt: skip
    temporary = Path(temporary_path(str(path.absolute())))
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": named, "config": {"model": told}}, temporary)
        temporary.replace(path)
    except OSError as error:
        raise VlfilterError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def wanted_shapes(config: VlmConfig, r: int) -> dict[str, tuple[int, ...]]:
    """The tensors that a checkpoint must have, by our names, for LoRA of rank `r`."""
    body = config.body
    hidden, heads = int(body.hidden_size), int(body.num_attention_heads)
    width = int(getattr(body, "head_dim", None) or hidden // heads)
    outs = {"q_proj": heads * width, "v_proj": int(body.num_key_value_heads) * width}
    shapes: dict[str, tuple[int, ...]] = {
        "projector.weight": (hidden, 4 * int(config.vision.hidden_size)), "projector.bias": (hidden,)
    }  # fmt: skip
    for layer in range(int(body.num_hidden_layers)):
        for target in TARGETS:
            name = f"body.layers.{layer}.self_attn.{target}"
            shapes |= {f"{name}.{A}": (r, hidden), f"{name}.{B}": (outs[target], r)}
    return shapes


def _ours(published: str) -> str:
    if published in _PROJECTION or published in _NORM:
        return (_PROJECTION | _NORM)[published]
    return adapter_name(published.removeprefix(_LORA)) if published.startswith(_LORA) else published


def _published(ours: str) -> str:
    theirs = {name: published for published, name in (_PROJECTION | _NORM).items()}
    return theirs.get(ours) or _LORA + peft_name(ours)


def _check(found: Mapping[str, tuple[str, tuple[int, ...]]], config: VlmConfig, r: int, path: Path) -> None:
    """`found` tells the published name and the shape of every tensor, by our names."""
    wanted = wanted_shapes(config, r)
    norm = (int(config.vision.hidden_size),)
    wanted |= dict.fromkeys(NORM, norm) if NORM & found.keys() else {}
    lines = [f"missing: {_published(ours)}" for ours in sorted(wanted.keys() - found.keys())]
    lines += [f"unexpected: {found[ours][0]}" for ours in sorted(found.keys() - wanted.keys())]
    lines += [
        f"of another shape: {name} {shape} instead of {wanted[ours]}"
        for ours, (name, shape) in found.items() if ours in wanted and shape != wanted[ours]
    ]  # fmt: skip
    if lines:
        raise VlfilterError(f"{path} does not fit the model as a checkpoint of MiniGPT-v2:\n" + "\n".join(lines))
