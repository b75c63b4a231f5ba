"""Checkpoints in the published layout: what is written is read back, what does not fit is told."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import small
from vlfilter.errors import VlfilterError
from vlfilter.models.checkpoints import load_vlm, save_vlm
from vlfilter.models.preprocess import default_settings
from vlfilter.models.vlm import VisionLanguageModel, loss

FIXTURE = Path(__file__).parents[1] / "fixtures" / "unifilter"
COMBINATIONS = [
    (body, tower, projector)
    for body in small.BODIES
    for tower, projector in [("siglip", "aapool_mlp"), ("clip", "mlp2x_gelu")]
] + [("qwen2", tower, projector) for tower in small.TOWERS for projector in small.PROJECTORS]


def save(folder: Path, model: VisionLanguageModel, **options: Any) -> Path:
    images = default_settings(model.config.vision.model_type, small.PIXELS)
    return save_vlm(folder, model, small.tokenizer(), images, **options)


def edit(folder: Path, **fields: Any) -> Path:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not ...}))
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save(tmp_path / "model", small.build())


@pytest.mark.parametrize(("body", "tower", "projector"), sorted(set(COMBINATIONS)))
def test_every_combination_trains_saves_and_loads(tmp_path: Path, body: str, tower: str, projector: str) -> None:
    model = small.build(body, tower, projector, num_labels=2, select_layer=-2).train()
    ids, images = small.sample(1, 2)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    loss(model([ids], [images]), torch.tensor([1])).backward()
    optimizer.step()
    loaded = load_vlm(str(save(tmp_path / "m", model.eval())))
    with torch.inference_mode():
        assert torch.equal(loaded.model([ids], [images]), model([ids], [images]))
    assert not loaded.model.training
    assert loaded.config.num_labels == 2
    assert loaded.tokenizer.ids("a red bus") == small.tokenizer().ids("a red bus")


def test_names_are_the_published_ones(saved: Path) -> None:
    published = set(load_file(FIXTURE / "model.safetensors"))
    ours = set(load_file(saved / "model.safetensors"))
    assert {name for name in ours if ".layers." not in name} == {name for name in published if ".layers." not in name}
    assert {name for name in ours if ".layers.1." in name} == {name for name in published if ".layers.1." in name}


def test_config_says_what_the_published_ones_say(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    published = json.loads((FIXTURE / "config.json").read_text())
    expected = published.keys() - {"mm_vision_tower", "transformers_version"}
    assert expected - config.keys() == set()
    same = ("architectures", "model_type", "id2label", "mm_projector_type", "mm_vision_select_layer", "rope_scaling")
    assert {name: config[name] for name in same} == {name: published[name] for name in same}


def test_a_published_checkpoint_survives_reading_and_writing(tmp_path: Path) -> None:
    first = load_vlm(str(FIXTURE))
    save_vlm(tmp_path / "again", first.model, first.tokenizer, first.images)
    second = load_vlm(str(tmp_path / "again"), vision="embedded")
    ids, images = torch.tensor([413, -200, 50, 60, 2]), torch.randn(1, 3, 56, 56)
    with torch.inference_mode():
        assert torch.equal(first.model([ids], [images]), second.model([ids], [images]))
    assert second.images == first.images
    before = json.loads((FIXTURE / "config.json").read_text())
    after = json.loads((tmp_path / "again" / "config.json").read_text())
    assert {name: after.get(name) for name in before} == before


def test_shards_and_index(tmp_path: Path) -> None:
    model = small.build()
    folder = save(tmp_path / "m", model, shard_bytes=40_000)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    ids, images = small.sample(1, 1)
    loaded = load_vlm(str(folder))
    with torch.inference_mode():
        assert torch.equal(loaded.model([ids], [images]), model([ids], [images]))
    shards[1].unlink()
    with pytest.raises(VlfilterError, match=f"lacks {shards[1].name}"):
        load_vlm(str(folder))


def _as_bins(folder: Path) -> Path:
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    halves = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, part in halves.items():
        torch.save({name: state[name] for name in part}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    return folder


def test_bin_shards(saved: Path) -> None:
    ids, images = small.sample(1, 1)
    with torch.inference_mode():
        expected = load_vlm(str(saved)).model([ids], [images])
        assert torch.equal(load_vlm(str(_as_bins(saved))).model([ids], [images]), expected)


def test_pickled_code_is_not_run(saved: Path, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").write_bytes(pickle.dumps({"model.norm.weight": Attack()}))
    with pytest.raises(VlfilterError, match=r"pytorch_model\.bin"):
        load_vlm(str(saved))
    assert not (tmp_path / "ran").exists()


def test_dtypes_of_body_and_head(saved: Path) -> None:
    loaded = load_vlm(str(saved), dtype=torch.bfloat16)
    dtypes = {name: parameter.dtype for name, parameter in loaded.model.named_parameters()}
    assert dtypes.pop("score.weight") == torch.float32
    assert set(dtypes.values()) == {torch.bfloat16}
    ids, images = small.sample(1, 1)
    assert loaded.model([ids], [images]).dtype == torch.float32
    published = load_vlm(str(saved), dtype=torch.bfloat16, head_dtype=torch.bfloat16)
    assert published.model([ids], [images]).dtype == torch.bfloat16


def test_loading_leaves_nothing_on_the_meta_device(saved: Path) -> None:
    model = load_vlm(str(saved)).model
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    assert {str(tensor.device) for tensor in tensors.values()} == {"cpu"}
    assert any("inv_freq" in name for name in tensors)
    assert not any(p.requires_grad for name, p in model.named_parameters() if name.startswith("vision."))


def _shift_embedded_tower(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    name = "model.vision_tower.vision_tower.vision_model.embeddings.patch_embedding.bias"
    save_file(state | {name: state[name] + 1}, folder / "model.safetensors", metadata={"format": "pt"})


def test_which_tower_is_read(tmp_path: Path) -> None:
    """A local folder beside the checkpoint first; the copy in the checkpoint when asked, or when there is no folder."""
    folder = tmp_path / "m"
    shutil.copytree(FIXTURE, folder)
    vision = json.loads((folder / "siglip-tiny" / "config.json").read_text())
    edit(folder, mm_vision_config=vision)
    _shift_embedded_tower(folder)
    ids, images = torch.tensor([413, -200, 50, 60, 2]), torch.randn(1, 3, 56, 56)

    def score(**options: Any) -> float:
        with torch.inference_mode():
            return float(load_vlm(str(folder), **options).model([ids], [images]))

    with torch.inference_mode():
        expected = float(load_vlm(str(FIXTURE)).model([ids], [images]))
    assert score() == score(vision="hub") == pytest.approx(expected, abs=1e-6)
    embedded = score(vision="embedded")
    assert abs(embedded - expected) > 1e-3
    shutil.rmtree(folder / "siglip-tiny")
    assert score() == embedded
    with pytest.raises(VlfilterError, match="siglip-tiny"):
        score(vision="hub")


def test_embedded_tower_of_a_known_name_needs_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlfilter.models import locate

    monkeypatch.setitem(locate.KNOWN_TOWERS, "someone/tower", small.TOWERS["siglip"]().to_diff_dict())
    model = small.build()
    folder = edit(save(tmp_path / "m", model), mm_vision_config=..., mm_vision_tower="someone/tower")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ids, images = small.sample(1, 1)
    with torch.inference_mode():
        assert torch.equal(load_vlm(str(folder)).model([ids], [images]), model([ids], [images]))
    edit(folder, mm_vision_tower="someone/else")
    with pytest.raises(VlfilterError, match="someone/else"):
        load_vlm(str(folder))


def _change(folder: Path, **tensors: torch.Tensor | None) -> None:
    state: dict[str, Any] = load_file(folder / "model.safetensors") | {
        name.replace("__", "."): tensor for name, tensor in tensors.items()
    }
    kept = {name: tensor for name, tensor in state.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_unexpected_and_misshaped_tensors_are_listed(saved: Path) -> None:
    _change(saved, model__norm__weight=None, model__visual__extra=torch.zeros(2), score__weight=torch.zeros(3, 32))
    with pytest.raises(VlfilterError) as caught:
        load_vlm(str(saved))
    message = str(caught.value)
    assert "1 missing: body.norm.weight" in message
    assert "1 unexpected: body.visual.extra" in message
    assert "1 of another shape: score.weight (3, 32) instead of (1, 32)" in message


def _without(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def _no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def _base_tokenizer(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in config.items() if name != "bos_token"}))


def _cut(name: str, length: int) -> Any:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:length])


def _write(name: str, data: bytes) -> Any:
    return lambda folder: (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without("config.json"), r"has no config\.json"),
        (_without("model.safetensors"), "has no weights"),
        (_no_tokenizer, "has no tokenizer"),
        (_base_tokenizer, "no bos_token"),
        (_write("config.json", b"{"), r"config\.json cannot be read"),
        (_write("config.json", b"[]"), "not a JSON object"),
        (_cut("model.safetensors", 100), r"model\.safetensors is damaged .*header is cut"),
        (_cut("model.safetensors", -100), r"model\.safetensors is damaged"),
        (_write("tokenizer.json", b"{}"), "tokenizer .* cannot be read"),
        (lambda f: edit(f, architectures=["BertModel"], model_type="bert"), "is a BertModel, not one of"),
        (lambda f: edit(f, architectures=["LlavaQwenForCausalLM"]), "without a score head"),
        (lambda f: edit(f, mm_projector_type="qformer"), "unknown projector 'qformer'"),
        (lambda f: edit(f, mm_hidden_size=99), "width 99"),
        (lambda f: edit(f, num_attention_heads=5), "does not fit|no valid qwen2 model"),
        (lambda f: edit(f, mm_vision_config={"model_type": "siglip2_vision_model"}), "naflex"),
        (lambda f: edit(f, mm_vision_config=..., mm_vision_tower=""), "shape is not known"),
    ],
)
def test_spoiled_folders_are_told(saved: Path, spoil: Any, message: str) -> None:
    spoil(saved)
    with pytest.raises(VlfilterError, match=message):
        load_vlm(str(saved))


def test_body_is_told_by_config_not_by_folder_name(tmp_path: Path) -> None:
    model = small.build("qwen3")
    loaded = load_vlm(str(save(tmp_path / "llava-phi-gemma-qwen2.5", model)))
    assert loaded.config.body.model_type == "qwen3"


def test_save_touches_no_existing_folder(saved: Path) -> None:
    with pytest.raises(VlfilterError, match="exists already"):
        save(saved, small.build())
    assert not list(saved.parent.glob(".*")), "no temporary folder stays behind"


def test_save_can_convert_and_take_another_state(tmp_path: Path) -> None:
    model, other = small.build(seed=0), small.build(seed=1)
    folder = save(tmp_path / "m", model, dtype=torch.bfloat16, state=other.state_dict())
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "bfloat16"
    ids, images = small.sample(1, 1)
    with torch.inference_mode():
        assert load_vlm(str(folder)).model([ids], [images]) == pytest.approx(other([ids], [images]), abs=0.05)


def test_tokenizer_in_the_older_files(tmp_path: Path) -> None:
    """vocab.json, merges.txt and added tokens, as released Qwen2.5 checkpoints have them, not tokenizer.json."""
    folder = tmp_path / "m"
    shutil.copytree(FIXTURE, folder)
    described = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(described["model"]["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in described["model"]["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "Qwen2Tokenizer"}))
    old, new = load_vlm(str(folder)).tokenizer, load_vlm(str(FIXTURE)).tokenizer
    assert (old.bos, old.eos) == (new.bos, new.eos) == (413, 2)
    assert old.ids("a photo of a cat") == new.ids("a photo of a cat")
    assert old.ids_with_control("cat<|im_end|>")[-1] == 2
