"""A training starts from a checkpoint or from parts, and tells what does not fit before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from tests.models import small as models
from tests.training import small
from vlfilter.errors import VlfilterError
from vlfilter.models.vision import VisionTower
from vlfilter.models.weights import fill
from vlfilter.training.settings import TrainSettings, train_settings
from vlfilter.training.start import build_empty, make_encoder, open_start


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Any]:
    """A language model and a vision tower as transformers writes them, and LLaVA's projector file."""
    language, tower = tmp_path / "language", tmp_path / "tower"
    config = models.config("llama", "clip", "mlp2x_gelu")
    body = type(config.body).from_dict(config.body.to_dict() | {"vocab_size": small.VOCABULARY})
    LlamaForCausalLM(body).save_pretrained(language)
    small.tokenizer().hf.save_pretrained(language)
    VisionTower(config.vision, -2, "patch").model.save_pretrained(tower)
    weights = {"0.weight": (32, 32), "0.bias": (32,), "2.weight": (32, 32), "2.bias": (32,)}
    torch.save({f"model.mm_projector.{n}": torch.randn(shape) for n, shape in weights.items()}, tmp_path / "p.bin")
    return {
        "data": "rows.json", "images": "images", "output": str(tmp_path / "out"), "max_length": 256,
        "language_model": str(language), "vision_tower": str(tower), "projector": str(tmp_path / "p.bin"),
    }  # fmt: skip


def filled(settings: TrainSettings) -> dict[str, torch.Tensor]:
    start = open_start(settings)
    vlm = build_empty(start, "sdpa", "test")
    fill(vlm, start.tensors, "test", "cpu", lambda _: torch.float32)
    return vlm.state_dict()


def test_parts_become_one_model(parts: dict[str, Any]) -> None:
    state = filled(train_settings(parts))
    language = LlamaForCausalLM.from_pretrained(parts["language_model"])
    stored = torch.load(parts["projector"], weights_only=True)
    assert torch.equal(state["lm_head.weight"], language.lm_head.weight)
    assert torch.equal(state["body.layers.1.mlp.up_proj.weight"], language.model.layers[1].mlp.up_proj.weight)
    assert torch.equal(state["projector.2.bias"], stored["model.mm_projector.2.bias"])
    start = open_start(train_settings(parts))
    assert start.images.resize == "pad"
    assert start.config.published["image_aspect_ratio"] == "pad"
    assert start.config.published["mm_vision_tower"] == "", "a folder of this machine means nothing elsewhere"
    assert start.config.max_length == 256
    own = open_start(train_settings({**parts, "image_mode": "processor"}))
    assert own.images.resize == "shortest"


def test_a_new_projector_is_the_same_in_every_process(parts: dict[str, Any]) -> None:
    values = {**parts, "projector": None, "trainable": "projector", "template": "plain"}
    first, again, other = (filled(train_settings({**values, "seed": seed})) for seed in (1, 1, 2))
    assert torch.equal(first["projector.0.weight"], again["projector.0.weight"])
    assert not torch.equal(first["projector.0.weight"], other["projector.0.weight"])


def test_bos_follows_the_tokenizer_or_the_setting(parts: dict[str, Any]) -> None:
    tokenizer = small.tokenizer().hf
    text = json.loads(tokenizer.backend_tokenizer.to_str())
    text["post_processor"] = None  # as Qwen's: a bos token, but none put before a text
    for automatic in (True, False):
        if not automatic:
            (Path(parts["language_model"]) / "tokenizer.json").write_text(json.dumps(text))
        settings = train_settings(parts)
        encoder = make_encoder(open_start(settings), settings, 36)
        assert encoder.bos == (tokenizer.bos_token_id if automatic else None)
    settings = train_settings({**parts, "bos": "always"})
    assert make_encoder(open_start(settings), settings, 36).bos == tokenizer.bos_token_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"projector_kind": "linear"}, "unexpected: projector.0.bias"),
        ({"max_length": 100_000}, "beyond the language model's 512 positions"),
        ({"projector": "nowhere"}, "model 'nowhere' does not exist"),
        ({"language_model": "TOWER"}, "is a clip_vision_model model; the language models are qwen2"),
    ],
)
def test_parts_that_do_not_fit_are_told(parts: dict[str, Any], change: dict[str, Any], message: str) -> None:
    change = {name: parts["vision_tower"] if value == "TOWER" else value for name, value in change.items()}
    settings = train_settings({**parts, **change})
    with pytest.raises(VlfilterError) as raised:
        build_empty(open_start(settings), "sdpa", "test")
    assert message in str(raised.value)


def test_a_tokenizer_larger_than_its_model_is_told(parts: dict[str, Any]) -> None:
    path = Path(parts["language_model"]) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 300}))
    with pytest.raises(VlfilterError, match="the tokenizer has 800 tokens, but the language model only 300"):
        open_start(train_settings(parts))
