"""8-bit and 4-bit weights: nearly the same model, and a clear word where bitsandbytes is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vlfilter.errors import VlfilterError
from vlfilter.models import quantize
from vlfilter.models.checkpoints import load_vlm

FIXTURE = str(Path(__file__).parents[1] / "fixtures" / "mlm_filter")
IDS = [torch.tensor([5, 6, 7, 8, 9, 10, 300, 20])]


def logits(how: quantize.Quantize) -> torch.Tensor:
    model = load_vlm(FIXTURE, head="lm", quantize=how).model
    with torch.inference_mode():
        return model(IDS, [None])[0].float()


@pytest.mark.parametrize(("how", "stored", "least"), [("8bit", torch.int8, 0.999), ("4bit", torch.uint8, 0.9)])
def test_quantized_weights_answer_nearly_the_same(how: quantize.Quantize, stored: torch.dtype, least: float) -> None:
    pytest.importorskip("bitsandbytes", reason="8-bit and 4-bit loading need bitsandbytes")
    model = load_vlm(FIXTURE, head="lm", quantize=how).model
    assert model.body.layers[0].self_attn.q_proj.weight.dtype == stored
    assert model.lm_head.weight.dtype == torch.float32
    whole, small = logits("none"), logits(how)
    assert least < float(torch.corrcoef(torch.stack([whole, small]))[0, 1]) < 1


def test_a_missing_bitsandbytes_is_said_before_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "find_spec", lambda _: None)
    with pytest.raises(VlfilterError, match=r"need bitsandbytes: pip install 'vlfilter\[quantize\]'"):
        load_vlm(FIXTURE, head="lm", quantize="4bit")
