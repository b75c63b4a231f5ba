"""ImageReward against numbers of the published package, and its words against transformers' tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision import transforms
from transformers import BertTokenizer

from tests.helpers import picture
from tests.reward_models import FIXTURE, VOCABULARY, fixture_folder
from vlfilter.errors import VlfilterError
from vlfilter.models.image_reward import (
    ImageReward,
    build_image_reward,
    load_image_reward,
    normalise_as_published,
    reward_images,
    save_image_reward,
)
from vlfilter.models.image_reward_keys import our_name, published_name
from vlfilter.models.image_reward_source import REWARD_PRESETS, VisionSizes, read_sizes, reward_source
from vlfilter.models.preprocess import CLIP_MEAN, CLIP_STD, to_pixels
from vlfilter.models.weights import empty_parameters
from vlfilter.models.wordpiece import WordPieces


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture_folder(tmp_path_factory.mktemp("models") / "reward")


@pytest.mark.parametrize(("dtype", "key"), [(torch.float32, "reward_fp32"), (torch.float64, "reward_fp64")])
@pytest.mark.parametrize("published", [True, False])
def test_rewards_equal_the_published_package(tmp_path: Path, dtype: torch.dtype, key: str, published: bool) -> None:
    io = load_file(FIXTURE / "io.safetensors")
    model = load_image_reward(str(fixture_folder(tmp_path / "m", published=published)), dtype=dtype)
    with torch.inference_mode():
        found = model.rewards(io["image"].to(dtype), io["input_ids"], io["attention_mask"])
        swapped = model.rewards(io["image"].flip(0).to(dtype), io["input_ids"], io["attention_mask"])
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found, io[key].squeeze(-1), atol=tolerance, rtol=0)
    assert (swapped - found).abs().max() > 1  # the image counts


@pytest.mark.parametrize(("name", "size"), [("rgb", 32), ("gray", 32), ("rgb224", 224)])
def test_preprocessing_equals_the_published_package_to_the_last_bit(name: str, size: int) -> None:
    tensors = load_file(FIXTURE / "preprocess.safetensors")
    image = Image.fromarray(tensors[f"{name}_u8"].numpy()).convert("RGB")
    images = reward_images(VisionSizes(image_size=size))
    found = normalise_as_published([to_pixels(image, images)], images, "cpu")[0]
    assert torch.equal(found, tensors[f"{name}_out"])


@pytest.mark.parametrize("shape", [(40, 40), (33, 90), (91, 32), (35, 32), (20, 15), (640, 427)])
def test_preprocessing_is_torchvision_s(shape: tuple[int, int]) -> None:
    """The published package's transforms, odd cuts (half of one goes to the even side) among them."""
    image, images = picture(3, shape), reward_images(VisionSizes(image_size=32))
    theirs = transforms.Compose(
        [
            transforms.Resize(32, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )
    found = normalise_as_published([to_pixels(image, images)], images, "cpu")[0]
    assert torch.equal(found, theirs(image))


def test_names_of_tensors_go_both_ways() -> None:
    stored = load_file(FIXTURE / "state_dict.safetensors")
    kept = {name: our_name(name) for name in stored if our_name(name)}
    dropped = set(stored) - set(kept)
    assert dropped == {
        "blip.text_encoder.embeddings.position_ids", "blip.vision_proj.weight", "blip.vision_proj.bias",
        "blip.text_proj.weight", "blip.text_proj.bias",
    }  # fmt: skip
    assert {published_name(ours): ours for ours in kept.values() if ours} == kept


def test_the_full_preset_has_the_published_sizes() -> None:
    with empty_parameters():
        model = ImageReward(REWARD_PRESETS["image_reward_v1"])
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(446e6, rel=0.01)
    assert model.vision.embeddings.position_embedding.shape == (1, 197, 1024)
    assert model.text.embeddings.word_embeddings.weight.shape == (30524, 768)
    # the published med_config.json says encoder_width 768, which the published code overrules by the ViT's
    assert model.text.encoder.layer[0].crossattention.self.key.weight.shape == (768, 1024)


def test_a_published_folder_without_sizes_is_a_vit_l(tmp_path: Path) -> None:
    (tmp_path / "med_config.json").write_text(json.dumps({"hidden_size": 768, "encoder_width": 768}))
    assert read_sizes(tmp_path) == REWARD_PRESETS["image_reward_v1"]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    model, sizes = build_image_reward("image_reward_tiny", seed=3)
    loaded = load_image_reward(str(save_image_reward(tmp_path / "m", model, sizes, VOCABULARY)))
    assert read_sizes(tmp_path / "m") == sizes
    for (name, ours), theirs in zip(loaded.model.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    again, _ = build_image_reward("image_reward_tiny", seed=4)
    assert not torch.equal(again.head["0"].weight, model.head["0"].weight)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=60) | st.lists(
    st.sampled_from(["cat", "DOG", "dogs,", "é", "漢字", "[SEP]", "[ENC]", "[dec]", "\t", "\x1c", "\x85", "\u3000",
                     "a" * 101, "it's", "1.2", "\ufffd", "##s"]), max_size=60,
).map(" ".join)  # fmt: skip


@pytest.fixture(scope="module")
def library(folder: Path) -> BertTokenizer:
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    return tokenizer


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_ids_equal_the_library_s(library: BertTokenizer, folder: Path, text: str) -> None:
    expected = library(text, padding="max_length", truncation=True, max_length=35)
    ids, length, cut = WordPieces(folder / "vocab.txt", 35, control_tokens=True)(text)
    assert ids == expected["input_ids"]
    assert [1] * length + [0] * (35 - length) == expected["attention_mask"]
    assert cut == (len(library.tokenize(text)) > 33)


def test_special_tokens_in_a_text_stay_text(folder: Path) -> None:
    plain, control = (WordPieces(folder / "vocab.txt", 35, control_tokens=flag) for flag in (False, True))
    assert control("a [SEP] cat")[0].count(3) == 2
    assert plain("a [SEP] cat")[0].count(3) == 1
    assert plain("a cat") == control("a cat")


@pytest.mark.parametrize(
    "text", ["cat " * 50_000, "a" * 200_000, "a" + " \n" * 50_000 + "cat", "a" * 590 + " " + "a" * 150 + " dog"]
)
def test_long_texts_are_read_as_the_library_reads_them(library: BertTokenizer, folder: Path, text: str) -> None:
    expected = library(text, padding="max_length", truncation=True, max_length=35)["input_ids"]
    assert WordPieces(folder / "vocab.txt", 35)(text)[0] == expected


@pytest.mark.parametrize(("words", "cut"), [(33, False), (34, True)])
def test_the_flag_is_exact(folder: Path, words: int, cut: bool) -> None:
    ids, length, told = WordPieces(folder / "vocab.txt", 35)("cat " * words)
    assert (len(ids), length, told) == (35, 35, cut)


def test_blip_s_two_tokens_follow_the_vocabulary(folder: Path) -> None:
    words = WordPieces(folder / "vocab.txt", 35, control_tokens=True)
    count = len(VOCABULARY.splitlines())
    assert words("[DEC] [ENC]")[0][:4] == [2, count, count + 1, 3]
    assert words.size == count + 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "ImageReward.pt").unlink(), "has no weights of ImageReward"),
        (lambda folder: (folder / "med_config.json").unlink(), r"has no med_config\.json"),
        (lambda folder: (folder / "config.json").write_text('{"vision_heads": 5}'), "5 heads do not divide"),
        (lambda folder: (folder / "med_config.json").write_text('{"hidden_size": "48"}'), "hidden_size is '48'"),
    ],
)
def test_what_a_folder_lacks_is_told_without_loading(tmp_path: Path, spoil: object, message: str) -> None:
    spoil(fixture_folder(tmp_path / "m"))  # type: ignore[operator]
    with pytest.raises(VlfilterError, match=message):
        reward_source(str(tmp_path / "m"))


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    folder = fixture_folder(tmp_path / "m", published=False)
    (folder / "vocab.txt").write_text(VOCABULARY + "one\nmore\n", encoding="utf-8")
    with pytest.raises(VlfilterError, match="do not belong together"):
        load_image_reward(str(folder))
    (folder / "vocab.txt").write_text("cat\ndog\n", encoding="utf-8")
    with pytest.raises(VlfilterError, match=r"no vocabulary of BERT: it lacks \[PAD\]"):
        load_image_reward(str(folder))
    (folder / "vocab.txt").write_text(VOCABULARY, encoding="utf-8")
    state = load_file(folder / "model.safetensors")
    del state["mlp.layers.7.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(VlfilterError, match=r"1 missing: head\.7\.bias"):
        load_image_reward(str(folder))


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    folder = fixture_folder(tmp_path / "m")
    torch.save({"mlp.layers.0.bias": Path("x")}, folder / "ImageReward.pt")
    with pytest.raises(VlfilterError, match="without running pickled code"):
        load_image_reward(str(folder))


def test_the_digest_tells_the_content(tmp_path: Path) -> None:
    folder = fixture_folder(tmp_path / "m", published=False)
    digests = [reward_source(str(folder)).digest()]
    assert reward_source(str(fixture_folder(tmp_path / "same", published=False))).digest() == digests[0]
    for name, text in (("vocab.txt", VOCABULARY + "x\n"), ("med_config.json", json.dumps({"hidden_size": 96}))):
        (folder / name).write_text(text, encoding="utf-8")
        digests.append(reward_source(str(folder)).digest())
    (folder / "vocab.txt").unlink()
    digests.append(reward_source(str(folder)).digest())
    assert len(set(digests)) == 4
