"""Presets: the published sizes to the parameter, tiny ones that run."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPModel

from tests.models import small
from vlfilter.errors import VlfilterError
from vlfilter.models.preprocess import CLIP_MEAN, CLIP_STD
from vlfilter.models.presets import (
    CLIP_PRESETS,
    VLM_PRESETS,
    build_clip,
    build_vlm,
    clip_images,
    vlm_config,
    vlm_images,
)
from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.models.weights import empty_parameters


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_unifilter_1_5b_has_the_published_parameters() -> None:
    with empty_parameters():
        model = VisionLanguageModel(vlm_config("unifilter_qwen2.5_1.5b"))
    parts = [count(part) for part in (model.body, model.vision, model.projector, model.score)]
    assert parts == [1_543_299_584, 428_225_600, 4_131_840, 1_536]
    assert model.image_tokens == 144
    assert {str(parameter.device) for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("name", "millions"), [("unifilter_qwen3_0.6b", 1026.5), ("unifilter_qwen2.5_0.5b", 923.9), ("unifilter_tiny", 0.4)]
)
def test_other_unifilters(name: str, millions: float) -> None:
    with empty_parameters():
        assert count(VisionLanguageModel(vlm_config(name))) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize(
    ("name", "parameters"), [("clip_vit_b_32", 151_277_313), ("clip_vit_l_14", 427_616_513), ("clip_tiny", 3_575_425)]
)
def test_clips(name: str, parameters: int) -> None:
    with empty_parameters():
        assert count(CLIPModel(CLIP_PRESETS[name])) == parameters


def test_minigpt_v2_has_the_published_parameters() -> None:
    with empty_parameters():
        model = VisionLanguageModel(vlm_config("minigpt_v2_7b"))
    block = 2 * 2 * 1408 + 1408 * 3 * 1408 + 3 * 1408 + 1408 * 1408 + 1408 + 2 * 1408 * 6144 + 6144 + 1408
    tower = 39 * block + (14 * 14 * 3 + 1) * 1408 + (1 + 1 + 1024) * 1408 + 2 * 1408  # ends in ln_vision
    llama = 6_738_415_616 - 32_000 * 4096  # Llama 2 7B without its head
    parts = [count(part) for part in (model.body, model.vision, model.projector, model.lm_head)]
    assert parts == [llama, tower, 5632 * 4096 + 4096, 32_000 * 4096]
    assert (model.image_tokens, model.vision.layers_run) == (256, 39)


def test_minigpt_v2_ignores_an_image_s_aspect_ratio() -> None:
    images = vlm_images("minigpt_v2_7b")
    assert (images.height, images.width, images.resize, images.resample) == (448, 448, "squash", 3)
    assert (images.mean, images.std) == (CLIP_MEAN, CLIP_STD)


def test_siglip2_resizes_bilinearly() -> None:
    assert [vlm_images(name).resample for name in ("unifilter_qwen2.5_1.5b", "unifilter_qwen3_0.6b")] == [3, 2]


def test_the_seed_decides_and_nothing_else_is_touched() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (build_vlm("unifilter_tiny", small.tokenizer(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.score.weight, again.score.weight)
    assert not torch.equal(first.score.weight, other.score.weight)


def test_vocabulary_and_ends_are_the_tokenizer_s() -> None:
    tokenizer = small.tokenizer()
    assert build_vlm("unifilter_tiny", tokenizer).body.config.vocab_size == len(tokenizer.hf)
    text = build_clip("clip_micro", tokenizer).config.text_config
    assert (text.vocab_size, text.bos_token_id, text.eos_token_id) == (len(tokenizer.hf), tokenizer.bos, tokenizer.eos)
    assert tokenizer.eos != 2, "transformers pools CLIP's text at the highest id when eos is 2"


def test_unknown_names_are_told() -> None:
    for call in (lambda: vlm_config("unifilter_7b"), lambda: clip_images("unifilter_7b")):
        with pytest.raises(VlfilterError, match="unifilter_7b"):
            call()
    assert set(VLM_PRESETS) & set(CLIP_PRESETS) == set()
