"""LLaVA-1.5 checkpoints in transformers' own layout: written for vLLM, read back, the same numbers everywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoProcessor, LlavaForConditionalGeneration
from typer.testing import CliRunner

from tests.models import hf, small
from vlfilter.cli.app import app
from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import load_vlm
from vlfilter.models.conversation import IMAGE_PLACEHOLDER, TEMPLATES, trained_template
from vlfilter.models.hf_layout import export_hf
from vlfilter.models.preprocess import normalise, to_pixels
from vlfilter.models.vlm import IMAGE_TOKEN, VisionLanguageModel

WORDS = "Text Caption: a red bus in London, 85 of 100\n\nPlease evaluate."


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))


def ours(loaded: Any, text: str) -> torch.Tensor:
    """Our logits of the next token after a prompt with one image."""
    head, tail = text.split(IMAGE_PLACEHOLDER)
    tokenizer = loaded.tokenizer
    start = [] if tokenizer.automatic_bos is None else [tokenizer.bos]
    ids = [*start, *tokenizer.ids_with_control(head), IMAGE_TOKEN, *tokenizer.ids_with_control(tail)]
    pixels = normalise(torch.from_numpy(to_pixels(picture(), loaded.images).copy())[None], loaded.images)
    with torch.inference_mode():
        logits: torch.Tensor = loaded.model([torch.tensor(ids)], [pixels])[0]
    return logits


@pytest.mark.parametrize(("body", "feature", "tied"), [("llama", "patch", False), ("qwen2", "cls_patch", True)])
def test_logits_are_the_same_before_in_transformers_and_read_back(
    tmp_path: Path, body: str, feature: str, tied: bool
) -> None:
    model, tokenizer = hf.build(body, feature, tied)
    source = load_vlm(str(hf.save(tmp_path / "published", model, tokenizer)), head="lm")
    folder = export_hf(str(tmp_path / "published"), tmp_path / "hf")
    prompt = trained_template(body, len(tokenizer.hf)).prompt(f"{IMAGE_PLACEHOLDER}\n{WORDS}")
    expected = ours(source, prompt)

    processor = AutoProcessor.from_pretrained(folder)
    messages = [{"role": "user", "content": [{"type": "text", "text": WORDS}, {"type": "image"}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    bos = "<s>" if body == "llama" else ""
    assert text == bos + prompt
    inputs = processor(text=text, images=picture(), return_tensors="pt", add_special_tokens=False)
    theirs, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.inference_mode():
        logits = theirs(**inputs).logits[0, -1]
    size = len(expected)
    assert len(logits) == size + 1  # the vocabulary was full
    torch.testing.assert_close(logits[:size], expected, atol=1e-5, rtol=0)
    assert logits[size] == 0

    again = load_vlm(str(folder), head="lm")
    torch.testing.assert_close(ours(again, prompt)[:size], expected, atol=1e-5, rtol=0)
    assert again.config.max_length == source.config.max_length
    assert again.images == source.images
    assert again.config.select_feature == feature


def test_what_transformers_itself_saves_is_read(tmp_path: Path) -> None:
    model, tokenizer = hf.build()
    hf.save(tmp_path / "published", model, tokenizer)
    folder = export_hf(str(tmp_path / "published"), tmp_path / "hf")
    LlavaForConditionalGeneration.from_pretrained(folder).save_pretrained(tmp_path / "again")
    AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again" / "preprocessor_config.json").exists()  # else this proves less than it says
    first, second = (load_vlm(str(path), head="lm") for path in (folder, tmp_path / "again"))
    prompt = f"{IMAGE_PLACEHOLDER}\n{WORDS}"
    torch.testing.assert_close(ours(second, prompt), ours(first, prompt), atol=1e-6, rtol=0)
    assert second.images == first.images


def test_how_it_was_trained_goes_along(tmp_path: Path) -> None:
    fields = {"mm_image_mode": "squash", "mm_conversation_template": "llava_v0"}
    hf.save(tmp_path / "published", *hf.build(), **fields)
    read = load_vlm(str(export_hf(str(tmp_path / "published"), tmp_path / "hf")), head="lm").config.published
    assert {name: read[name] for name in fields} == fields
    written = AutoProcessor.from_pretrained(tmp_path / "hf").apply_chat_template([{"role": "user", "content": "hi"}])
    assert written == f"<s>{TEMPLATES['llava_v0'].prompt('hi').removesuffix('###Assistant:')}"


def test_a_template_whose_pieces_are_tokenised_apart_is_refused(tmp_path: Path) -> None:
    hf.save(tmp_path / "published", *hf.build(), mm_conversation_template="minigpt_v2")
    with pytest.raises(VlfilterError, match=r"template minigpt_v2, whose pieces are tokenised apart"):
        export_hf(str(tmp_path / "published"), tmp_path / "hf")


def test_names_are_those_that_vllm_maps(tmp_path: Path) -> None:
    model, tokenizer = hf.build()
    hf.save(tmp_path / "published", model, tokenizer)
    export_hf(str(tmp_path / "published"), tmp_path / "hf", shard_bytes=60_000, dtype="bfloat16")
    shards = sorted((tmp_path / "hf").glob("*.safetensors"))
    assert len(shards) > 2
    places = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())["weight_map"]
    for shard in shards:
        with safe_open(shard, "pt") as file:
            assert {places[name] for name in file.keys()} == {shard.name}  # noqa: SIM118
            assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    starts = ("vision_tower.vision_model.", "multi_modal_projector.linear_", "language_model.")
    assert all(name.startswith(starts) for name in places)
    load_vlm(str(tmp_path / "hf"), head="lm")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_token_image_that_is_there_already_is_kept(tmp_path: Path) -> None:
    model, tokenizer = hf.build()
    hf.save(tmp_path / "published", model, tokenizer)
    export_hf(str(tmp_path / "published"), tmp_path / "hf")
    export_hf(str(tmp_path / "hf"), tmp_path / "twice")
    first, second = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("hf", "twice"))
    assert first["image_token_index"] == second["image_token_index"] == len(tokenizer.hf)
    assert first["text_config"]["vocab_size"] == second["text_config"]["vocab_size"] == len(tokenizer.hf) + 1


def test_a_conversation_is_written_as_in_training(tmp_path: Path) -> None:
    for body in ("llama", "qwen2"):
        model, tokenizer = hf.build(body)
        hf.save(tmp_path / body / "published", model, tokenizer)
        written = AutoProcessor.from_pretrained(export_hf(str(tmp_path / body / "published"), tmp_path / body / "hf"))
        template = trained_template(body, len(tokenizer.hf))
        pairs = [("first {{ question }}", "85\nBecause."), ('and "why"?', "So.")]
        turns = [
            {"role": role, "content": words}
            for pair in pairs
            for role, words in zip(("user", "assistant"), pair, strict=True)
        ]
        bos = "<s>" if body == "llama" else ""
        expected = bos + template.system
        for question, answer in pairs:
            expected += f"{template.user}{question}{template.user_end}"
            expected += f"{template.assistant}{template.answer_gap}{answer}{template.assistant_end}"
        assert written.apply_chat_template(turns) == expected
        assert written.apply_chat_template(turns[:1], exact_prompt="<s>this") == "<s>this"
        own = [{"role": "system", "content": "Be brief"}, *turns[:1]]
        start = "<|im_start|>system\nBe brief<|im_end|><|im_start|>user\n" if body == "qwen2" else "<s>Be brief USER: "
        assert written.apply_chat_template(own) == f"{start}{pairs[0][0]}{template.user_end}"


@pytest.mark.parametrize(
    ("tower", "projector", "body", "says"),
    [
        ("siglip", "aapool_mlp", "qwen2", "its vision tower is siglip_vision_model .*its projector is aapool_mlp"),
        ("clip", "linear", "llama", "its projector is linear"),
        ("clip", "mlp2x_gelu", "gemma2", "its language model is gemma2"),
    ],
)
def test_other_architectures_are_refused(tmp_path: Path, tower: str, projector: str, body: str, says: str) -> None:
    model = VisionLanguageModel(replace(small.config(body, tower, projector), head="lm"))
    hf.save(tmp_path / "published", model, small.tokenizer())
    with pytest.raises(VlfilterError, match=says):
        export_hf(str(tmp_path / "published"), tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_a_variant_without_our_fields_is_refused_on_reading(tmp_path: Path) -> None:
    model, tokenizer = hf.build()
    hf.save(tmp_path / "published", model, tokenizer)
    folder = export_hf(str(tmp_path / "published"), tmp_path / "hf")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vision_feature_layer": [-2, -5]}))
    with pytest.raises(VlfilterError, match=r"vision_feature_layer \[-2, -5\]"):
        load_vlm(str(folder), head="lm")
    with pytest.raises(VlfilterError, match="exists already"):
        export_hf(str(tmp_path / "published"), folder)


def test_the_command_line_writes_it(tmp_path: Path) -> None:
    model, tokenizer = hf.build()
    published = hf.save(tmp_path / "published", model, tokenizer)
    command = ["models", "export-hf", str(published), "--output", str(tmp_path / "hf")]
    done = CliRunner().invoke(app, [*command, "--dtype", "float16"])
    assert done.output == f"wrote {tmp_path / 'hf'}\n"
    assert load_vlm(str(tmp_path / "hf"), head="lm").config.head == "lm"
    wrong = CliRunner().invoke(app, [*command[:3], "--output", str(tmp_path / "b"), "--dtype", "int4"])
    assert "dtype 'int4' is unknown" in str(wrong.exception)
