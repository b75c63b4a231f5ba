"""8-bit and 4-bit weights through bitsandbytes, as the published scripts' --load-8bit and --load-4bit."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from vlfilter.errors import VlfilterError

if TYPE_CHECKING:
    import torch
    from torch import nn

Quantize = Literal["none", "8bit", "4bit"]
OUTLIERS = 6.0  # LLM.int8(): features beyond this stay in 16 bits (Dettmers et al. 2022)


def check_quantize() -> None:
    """Raises `VlfilterError` where bitsandbytes is not installed; imports nothing."""
    if find_spec("bitsandbytes") is None:
        raise VlfilterError("8-bit and 4-bit loading need bitsandbytes: pip install 'vlfilter[quantize]'.")


def quantize_linears(body: nn.Module, how: Quantize, device: str, compute: torch.dtype) -> None:
    """Replace every linear layer of a language model's body, one at a time, and put it on the device.

    4 bits are NF4 with double quantisation (QLoRA), 8 bits LLM.int8(). Embeddings, norms and what lies outside the body
    (tower, projector, head) keep their dtype.
    """
    from torch import nn

    check_quantize()
    linears = [(name, module) for name, module in body.named_modules() if isinstance(module, nn.Linear)]
    for name, linear in linears:
        owner, _, leaf = name.rpartition(".")
        setattr(body.get_submodule(owner), leaf, _quantized(linear, how, compute).to(device))


def _quantized(linear: nn.Linear, how: Quantize, compute: torch.dtype) -> nn.Module:
    import bitsandbytes as bnb
    from torch import nn

    biased = linear.bias is not None
    size = (linear.in_features, linear.out_features)
    data = linear.weight.data
    new: Any
    if how == "4bit":
        new = bnb.nn.Linear4bit(*size, bias=biased, compute_dtype=compute, quant_type="nf4", device="meta")
        new.weight = bnb.nn.Params4bit(data, requires_grad=False, quant_type="nf4", compress_statistics=True)
    else:
        new = bnb.nn.Linear8bitLt(*size, bias=biased, has_fp16_weights=False, threshold=OUTLIERS, device="meta")
        new.weight = bnb.nn.Int8Params(data, requires_grad=False, has_fp16_weights=False)
    if biased:
        new.bias = nn.Parameter(linear.bias.data, requires_grad=False)
    module: nn.Module = new
    return module
