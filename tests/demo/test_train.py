"""Training on a few scenes, and that the scorers load what it saves like any user's checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("skimage")

from vlfilter.data.samples import ImageText
from vlfilter.demo.captions import describe
from vlfilter.demo.scenes import scenes
from vlfilter.demo.seeds import stream
from vlfilter.demo.train import CLIP_PRESET, TrainSizes, _pixels, clip_batches, train_models, unifilter_batches
from vlfilter.models.presets import clip_images
from vlfilter.models.tokenizer import train_tokenizer
from vlfilter.models.vlm import IMAGE_TOKEN
from vlfilter.scoring.base import ScorerSettings, make_scorer
from vlfilter.training.loop import LogRow

SIZES = TrainSizes(scenes=200, clip_steps=3, clip_batch=32, unifilter_steps=3, unifilter_batch=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, LogRow]]]:
    folder, log = tmp_path_factory.mktemp("models"), []
    train_models(folder, SIZES, 0, lambda name, row: log.append((name, row)))
    return folder, log


def test_both_models_are_trained_and_logged(trained: tuple[Path, list[tuple[str, LogRow]]]) -> None:
    assert [(name, row.step) for name, row in trained[1]] == [("CLIP", 3), ("UniFilter", 3)]


@pytest.mark.parametrize(
    ("scorer", "folder", "column"), [("clip_score", "clip", "clip_score"), ("unifilter", "unifilter", "quality_score")]
)
def test_the_scorers_load_the_folders(
    trained: tuple[Path, list[tuple[str, LogRow]]], scorer: str, folder: str, column: str
) -> None:
    made = make_scorer(scorer, ScorerSettings(str(trained[0] / folder), device="cpu"))
    made.load()
    rng = stream(0, "test")
    pairs = [ImageText(scene.image, describe(scene.attributes, rng)) for scene in scenes("pool", 6, 0)]
    scores = made.score([made.prepare(pair) for pair in pairs])[column]
    assert len(set(scores)) == len(pairs)


def test_unifilters_tower_is_clips(trained: tuple[Path, list[tuple[str, LogRow]]]) -> None:
    from vlfilter.models.checkpoints import load_vlm
    from vlfilter.models.clip import load_clip

    settings = clip_images(CLIP_PRESET)
    vlm, clip = load_vlm(str(trained[0] / "unifilter")), load_clip(str(trained[0] / "clip"))
    assert vlm.images == clip.images == settings
    pixels = torch.randn(2, 3, settings.height, settings.width)
    tower = vlm.model.vision.model
    from transformers import CLIPModel

    own = CLIPModel.from_pretrained(trained[0] / "clip").vision_model
    assert torch.allclose(tower(pixels).pooler_output, own(pixels).pooler_output, atol=1e-6)
    assert vlm.model.vision(pixels).shape[1] == vlm.model.image_tokens == 5


def test_the_same_seed_gives_the_same_weights(trained: tuple[Path, list[tuple[str, LogRow]]], tmp_path: Path) -> None:
    train_models(tmp_path, SIZES, 0)
    for folder in ("clip", "unifilter"):
        names = [path.name for path in (trained[0] / folder).glob("*.safetensors")]
        assert names
        for name in names:
            assert (tmp_path / folder / name).read_bytes() == (trained[0] / folder / name).read_bytes()


def test_every_second_clip_batch_holds_look_alikes() -> None:
    clean = list(scenes("train", 200, 0))
    tokenizer, settings = train_tokenizer(["a"], 300), clip_images(CLIP_PRESET)
    mixed, alike = (b for b, _ in zip(clip_batches(clean, tokenizer, settings, 48, 32, 0), range(2), strict=False))
    own = _pixels([scene.image for scene in clean], settings)
    by_pixels = {pixels.numpy().tobytes(): scene.attributes for scene, pixels in zip(clean, own, strict=True)}
    kinds = [{by_pixels[p.numpy().tobytes()] for p in batch.pixels} for batch in (mixed, alike)]
    assert len({(a.tone, a.background) for a in kinds[1]}) == 1
    assert len({(a.tone, a.background) for a in kinds[0]}) > 5
    assert len({a.label for a in kinds[1]}) > 1
    assert mixed.input_ids.shape[0] == alike.pixels.shape[0] == 32


def test_unifilter_batches_are_balanced_over_levels() -> None:
    clean = list(scenes("train", 60, 0))
    batch = next(unifilter_batches(clean, train_tokenizer(["a"], 300), clip_images(CLIP_PRESET), 6, 0))
    assert batch.labels.tolist() == [3.0, 2.0, 1.0, 0.0] * 6 + [0.0, 0.0]
    assert len(batch.input_ids) == len(batch.images) == 26
    assert all(int((ids == IMAGE_TOKEN).sum()) == 1 for ids in batch.input_ids)
    assert torch.equal(batch.images[0], batch.images[3])
    assert not torch.equal(batch.images[0], batch.images[4])
