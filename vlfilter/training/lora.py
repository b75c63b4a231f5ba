"""Low-rank adapters beside linear layers (LoRA, Hu et al. 2021): in training, and merged into the weights.

The names of a layer's own tensors stay, so that weights are read, gathered and written as without adapters.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlfilter.errors import VlfilterError
from vlfilter.training.settings import TrainSettings

A, B = "lora_A", "lora_B"


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


def lora_config(settings: TrainSettings) -> LoraConfig | None:
    """What the settings say about adapters, where they are to be trained."""
    if "lora" not in settings.trainable:
        return None
    return LoraConfig(settings.lora_r, settings.lora_alpha, settings.lora_dropout, settings.lora_targets)


class LoraLinear(nn.Linear):
    """A frozen linear layer with W·x + scale · B·A·dropout(x); A (r, in) and B (out, r) are trained.

    It takes over the layer's own parameters. B begins with zeros: the layer first does what it did.
    """

    def __init__(self, layer: nn.Linear, config: LoraConfig, start: Tensor):
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = layer.weight.requires_grad_(False)
        self.register_parameter("bias", None if layer.bias is None else layer.bias.requires_grad_(False))
        self.lora_A = nn.Parameter(start)
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, config.r, dtype=start.dtype, device=start.device))
        self.scale, self.dropout = config.scale, nn.Dropout(config.dropout)

    def forward(self, input: Tensor) -> Tensor:
        own = nn.functional.linear(input, self.weight, self.bias)
        down = nn.functional.linear(self.dropout(input.to(self.lora_A.dtype)), self.lora_A)
        return own + (self.scale * nn.functional.linear(down, self.lora_B)).to(own.dtype)


def adapted_layers(module: nn.Module, targets: Sequence[str]) -> list[tuple[str, nn.Linear]]:
    """The linear layers that `targets` name. Raises `VlfilterError` for a target that names none."""
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    known = {name.rpartition(".")[2] for name, _ in layers}
    if missing := sorted(set(targets) - known):
        raise VlfilterError(f"lora_targets {', '.join(missing)} name no layer; there are {', '.join(sorted(known))}.")
    return [(name, layer) for name, layer in layers if name.rpartition(".")[2] in targets]


def add_lora(
    module: nn.Module, config: LoraConfig, seed: int, dtype: torch.dtype, device: torch.device | str
) -> list[LoraLinear]:
    """Put adapters beside all linear layers of `module` that `config.targets` names; everything else is left as it is.

    A begins as torch's linear layers do, by the seed and the layer's name alone, the same in every process. Raises
    `VlfilterError` for a target that names no linear layer.
    """
    made = []
    for name, layer in adapted_layers(module, config.targets):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + zlib.crc32(name.encode()))
        start = torch.empty(config.r, layer.in_features)
        nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
        owner, _, leaf = name.rpartition(".")
        adapted = LoraLinear(layer, config, start.to(device=device, dtype=dtype))
        setattr(module.get_submodule(owner), leaf, adapted)
        made.append(adapted)
    return made


def split_lora(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A state dict's tensors without adapters, and its adapters'."""
    lora = {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] in (A, B)}
    return {name: tensor for name, tensor in state.items() if name not in lora}, lora


def merged(state: Mapping[str, Tensor], lora: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """`state` with scale · B·A added to the weights of the adapted layers, in float32, then in the weight's type."""
    made = dict(state)
    for name, first in lora.items():
        layer, _, leaf = name.rpartition(".")
        if leaf != A:
            continue
        weight = state[f"{layer}.weight"]
        product = scale * (lora[f"{layer}.{B}"].float() @ first.float())
        made[f"{layer}.weight"] = (weight.float() + product.to(weight.device)).to(weight.dtype)
    return made


def check_pairs(lora: Mapping[str, Tensor], layers: Sequence[str], origin: str) -> None:
    """Raises `VlfilterError` for adapters without their other half, or of layers that are not among `layers`."""
    names = {name.rpartition(".")[0] for name in lora}
    halves = [name for name in sorted(names) if not {f"{name}.{A}", f"{name}.{B}"} <= lora.keys()]
    unknown = sorted(names - set(layers))
    if halves or unknown:
        what = f"half of an adapter only for {halves[0]}" if halves else f"the model has no layer {unknown[0]}"
        raise VlfilterError(f"{origin} does not fit the model: {what} ({len(halves) + len(unknown)} in all).")
