"""MiniGPT-v2: its published checkpoints in and out, and training that goes on from one."""

from __future__ import annotations

import json
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Trainer
from typer.testing import CliRunner

from tests.methods.data_engine.fixtures import copied
from tests.models import minigpt
from tests.training import mixed, small
from vlfilter.cli.app import app
from vlfilter.errors import VlfilterError
from vlfilter.evaluation.model import EvaluatedModel, ModelSettings
from vlfilter.models.checkpoints import LoadedVlm, load_vlm
from vlfilter.models.vlm import IMAGE_TOKEN
from vlfilter.models.weights import fill
from vlfilter.training.launch import finetune
from vlfilter.training.lora import add_lora, lora_config
from vlfilter.training.minigpt_v2 import export_minigpt_v2, import_minigpt_v2
from vlfilter.training.settings import TrainSettings, train_settings
from vlfilter.training.start import build_empty, open_start


class Published(NamedTuple):
    language: Path
    tower: Path
    checkpoint: Path

    def bring(self, output: Path, **options: Any) -> Path:
        parts: dict[str, Any] = {
            "language_model": str(self.language), "vision_tower": str(self.tower), "image_size": 48
        }  # fmt: skip
        return import_minigpt_v2(str(self.checkpoint), str(output), **parts, dtype=torch.float32, **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("published")
    return Published(
        minigpt.language(folder / "llama", small.tokenizer()),
        minigpt.eva_file(folder / "eva_vit_g.pth"),
        minigpt.checkpoint_file(folder / "stage2.pth"),
    )


def answers(loaded: LoadedVlm) -> Tensor:
    pixels = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return loaded.model([torch.tensor([2, IMAGE_TOKEN, 40, 50])], [pixels])


def test_a_checkpoint_becomes_a_model(files: Published, tmp_path: Path) -> None:
    loaded = load_vlm(str(files.bring(tmp_path / "model")), head="lm")
    base = torch.load(files.checkpoint, weights_only=True)["model"]
    name = "llama_model.base_model.model.model.layers.1.self_attn.v_proj"
    weight = load_file(files.language / "model.safetensors")["model.layers.1.self_attn.v_proj.weight"]
    expected = weight + 8 / 4 * base[f"{name}.lora_B.weight"] @ base[f"{name}.lora_A.weight"]
    state = loaded.model.state_dict()
    assert torch.allclose(state["body.layers.1.self_attn.v_proj.weight"], expected, atol=1e-6)
    assert torch.equal(state["projector.weight"], base["llama_proj.weight"])
    assert state["vision.model.post_layernorm.weight"].eq(1).all()
    assert (loaded.images.height, loaded.images.resize, loaded.model.image_tokens) == (48, "squash", 9)
    assert loaded.config.published["mm_conversation_template"] == "minigpt_v2"
    assert loaded.config.max_length == 1024


def test_unmerged_it_is_the_same_model_with_its_base_apart(files: Published, tmp_path: Path) -> None:
    whole, alone = files.bring(tmp_path / "whole"), files.bring(tmp_path / "alone", merge=False)
    assert {path.name for path in alone.iterdir()} == {
        "config.json", "adapter_config.json", "adapter_model.safetensors", "mm_projector.bin",
    }  # fmt: skip
    apart = load_vlm(str(alone), head="lm", base=str(files.language))
    assert torch.equal(answers(apart), answers(load_vlm(str(whole), head="lm")))
    assert apart.images.height == 48
    with pytest.raises(VlfilterError, match=r"holds only a projector .*model_base"):
        load_vlm(str(alone), head="lm")
    told = []
    for seed in (0, 1):
        minigpt.eva_file(tmp_path / "eva.pth", seed=seed)
        elsewhere = files._replace(tower=tmp_path / "eva.pth").bring(tmp_path / f"moved-{seed}", merge=False)
        settings = ModelSettings(str(elsewhere), base=str(files.language))
        told.append(EvaluatedModel(settings).fingerprint())
    assert {name for name in told[0] if told[0][name] != told[1][name]} == {"vision"}, "the tower is another"


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_what_is_written_back_is_what_was_published(files: Published, tmp_path: Path, merge: bool, norm: bool) -> None:
    state = minigpt.checkpoint_state(norm=norm)
    own = files._replace(checkpoint=minigpt.checkpoint_file(tmp_path / "own.pth", state))
    folder = own.bring(tmp_path / "model", merge=merge)
    written = torch.load(export_minigpt_v2(str(folder), str(tmp_path / "again.pth")), weights_only=True)
    assert written["model"].keys() == state.keys()
    assert all(torch.equal(written["model"][name], tensor) for name, tensor in state.items())
    told = written["config"]["model"]
    assert (told["lora_r"], told["lora_alpha"], told["lora_target_modules"]) == (4, 8.0, ["q_proj", "v_proj"])
    again = own._replace(checkpoint=tmp_path / "again.pth").bring(tmp_path / "again", merge=merge)
    base = None if merge else str(files.language)
    first, second = (load_vlm(str(place), head="lm", base=base) for place in (folder, again))
    assert torch.equal(answers(first), answers(second))
    if norm:
        weight = first.model.state_dict()["vision.model.post_layernorm.weight"]
        assert torch.equal(weight, state["ln_vision.weight"])
    with pytest.raises(VlfilterError, match=r"again\.pth exists already"):
        export_minigpt_v2(str(folder), str(tmp_path / "again.pth"))


def test_newer_names_of_adapters_are_read(files: Published, tmp_path: Path) -> None:
    state = {
        name.replace("lora_A.w", "lora_A.default.w").replace("lora_B.w", "lora_B.default.w"): tensor
        for name, tensor in minigpt.checkpoint_state().items()
    }
    own = files._replace(checkpoint=minigpt.checkpoint_file(tmp_path / "newer.pth", state))
    newer, older = (load_vlm(str(f.bring(tmp_path / str(i))), head="lm") for i, f in enumerate((own, files)))
    assert torch.equal(answers(newer), answers(older))


def test_a_checkpoint_that_fits_partly_is_told_key_by_key(files: Published, tmp_path: Path) -> None:
    state = minigpt.checkpoint_state()
    q, v = (f"llama_model.base_model.model.model.layers.1.self_attn.{target}" for target in ("q_proj", "v_proj"))
    lost = state.pop(f"{q}.lora_B.weight")
    state[f"{q.replace('q_proj', 'k_proj')}.lora_B.weight"] = lost
    state["llama_model.base_model.model.lm_head.weight"] = lost
    state[f"{v}.lora_B.weight"] = lost[:5]
    state["llama_proj.weight"] = torch.zeros(32, 4 * 90)
    path = minigpt.checkpoint_file(tmp_path / "part.pth", state)
    with pytest.raises(VlfilterError) as raised:
        files._replace(checkpoint=path).bring(tmp_path / "model")
    assert sorted(str(raised.value).splitlines()[1:]) == sorted([
        f"missing: {q}.lora_B.weight",
        f"unexpected: {q.replace('q_proj', 'k_proj')}.lora_B.weight",
        "unexpected: llama_model.base_model.model.lm_head.weight",
        f"of another shape: {v}.lora_B.weight (5, 4) instead of (32, 4)",
        "of another shape: llama_proj.weight (32, 360) instead of (32, 704)",
    ])  # fmt: skip
    assert not (tmp_path / "model").exists()


def save(value: Any, path: Path) -> None:
    torch.save(value, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: save({"model": {}, "args": Namespace(lr=1)}, path),
            r"it holds argparse\.Namespace\. If you trust",
        ),
        (lambda path: save({"state": 1}, path), "is no checkpoint of MiniGPT-v2: it has no `model`"),
        (lambda path: save({"model": {"a": torch.ones(2)}}, path), "its adapters are of 0 ranks"),
        (lambda path: path.write_bytes(pickle.dumps({"model": Namespace()})), "without running pickled code"),
        (lambda path: path.write_bytes(b"<html>"), "or is damaged"),
        (lambda _: None, "cannot be read: No such file"),
    ],
)
def test_files_that_are_none_are_told(
    files: Published, tmp_path: Path, write: Callable[[Path], Any], message: str
) -> None:
    write(tmp_path / "odd.pth")
    with pytest.raises(VlfilterError, match=message):
        files._replace(checkpoint=tmp_path / "odd.pth").bring(tmp_path / "model")


def test_models_without_its_parts_are_not_written(tmp_path: Path) -> None:
    model = small.checkpoint(tmp_path / "llava")
    with pytest.raises(VlfilterError, match=r"has no LoRA beside its weights \(adapter/\)"):
        export_minigpt_v2(str(model), str(tmp_path / "a.pth"))


def told(files: Published, output: Path, mixture: Path, **values: Any) -> TrainSettings:
    own = {
        "mixture": str(mixture), "output": str(output), "language_model": str(files.language), "image_size": 48,
        "vision_tower": str(files.tower), "adapter": str(files.checkpoint), "lora_r": 4, "projector_kind": "concat4",
        "select_layer": -1, "epochs": 2, "iters_per_epoch": 3, "batch_size": 8, "draws": 2, "warmup_steps": 2,
    }  # fmt: skip
    return train_settings({**own, **values}, "minigpt_v2_tiny")


def test_training_goes_on_from_the_published_checkpoint(files: Published, tmp_path: Path) -> None:
    """And what it writes goes on in its place."""
    settings = told(files, tmp_path / "out", mixed.mixture(tmp_path), learning_rate=1e-2)
    result = finetune(settings)
    before, after = load_vlm(str(files.bring(tmp_path / "before")), head="lm"), load_vlm(str(result.model), head="lm")
    moved = {
        name for name, tensor in before.model.state_dict().items()
        if not torch.equal(tensor, after.model.state_dict()[name])
    }  # fmt: skip
    layers = {f"body.layers.{i}.self_attn.{target}.weight" for i in range(2) for target in ("q_proj", "v_proj")}
    assert moved == layers | {"projector.weight", "projector.bias"}
    assert after.config.published["mm_conversation_template"] == "minigpt_v2"
    assert after.images == before.images
    path = export_minigpt_v2(str(result.model), str(tmp_path / "checkpoint_2.pth"))
    again = load_vlm(str(files._replace(checkpoint=path).bring(tmp_path / "again")), head="lm")
    assert torch.allclose(answers(again), answers(after), atol=1e-5)
    start = minigpt.checkpoint_state()
    trained = torch.load(path, weights_only=True)["model"]
    name = "llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert 0 < float((trained[name] - start[name]).abs().max()) < 0.2, "it began with the checkpoint's LoRA"


def test_the_first_loss_is_the_checkpoint_s_own(files: Published, tmp_path: Path) -> None:
    """LoRA beside the layers, and LoRA in them, give the same answers."""
    settings = told(files, tmp_path / "out", tmp_path / "none.yaml")
    start = open_start(settings)
    vlm = build_empty(start, "sdpa", "test")
    fill(vlm, start.tensors, "test", "cpu", lambda _: torch.float32)
    lora = lora_config(settings)
    assert lora is not None
    known = {name.removeprefix("body."): tensor for name, tensor in start.adapter.items()}
    add_lora(vlm.body, lora, 0, torch.float32, "cpu", known)
    loaded = load_vlm(str(files.bring(tmp_path / "model")), head="lm")
    beside = LoadedVlm(vlm.eval(), loaded.tokenizer, loaded.images, loaded.config)
    assert torch.allclose(answers(beside), answers(loaded), atol=1e-5)
    decayed: Any = Trainer.get_decay_parameter_names
    trained = {name for name, _ in vlm.projector.named_parameters(prefix="projector")} | start.adapter.keys()
    assert trained - set(decayed(None, vlm)) == {"projector.bias"}, "weight decay spares biases and norms alone"


def test_an_adapter_that_does_not_fit_is_told(files: Published, tmp_path: Path) -> None:
    alone = files.bring(tmp_path / "alone", merge=False)
    none = tmp_path / "none.yaml"
    assert open_start(told(files, tmp_path / "o", none, adapter=str(alone))).adapter.keys() == (
        open_start(told(files, tmp_path / "o", none)).adapter.keys()
    )
    for values, message in (
        ({"lora_r": 8}, "has LoRA of r 4, alpha 8, targets q_proj, v_proj; the settings say r 8, alpha 8"),
        ({"adapter": str(tmp_path)}, "is neither a file nor a folder with adapter_config.json"),
        ({"adapter": str(alone), "lora_targets": ("q_proj",)}, "targets q_proj, v_proj; the settings say"),
    ):
        with pytest.raises(VlfilterError, match=message):
            open_start(told(files, tmp_path / "o", none, **values))
    tensors = load_file(alone / "adapter_model.safetensors")
    save_file({n: t for n, t in tensors.items() if "layers.1" not in n}, alone / "adapter_model.safetensors")
    with pytest.raises(VlfilterError, match=r"has no adapter beside body\.layers\.1\.self_attn\.q_proj, body"):
        open_start(told(files, tmp_path / "o", none, adapter=str(alone)))


def test_the_recipe_is_the_published_one() -> None:
    """As `minigptv2_finetune_dataengine.yaml` has it, for eight GPUs; the mixture's batches are at most these."""
    ours = train_settings({"mixture": "m.yaml", "output": "o"}, "minigpt_v2_dataengine")
    args = copied("v2/lr_schedule.json")["v2_dataengine"]["args"]
    assert (ours.epochs, ours.iters_per_epoch, ours.learning_rate, ours.min_learning_rate) == (
        args["max_epoch"], args["iters_per_epoch"], args["init_lr"], args["min_lr"],
    )  # fmt: skip
    assert (ours.warmup_steps, ours.warmup_learning_rate) == (args["warmup_steps"], args["warmup_start_lr"])
    largest = max(row["batch_size"] for row in copied("train_mixtures.json")["v2_dataengine"]["rows"])
    assert (ours.draws, ours.batch_size, ours.per_device_batch) == (8, 8 * largest, largest)
    assert (ours.lora_r, ours.lora_alpha, ours.lora_dropout, ours.lora_targets) == (64, 16, 0.05, ("q_proj", "v_proj"))
    assert (ours.weight_decay, ours.max_grad_norm, ours.seed, ours.trainable) == (0.05, 0.0, 42, "lora+projector")
    own = train_settings({"mixture": "m.yaml", "output": "o", "model": "mine"}, "minigpt_v2_dataengine")
    assert (own.adapter, own.language_model, own.image_size) == (None, None, None)


def test_the_command_line_brings_a_checkpoint_in_and_out(files: Published, tmp_path: Path) -> None:
    run = CliRunner().invoke
    parts = ["--language-model", str(files.language), "--vision-tower", str(files.tower), "--image-size", "48"]
    first = run(app, ["models", "import-minigpt-v2", str(files.checkpoint), "--output", str(tmp_path / "m"), *parts])
    assert first.exit_code == 0, first.output
    assert json.loads((tmp_path / "m" / "config.json").read_text())["torch_dtype"] == "float16"
    second = run(app, ["models", "export-minigpt-v2", str(tmp_path / "m"), "--output", str(tmp_path / "out.pth")])
    assert second.exit_code == 0, second.output
    assert "out.pth" in second.output
    name = "llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert torch.equal(
        torch.load(tmp_path / "out.pth", weights_only=True)["model"][name], minigpt.checkpoint_state()[name]
    )
