"""Low-rank adapters (LoRA, Hu et al. 2021) as tensors: in files of peft's layout, and merged into a model's weights.

By our names an adapter is `body.layers.0.self_attn.q_proj.lora_A` (r, in) and `….lora_B` (out, r).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from vlfilter.errors import VlfilterError
from vlfilter.models.folders import read_json
from vlfilter.models.layout import our_name, published_name
from vlfilter.models.weights import StoredTensor, open_weights

A, B = "lora_A", "lora_B"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."  # peft's


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """`targets` are last parts of layers' names; the product of the matrices counts `alpha` / `r` times."""

    r: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]

    @property
    def scale(self) -> float:
        return self.alpha / self.r


@dataclass(frozen=True, slots=True)
class Adapter:
    """`tensors` by our names."""

    tensors: dict[str, Tensor]
    config: LoraConfig


def peft_name(ours: str) -> str:
    """An adapter's name in peft's files."""
    layer, _, leaf = ours.rpartition(".")
    return f"{_PREFIX}{published_name(layer)}.{leaf}.weight"


def adapter_name(peft: str) -> str:
    """Ours of a name in peft's files, of any version (newer ones may name the adapter: `lora_A.default.weight`)."""
    inner = peft.removeprefix(_PREFIX).removesuffix(".weight").removesuffix(".default")
    layer, _, leaf = inner.rpartition(".")
    return f"{our_name(layer + '.').removesuffix('.')}.{leaf}"


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def read_adapter(folder: Path) -> Adapter:
    """The adapter of a folder.

    Raises `VlfilterError` for a folder that is none, or whose kind of adapter adds more than LoRA does.
    """
    if not is_adapter(folder):
        raise VlfilterError(f"{folder} has no adapter: {CONFIG} and {WEIGHTS} are missing.")
    told = read_json(folder / CONFIG)
    if told.get("peft_type") != "LORA" or told.get("use_dora") or told.get("rank_pattern") or told.get("use_rslora"):
        raise VlfilterError(f"{folder / CONFIG} tells of another adapter than plain LoRA.")
    tensors = {adapter_name(name): stored.read() for name, stored in open_weights([folder / WEIGHTS]).items()}
    dropout = float(told.get("lora_dropout") or 0)
    return Adapter(
        tensors, LoraConfig(int(told["r"]), float(told["lora_alpha"]), dropout, tuple(told["target_modules"]))
    )


def split_lora(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A state dict's tensors without adapters, and its adapters'."""
    lora = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] in (A, B)}
    return {name: tensor for name, tensor in state.items() if name not in lora}, lora


def merged(state: Mapping[str, Tensor], lora: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """`state` with scale · B·A added to the weights of the adapted layers, in float32, then in the weight's type."""
    made = dict(state)
    for layer in _layers(lora):
        name = f"{layer}.weight"
        made[name] = _sum(state[name], lora[f"{layer}.{A}"], lora[f"{layer}.{B}"], scale)
    return made


def merged_stored(tensors: Mapping[str, StoredTensor], adapter: Adapter) -> dict[str, StoredTensor]:
    """As `merged`, of tensors that are read, and merged, when asked for."""
    made, lora = dict(tensors), adapter.tensors
    for layer in _layers(lora):
        stored = tensors[f"{layer}.weight"]
        read = partial(_read_sum, stored, lora[f"{layer}.{A}"], lora[f"{layer}.{B}"], adapter.config.scale)
        made[f"{layer}.weight"] = StoredTensor(stored.shape, read)
    return made


def check_adapter(lora: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], origin: str) -> None:
    """Raises `VlfilterError` for adapters without their other half, of layers that the model lacks, and of another
    shape than these; `shapes` are those of the model's tensors, by our names."""
    layers = sorted({name.rpartition(".")[0] for name in lora})
    halves = [name for name in layers if not {f"{name}.{A}", f"{name}.{B}"} <= lora.keys()]
    unknown = [name for name in layers if f"{name}.weight" not in shapes]
    if halves or unknown:
        what = f"half of an adapter only for {halves[0]}" if halves else f"the model has no layer {unknown[0]}"
        raise VlfilterError(f"{origin} does not fit the model: {what} ({len(halves) + len(unknown)} in all).")
    for name in layers:
        out, into = shapes[f"{name}.weight"]
        first, second = tuple(lora[f"{name}.{A}"].shape), tuple(lora[f"{name}.{B}"].shape)
        if (second[0], first[1]) != (out, into) or first[0] != second[1]:
            raise VlfilterError(
                f"{origin} does not fit the model: {name} is {out} × {into}, its adapter {first} and {second}."
            )


def _layers(lora: Mapping[str, Tensor]) -> list[str]:
    return [name.removesuffix(f".{A}") for name in lora if name.endswith(f".{A}")]


def _sum(weight: Tensor, first: Tensor, second: Tensor, scale: float) -> Tensor:
    product = scale * (second.float() @ first.float())
    return (weight.float() + product.to(weight.device)).to(weight.dtype)


def _read_sum(stored: StoredTensor, first: Tensor, second: Tensor, scale: float) -> Tensor:
    return _sum(stored.read(), first, second, scale)
