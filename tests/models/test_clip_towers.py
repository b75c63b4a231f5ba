"""The CLIP towers against transformers' own model, with the same weights."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from vlfilter.errors import VlfilterError
from vlfilter.models.clip import save_clip
from vlfilter.models.clip_config import clip_shape
from vlfilter.models.clip_towers import ClipTowers
from vlfilter.models.presets import build_clip, clip_images
from vlfilter.models.tokenizer import train_tokenizer

SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def small_config(activation: str = "quick_gelu", eos: int = 90) -> CLIPConfig:
    text = {**SIZE, "vocab_size": 100, "max_position_embeddings": 12, "hidden_act": activation, "eos_token_id": eos,
            "bos_token_id": 1, "pad_token_id": 0}  # fmt: skip
    vision = {**SIZE, "image_size": 24, "patch_size": 8, "hidden_act": activation}
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)


def both(config: CLIPConfig) -> tuple[CLIPModel, ClipTowers]:
    torch.manual_seed(0)
    theirs = CLIPModel(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # fresh models are too tame to tell activations apart
    ours = ClipTowers(clip_shape(config.to_dict(), "config.json")).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
def test_image_features_equal_transformers(activation: str) -> None:
    theirs, ours = both(small_config(activation))
    pixels = torch.randn(5, 3, 24, 24)
    with torch.no_grad():
        expected = theirs.get_image_features(pixels).pooler_output
        torch.testing.assert_close(ours.encode_images(pixels), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("eos", [90, 2])
def test_text_features_equal_transformers(eos: int) -> None:
    theirs, ours = both(small_config(eos=eos))
    end = 99 if eos == 2 else eos  # old configurations say 2, and the highest id of the row is the end
    ids = torch.tensor([[1, 5, 6, 7, end, end], [1, 8, end, end, end, end], [1, 9, 10, 11, 12, end]])
    with torch.no_grad():
        expected = theirs.get_text_features(ids).pooler_output
        torch.testing.assert_close(ours.encode_texts(ids), expected, atol=1e-5, rtol=1e-4)


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(VlfilterError, match="'swish9'"):
        ClipTowers(clip_shape({"text_config": {"hidden_act": "swish9"}}, "config.json"))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"text_config": {"hidden_size": 64, "num_attention_heads": 4}, "vision_config": {"patch_size": 16}},
        {"projection_dim": 768, "vision_config": None, "text_config_dict": None},
        {"text_config": {"vocab_size": 5, "eos_token_id": 2}, "text_config_dict": {"vocab_size": 7}},
        {"vision_config": {"hidden_act": "gelu", "image_size": 336}, "vision_config_dict": {"layer_norm_eps": 1e-6}},
    ],
)
def test_a_config_is_read_as_transformers_reads_it(config: dict[str, Any]) -> None:
    shape = clip_shape(config, "config.json")
    theirs = CLIPConfig.from_dict(copy.deepcopy(config))
    assert shape.projection_dim == theirs.projection_dim
    for name in ("vision_config", "text_config"):
        for field, value in asdict(getattr(shape, name)).items():
            assert value == getattr(getattr(theirs, name), field), f"{name}.{field}"


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"projection_dim": "512"}, "projection_dim is '512'"),
        ({"vision_config": 5}, "vision_config is 5"),
        ({"vision_config": {"image_size": [224, 224]}}, "vision_config.image_size is \\[224, 224\\]"),
        ({"text_config": {"eos_token_id": None}}, "text_config.eos_token_id is None"),
        ({"text_config": {"layer_norm_eps": 0.0}}, "text_config.layer_norm_eps is 0.0"),
        ({"text_config": {"num_attention_heads": 7}}, "7 heads do not divide hidden_size 512"),
    ],
)
def test_a_config_that_makes_no_clip_is_refused(config: dict[str, Any], named: str) -> None:
    with pytest.raises(VlfilterError, match=f"folder/config.json describes no valid CLIP: .*{named}"):
        clip_shape(config, "folder/config.json")


def test_loading_imports_no_model_of_transformers(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a cat on a table"])
    folder = save_clip(tmp_path / "clip", build_clip("clip_micro", tokenizer), tokenizer, clip_images("clip_micro"))
    program = f"import sys, vlfilter.models.clip\nvlfilter.models.clip.load_clip({str(folder)!r})\n"
    program += "assert not {'transformers.modeling_utils', 'torch._dynamo'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
