"""Low-rank adapters beside linear layers (LoRA, Hu et al. 2021), in training.

The names of a layer's own tensors stay, so that weights are read, gathered and written as without adapters.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vlfilter.errors import VlfilterError
from vlfilter.models.adapters import A, B, LoraConfig
from vlfilter.training.settings import TrainSettings


def lora_config(settings: TrainSettings) -> LoraConfig | None:
    """What the settings say about adapters, where they are to be trained."""
    if "lora" not in settings.trainable:
        return None
    return LoraConfig(settings.lora_r, settings.lora_alpha, settings.lora_dropout, settings.lora_targets)


class LoraLinear(nn.Linear):
    """A frozen linear layer with W·x + scale · B·A·dropout(x); A (r, in) and B (out, r) are trained.

    It takes over the layer's own parameters. Where B begins with zeros, as a new one does, the layer first does what it
    did.
    """

    def __init__(self, layer: nn.Linear, config: LoraConfig, first: Tensor, second: Tensor):
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = layer.weight.requires_grad_(False)
        self.register_parameter("bias", None if layer.bias is None else layer.bias.requires_grad_(False))
        self.lora_A, self.lora_B = nn.Parameter(first), nn.Parameter(second)
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
    module: nn.Module, config: LoraConfig, seed: int, dtype: torch.dtype, device: torch.device | str,
    known: Mapping[str, Tensor] | None = None,
) -> list[LoraLinear]:  # fmt: skip
    """Put adapters beside all linear layers of `module` that `config.targets` names; everything else is left as it is.

    They begin as `known` tells (by names below `module`). Else A begins as torch's linear layers do, by the seed and
    the layer's name alone, the same in every process, and B with zeros. Raises `VlfilterError` for a target that names
    no linear layer.
    """
    made = []
    for name, layer in adapted_layers(module, config.targets):
        halves = [known[f"{name}.{half}"] for half in (A, B)] if known else _new(name, layer, config, seed)
        adapted = LoraLinear(layer, config, *(half.to(device=device, dtype=dtype, copy=True) for half in halves))
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, adapted)
        made.append(adapted)
    return made


def _new(name: str, layer: nn.Linear, config: LoraConfig, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + zlib.crc32(name.encode()))
    first = torch.empty(config.r, layer.in_features)
    nn.init.kaiming_uniform_(first, a=math.sqrt(5), generator=generator)
    return [first, torch.zeros(layer.out_features, config.r)]
