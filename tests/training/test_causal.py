"""The loss is the published one, at a fraction of the memory, and what is written loads with the same loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.models import small
from vlfilter.models.checkpoints import load_vlm
from vlfilter.models.layout import published_name
from vlfilter.models.preprocess import default_settings
from vlfilter.models.vlm import IMAGE_TOKEN, VisionLanguageModel
from vlfilter.training import causal
from vlfilter.training.causal import CausalVlm, expand_labels
from vlfilter.training.conversation_data import IGNORED
from vlfilter.training.export import export
from vlfilter.training.start import Start


def build(body: str = "llama", *, tied: bool = False) -> VisionLanguageModel:
    config = small.config(body, "clip", "mlp2x_gelu", select_layer=-2)
    words = type(config.body).from_dict(config.body.to_dict() | {"tie_word_embeddings": tied})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return VisionLanguageModel(replace(config, body=words, head="lm"))


def batch() -> dict[str, list[Tensor | None]]:
    """One sample with an image, one without; three and two positions are learnt."""
    first = torch.tensor([1, IMAGE_TOKEN, 7, 8, 9, 10])
    second = torch.tensor([1, 20, 21, 22])
    labels = [torch.full_like(first, IGNORED), torch.full_like(second, IGNORED)]
    labels[0][3:] = first[3:]
    labels[1][2:] = second[2:]
    return {"input_ids": [first, second], "labels": labels, "images": [small.pixels(1), None]}


def plain_loss(vlm: VisionLanguageModel, given: dict[str, list[Tensor | None]]) -> Tensor:
    """All logits, then the mean of cross entropies over everything that is learnt, as transformers' causal loss."""
    losses = []
    for ids, labels, image in zip(given["input_ids"], given["labels"], given["images"], strict=True):
        states = vlm.encode([ids], [image]).states[0]
        logits = vlm.vocabulary_logits(states)[:-1]
        wanted = expand_labels(ids, labels, vlm.image_tokens)[1:]
        losses.append(nn.functional.cross_entropy(logits, wanted, reduction="none")[wanted != IGNORED])
    return torch.cat(losses).mean()


@pytest.mark.parametrize(("body", "tied"), [("llama", False), ("qwen2", True), ("gemma2", True)])
def test_the_loss_and_its_gradients_are_those_of_all_logits(
    body: str, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causal, "CHUNK", 2)  # five learnt positions in three chunks
    model = CausalVlm(build(body, tied=tied)).train()
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    out = model(**batch())
    out["loss"].backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.zero_grad()
    expected = plain_loss(model.vlm, batch())
    expected.backward()
    assert out["loss"].item() == pytest.approx(expected.item(), abs=1e-6)
    assert out["tokens"] == 6 - 1 + model.vlm.image_tokens + 4
    for name in names:
        theirs = model.get_parameter(name).grad
        assert torch.allclose(ours[name], theirs, atol=1e-6), name


def test_the_head_is_the_one_that_is_saved() -> None:
    tied, untied = CausalVlm(build("qwen2", tied=True)), CausalVlm(build())
    assert tied.loss.weight is tied.vlm.body.get_input_embeddings().weight
    assert untied.loss.weight is untied.vlm.lm_head.weight
    assert not [name for name, _ in untied.named_parameters() if name.startswith("loss.")], "counted once"


def test_gradient_checkpointing_changes_nothing() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = CausalVlm(build()).train()
        if checkpointing:
            model.vlm.body.gradient_checkpointing_enable({"use_reentrant": False})
        model(**batch())["loss"].backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert any(name.startswith("vlm.projector.") for name in gradients[0])
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-6), name


def modules_in_order(model: CausalVlm, given: dict[str, list[Tensor | None]]) -> list[str]:
    order: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: order.append(name))
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    model(**given)
    for hook in hooks:
        hook.remove()
    return order


def test_a_process_without_images_runs_its_modules_in_the_order_of_the_others() -> None:
    """ZeRO exchanges weights and gradients module by module: another order would mix up different tensors."""
    model = CausalVlm(build()).train()
    with_image, text = batch(), batch()
    text["input_ids"][0] = text["input_ids"][0].masked_fill(text["input_ids"][0] == IMAGE_TOKEN, 3)
    text["images"][0] = None
    assert modules_in_order(model, with_image) == modules_in_order(model, text)


@pytest.mark.parametrize(("body", "tied"), [("llama", False), ("qwen2", True)])
def test_what_is_written_loads_and_has_the_same_loss(tmp_path: Path, body: str, tied: bool) -> None:
    vlm = build(body, tied=tied).eval()
    images = default_settings("clip_vision_model", small.PIXELS)
    start = Start(vlm.config, small.tokenizer(), images, {})
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.txt").write_text("half a model that a killed run left")
    export(tmp_path / "model", vlm, start, vlm.state_dict(), torch.float32, whole=True)
    loaded = load_vlm(str(tmp_path / "model"), head="lm")
    with torch.inference_mode():
        assert torch.equal(CausalVlm(loaded.model)(**batch())["loss"], CausalVlm(vlm)(**batch())["loss"])
    assert not (tmp_path / "model" / "old.txt").exists()


def test_a_projector_is_written_as_llava_does(tmp_path: Path) -> None:
    vlm = build()
    start = Start(vlm.config, small.tokenizer(), default_settings("clip_vision_model", small.PIXELS), {})
    export(tmp_path / "p", vlm, start, vlm.state_dict(), torch.float32, whole=False)
    stored = torch.load(tmp_path / "p" / "mm_projector.bin", weights_only=True)
    assert set(stored) == {f"model.mm_projector.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias")}
    name = "projector.2.weight"
    assert torch.equal(stored[published_name(name)], vlm.state_dict()[name])
    assert (tmp_path / "p" / "config.json").is_file()
