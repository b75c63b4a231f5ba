"""Conversation templates: exact text, and which one a model gets by its body or by its name."""

from __future__ import annotations

import pytest

from vlfilter.errors import VlfilterError
from vlfilter.models.conversation import model_name, original_template, template, trained_template

HELPFUL = "The assistant gives helpful, detailed, and polite answers to the {}'s questions."
HUMAN = "A chat between a curious human and an artificial intelligence assistant. " + HELPFUL.format("human")
USER = "A chat between a curious user and an artificial intelligence assistant. " + HELPFUL.format("user")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("llava_v0", HUMAN + "###Human: Q###Assistant:"),
        ("llava_v1", HUMAN + " USER: Q ASSISTANT:"),
        ("vicuna_v1", USER + " USER: Q ASSISTANT:"),
        ("llama_3", USER + " USER: Q ASSISTANT:"),
        (
            "qwen_instruct",
            "<|im_start|>system\nYou are a helpful assistant<|im_end|><|im_start|>user\nQ<|im_end|>"
            "<|im_start|>assistant\n",
        ),
        ("plain", "Q"),
    ],
)
def test_prompts(name: str, text: str) -> None:
    assert template(name).prompt("Q") == text


@pytest.mark.parametrize(
    ("model", "version", "expected"),
    [
        ("weizhiwang/mlm-filter-llava-13b-gpt4v", 1, "llava_v0"),
        ("weizhiwang/mlm-filter-llava-13b-gpt4v", 2, "llava_v0"),
        ("x/llava-v1.5-13b", 1, "llava_v1"),
        ("x/llava-v1.5-13b", 2, "llava_v1"),
        ("weizhiwang/mlm-filter-qwen2.5-1.5b-gpt4o/", 2, "qwen_instruct"),
        ("weizhiwang/mlm-filter-qwen2.5-1.5b-gpt4o", 1, "llava_v0"),
        ("mlm-filter-llama-3.2-3b", 2, "llama_3"),
        ("mlm-filter-Llama-3-8b", 1, "llava_v0"),
        ("/v1/models/qwen/mlm-filter-llava-13b", 2, "llava_v0"),  # the last part alone counts
        ("runs/qwen-filter/checkpoint-100", 2, "qwen_instruct"),
    ],
)
def test_the_published_choice_by_name(model: str, version: int, expected: str) -> None:
    assert original_template(model, version).name == expected


@pytest.mark.parametrize(("model", "version"), [("x/llama-2-13b-v1", 1), ("x/llama-2-13b", 2), ("x/mpt-7b", 1)])
def test_templates_that_no_released_model_uses(model: str, version: int) -> None:
    with pytest.raises(VlfilterError, match="no released model uses"):
        original_template(model, version)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/foo/checkpoint-100", "foo_checkpoint-100"),
        ("runs/foo/checkpoint-100/", "foo_checkpoint-100"),
        ("checkpoint-100", "checkpoint-100"),
        ("weizhiwang/mlm-filter-qwen2.5-1.5b-gpt4o/", "mlm-filter-qwen2.5-1.5b-gpt4o"),
    ],
)
def test_names(path: str, name: str) -> None:
    assert model_name(path) == name


@pytest.mark.parametrize(
    ("body", "vocabulary", "name"),
    [("llama", 32_000, "vicuna_v1"), ("llama", 128_256, "llama_3"), ("qwen2", 151_936, "qwen_instruct"),
     ("qwen3", 151_936, "qwen_instruct"), ("gemma2", 256_000, "vicuna_v1")],
)  # fmt: skip
def test_the_template_of_the_training(body: str, vocabulary: int, name: str) -> None:
    assert trained_template(body, vocabulary).name == name


def test_an_unknown_template_is_told() -> None:
    with pytest.raises(VlfilterError, match=r"no conversation template is called 'chatml'.*vicuna_v1"):
        template("chatml")
