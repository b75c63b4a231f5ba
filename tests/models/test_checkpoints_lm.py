"""Checkpoints with the language model's own head: written as published, read back, told apart from classifiers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import small
from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import load_vlm, save_vlm
from vlfilter.models.preprocess import default_settings
from vlfilter.models.vlm import VisionLanguageModel

FIXTURE = Path(__file__).parents[1] / "fixtures" / "mlm_filter"
CLASSES = {"qwen2": "LlavaQwenForCausalLM", "qwen3": "LlavaQwen3ForCausalLM", "llama": "LlavaLlamaForCausalLM",
           "phi3": "LlavaPhi3ForCausalLM", "gemma2": "LlavaGemmaForCausalLM"}  # fmt: skip
IDS, PIXELS = small.sample(1, 1)


def build(body: str = "llama", tower: str = "clip", projector: str = "mlp2x_gelu", tied: bool = False) -> Any:
    config = replace(small.config(body, tower, projector, select_layer=-2), head="lm")
    config.body.tie_word_embeddings = tied
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionLanguageModel(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.15)
    return model.eval()


def save(folder: Path, model: VisionLanguageModel) -> Path:
    return save_vlm(folder, model, small.tokenizer(), default_settings(model.config.vision.model_type, small.PIXELS))


def logits(folder: Path, **options: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = load_vlm(str(folder), head="lm", **options).model([IDS], [PIXELS])
    return found


def edit(folder: Path, **fields: Any) -> Path:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save(tmp_path / "model", build())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("body", "name"), CLASSES.items())
def test_every_body_is_written_and_read(tmp_path: Path, body: str, name: str, tied: bool) -> None:
    model = build(body, tied=tied)
    folder = save(tmp_path / "m", model)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == [name]
    assert "id2label" not in config
    assert ("lm_head.weight" in load_file(folder / "model.safetensors")) is not tied
    with torch.inference_mode():
        wanted = model([IDS], [PIXELS])
    assert wanted.shape == (1, 320)
    assert torch.equal(logits(folder), wanted)


def test_a_published_checkpoint_survives_reading_and_writing(tmp_path: Path) -> None:
    first = load_vlm(str(FIXTURE), head="lm")
    save_vlm(tmp_path / "again", first.model, first.tokenizer, first.images)
    second = load_vlm(str(tmp_path / "again"), head="lm", vision="embedded")
    ids, images = torch.tensor([1, -200, 50, 60, 2]), torch.randn(1, 3, 56, 56)
    with torch.inference_mode():
        assert torch.equal(first.model([ids], [images]), second.model([ids], [images]))
    assert set(load_file(tmp_path / "again" / "model.safetensors")) == set(load_file(FIXTURE / "model.safetensors"))
    assert second.tokenizer.bos is None, "Qwen's has none, and a language model needs none"


def test_a_tied_head_that_is_stored_all_the_same(tmp_path: Path) -> None:
    """The published Qwen class writes its head beside the embeddings that it is tied to."""
    folder = save(tmp_path / "m", build("qwen2", tied=True))
    wanted = logits(folder)
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(logits(folder), wanted)


@pytest.mark.parametrize("file", ["mm_projector.bin", "mm_projector.safetensors"])
def test_a_projector_and_its_language_model(saved: Path, tmp_path: Path, file: str) -> None:
    """LLaVA's first stage leaves config.json and the projector; the tower is a folder that config.json names."""
    wanted = logits(saved)
    base, stage, tower = tmp_path / "base", tmp_path / "stage", tmp_path / "stage" / "tower"
    shutil.copytree(saved, base)
    tower.mkdir(parents=True)
    state = load_file(saved / "model.safetensors")
    projector = {name: tensor for name, tensor in state.items() if "mm_projector" in name}
    inside = "model.vision_tower.vision_tower."
    eyes = {name.removeprefix(inside): tensor for name, tensor in state.items() if name.startswith(inside)}
    language = {name: tensor for name, tensor in state.items() if not name.startswith(inside) and name not in projector}
    save_file(language, base / "model.safetensors", metadata={"format": "pt"})
    save_file(eyes, tower / "model.safetensors", metadata={"format": "pt"})
    if file.endswith(".bin"):
        torch.save(projector, stage / file)
    else:
        save_file(projector, stage / file, metadata={"format": "pt"})
    config = json.loads((saved / "config.json").read_text())
    (tower / "config.json").write_text(json.dumps(config["mm_vision_config"]))
    shutil.copy(saved / "preprocessor_config.json", tower)
    shutil.copy(saved / "config.json", stage)
    edit(stage, mm_vision_tower="tower", mm_vision_config=...)
    assert torch.equal(logits(stage, base=str(base)), wanted)
    (base / "tokenizer.json").unlink()
    with pytest.raises(VlfilterError, match="has no tokenizer"):
        load_vlm(str(stage), head="lm", base=str(base))


def test_a_single_bin(saved: Path) -> None:
    wanted = logits(saved)
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    assert torch.equal(logits(saved), wanted)


def test_older_model_types_and_the_release_of_the_13b(saved: Path) -> None:
    """Its config.json calls the architecture by name, its model_type `llava`, of the first LLaVA."""
    wanted = logits(saved)
    edit(saved, model_type="llava")
    assert torch.equal(logits(saved), wanted)


@pytest.mark.parametrize(
    ("spoil", "head", "message"),
    [
        ({"architectures": ["LlavaLlamaClassifier"]}, "lm", "a classifier with a score head, not a language model"),
        ({"architectures": ["LlavaMptForCausalLM"], "model_type": "llava_mpt"}, "lm", "is a LlavaMptForCausalLM"),
        ({}, "score", "a language model without a score head, not a classifier"),
        ({"vocab_size": 99}, "lm", r"of another shape: .*lm_head\.weight \(320, 32\) instead of \(99, 32\)"),
        ({"tie_word_embeddings": True, "vocab_size": 99}, "lm", "of another shape"),
        ({"num_hidden_layers": 3}, "lm", "missing: body.layers.2"),
    ],
)
def test_what_does_not_fit_is_told(saved: Path, spoil: dict[str, Any], head: Any, message: str) -> None:
    edit(saved, **spoil)
    with pytest.raises(VlfilterError, match=message):
        load_vlm(str(saved), head=head)


def test_a_missing_head_is_told(saved: Path) -> None:
    state = load_file(saved / "model.safetensors")
    del state["lm_head.weight"]
    save_file(state, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VlfilterError, match=r"1 missing: lm_head\.weight"):
        load_vlm(str(saved), head="lm")
