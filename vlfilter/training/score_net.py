"""Self-Filter's score net: a linear map from a sample's frozen features to one number (arXiv 2402.12501)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vlfilter.data.storage import temporary_path

SCORE_NET = "score_net.safetensors"
WEIGHT = "score_net.weight"
STD = 0.02  # the language model's `initializer_range`, with which the published net begins


class ScoreNet(nn.Linear):
    """features (B, dim) → scores (B,), without bias. A low score is a difficult sample.

    It begins with N(0, 0.02) from `seed` alone, the same in every process. `computed` is the type that features and
    weight are multiplied in: bfloat16 as published, or float32. DeepSpeed holds all of a bfloat16 model's weights so,
    this one too; where `exact` (1, dim) is set, its values are taken and the weight gets their gradient.
    """

    def __init__(self, dim: int, seed: int, computed: torch.dtype):
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.computed = dim, 1, computed
        self.exact: Tensor | None = None
        start = STD * torch.randn(1, dim, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(start)
        self.register_parameter("bias", None)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Scores (B,) in `computed`, and the weight's norm, which only here is whole under ZeRO-3."""
        weight = self.weight.to(self.computed)
        if self.exact is not None:
            weight = weight + (self.exact.to(weight) - weight).detach()
        with torch.autocast(features.device.type, enabled=False):
            scores = nn.functional.linear(features.to(self.computed), weight)
        return scores[:, 0], weight.detach().float().norm()


def whole_weight(net: ScoreNet, zero: str) -> Tensor:
    """The weight (1, dim) in float32, in CPU memory: DeepSpeed's own copy, which is finer than the bfloat16 that it
    computes with. Under DeepSpeed all processes must call."""
    if zero == "none":
        return net.weight.detach().float().cpu()
    from deepspeed.utils import safe_get_full_fp32_param

    return safe_get_full_fp32_param(net.weight).detach().float().cpu().reshape(1, net.in_features)


def write_score_net(folder: Path, weight: Tensor) -> None:
    """`score_net.safetensors` in a folder, whole or not at all: `score_net.weight`, float32 (1, dim)."""
    temporary = temporary_path(str(folder / SCORE_NET))
    save_file({WEIGHT: weight.contiguous()}, temporary)
    Path(temporary).replace(folder / SCORE_NET)


def read_score_net(folder: Path) -> Tensor:
    """What `write_score_net` wrote."""
    return load_file(folder / SCORE_NET)[WEIGHT]
