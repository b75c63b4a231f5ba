"""Adapters beside linear layers: the published numbers, and what is written of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.methods.data_engine.fixtures import COPIED, copied
from tests.training import small
from vlfilter.errors import VlfilterError
from vlfilter.models.adapters import WEIGHTS, LoraConfig, merged, read_adapter, split_lora
from vlfilter.models.checkpoints import load_vlm
from vlfilter.models.weights import fill
from vlfilter.training.export import export_lora
from vlfilter.training.lora import LoraLinear, add_lora, lora_config
from vlfilter.training.lora_files import merge_adapter, write_adapter
from vlfilter.training.schedule import WarmupCosine
from vlfilter.training.settings import train_settings
from vlfilter.training.start import build_empty, open_start

CONFIG = LoraConfig(4, 8, 0.0, ("q_proj", "k_proj"))


def test_a_layer_and_its_merge_are_the_published_ones() -> None:
    told = {name: torch.from_numpy(value) for name, value in np.load(COPIED / "step5" / "lora_linear.npz").items()}
    layer = nn.Linear(16, 12, bias=False)
    layer.weight = nn.Parameter(told["W"])
    config = LoraConfig(int(told["r"]), float(told["alpha"]), 0.05, ())
    adapted = LoraLinear(layer, config, told["A"], told["B"]).eval()
    assert torch.allclose(adapted(told["x"]), told["y_fp16_cast"], atol=2e-3)
    state, lora = split_lora({f"q.{name}": tensor.detach() for name, tensor in adapted.state_dict().items()})
    whole = merged(state, lora, adapted.scale)
    assert state.keys() == whole.keys() == {"q.weight"}
    assert torch.allclose(whole["q.weight"], told["merged_W"], atol=1e-6)
    assert torch.allclose(told["x"] @ whole["q.weight"].T, told["y_merged"], atol=1e-5)


def test_only_adapters_learn_and_they_begin_with_nothing(tmp_path: Path) -> None:
    loaded = load_vlm(str(small.checkpoint(tmp_path / "model")), head="lm")
    body = loaded.model.body.requires_grad_(False)
    ids = torch.arange(12)[None]
    before = body(ids).last_hidden_state
    made = add_lora(body, CONFIG, 7, torch.float32, "cpu")
    assert torch.equal(body(ids).last_hidden_state, before)
    trained = {name.rpartition(".")[2] for name, tensor in body.named_parameters() if tensor.requires_grad}
    assert trained == {"lora_A", "lora_B"}
    assert len(made) == 2 * loaded.config.body.num_hidden_layers
    assert not torch.equal(made[0].lora_A, made[1].lora_A), "every layer begins with its own"
    again = add_lora(load_vlm(str(tmp_path / "model"), head="lm").model.body, CONFIG, 7, torch.float32, "cpu")
    assert torch.equal(made[0].lora_A, again[0].lora_A)
    with pytest.raises(
        VlfilterError, match="lora_targets w_proj name no layer; there are down_proj, gate_proj, k_proj"
    ):
        add_lora(body, replace(CONFIG, targets=("q_proj", "w_proj")), 7, torch.float32, "cpu")


def adapter(folder: Path, model: Path) -> tuple[dict[str, torch.Tensor], Path]:
    vlm = load_vlm(str(model), head="lm").model
    for layer in add_lora(vlm.body, CONFIG, 7, torch.float32, "cpu"):
        nn.init.normal_(layer.lora_B, std=0.1, generator=torch.Generator().manual_seed(1))
    state = {name: tensor.detach() for name, tensor in vlm.state_dict().items()}
    write_adapter(folder, split_lora(state)[1], CONFIG, str(model))
    return state, folder


def test_adapters_are_read_back_and_merged_in_pefts_layout(tmp_path: Path) -> None:
    model = small.checkpoint(tmp_path / "model")
    state, folder = adapter(tmp_path / "adapter", model)
    names = load_file(folder / WEIGHTS).keys()
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names
    assert json.loads((folder / "adapter_config.json").read_text())["target_modules"] == ["q_proj", "k_proj"]
    found = read_adapter(folder)
    assert found.config == CONFIG
    rest, own = split_lora(state)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in own.items())
    assert found.tensors.keys() == own.keys()
    merge_adapter(str(folder), str(model), str(tmp_path / "whole"), torch.float32)
    whole = load_vlm(str(tmp_path / "whole"), head="lm").model.state_dict()
    expected = merged(rest, own, 2.0)
    assert all(torch.equal(whole[name], expected[name]) for name in expected)
    assert not torch.equal(
        whole["body.layers.0.self_attn.q_proj.weight"], rest["body.layers.0.self_attn.q_proj.weight"]
    )


def test_adapters_are_written_alone_with_their_projector(tmp_path: Path) -> None:
    model = small.checkpoint(tmp_path / "model")
    told = {"data": "d", "images": "i", "output": "o", "model": str(model), "trainable": "lora+projector"}
    settings = train_settings(told | {"lora_r": 4, "lora_alpha": 8, "merge_lora": False}, "mlm_filter_tiny")
    start = open_start(settings)
    vlm = build_empty(start, "eager", str(model))
    fill(vlm, start.tensors, str(model), "cpu", lambda _: torch.float32)
    lora = lora_config(settings)
    assert lora == replace(CONFIG, dropout=0.05)
    for layer in add_lora(vlm.body, lora, 7, torch.float32, "cpu"):
        nn.init.normal_(layer.lora_B, std=0.1)
    nn.init.normal_(vlm.projector[0].weight)
    state = {name: tensor.detach() for name, tensor in vlm.state_dict().items()}
    export_lora(tmp_path / "alone", vlm, start, state, torch.float32, lora, settings)
    assert {path.name for path in (tmp_path / "alone").iterdir()} == {
        "config.json", "adapter_config.json", "adapter_model.safetensors", "mm_projector.bin",
    }  # fmt: skip
    merge_adapter(str(tmp_path / "alone"), str(model), str(tmp_path / "joined"), torch.float32)
    export_lora(
        tmp_path / "whole", vlm, start, state, torch.float32, lora, settings.model_copy(update={"merge_lora": True})
    )
    joined, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("joined", "whole"))
    assert joined.keys() == whole.keys()
    assert all(torch.equal(joined[name], whole[name]) for name in whole)
    assert torch.equal(whole["model.mm_projector.0.weight"], state["projector.0.weight"])
    export_lora(
        tmp_path / "lora", vlm, start, state, torch.float32, lora, settings.model_copy(update={"trainable": "lora"})
    )
    assert not (tmp_path / "lora" / "mm_projector.bin").exists(), "it was not trained"


def test_adapters_that_do_not_fit_are_told(tmp_path: Path) -> None:
    model = small.checkpoint(tmp_path / "model")
    _, folder = adapter(tmp_path / "adapter", model)
    tensors = load_file(folder / WEIGHTS)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    for changed, message in [
        ({n: t for n, t in tensors.items() if n != name}, "half of an adapter only for body.layers.0.self_attn.q_proj"),
        ({n.replace("layers.0", "layers.99"): t for n, t in tensors.items()}, "the model has no layer body.layers.99"),
        (tensors | {name: torch.zeros(4, 5)}, "does not fit"),
    ]:
        save_file(changed, folder / WEIGHTS)
        with pytest.raises(VlfilterError, match=message):
            merge_adapter(str(folder), str(model), str(tmp_path / "whole"))
    with pytest.raises(VlfilterError, match="has no adapter"):
        read_adapter(tmp_path)
    told = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(told | {"use_dora": True}))
    with pytest.raises(VlfilterError, match="another adapter than plain LoRA"):
        read_adapter(folder)


@pytest.mark.parametrize("name", ["v1_7b", "v1_13b_qma_rounds", "v2_dataengine", "quirk_warmup_longer_than_epoch"])
def test_the_learning_rate_is_the_published_one(name: str) -> None:
    told = copied("v2/lr_schedule.json")[name]
    given = told["args"]
    rates = WarmupCosine(
        given["init_lr"], given["min_lr"], given["warmup_steps"], given["warmup_start_lr"], given["iters_per_epoch"],
        given["max_epoch"],
    )  # fmt: skip
    for point in told["points"]:
        step = point["epoch"] * given["iters_per_epoch"] + point["step"]
        assert rates.at(step) == pytest.approx(point["lr"], abs=1e-12, rel=1e-12)
