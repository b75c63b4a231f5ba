"""Tiny models trained from random weights on the clean part: a CLIP by contrast, a UniFilter on levels of captions.

The clean part shares no picture with the pool or the test set. UniFilter's vision tower is the CLIP's, frozen: the
published recipe, which takes a contrastively trained SigLIP. Its labels are the levels of `level_caption`; beyond the
paper, whose images are all sound, blurred and blank images with a right caption are added at level 0, because the image
shows nothing of what the caption says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlfilter.data.samples import ImageText
from vlfilter.demo.captions import VAGUE, describe, level_caption
from vlfilter.demo.grades import phrases
from vlfilter.demo.scenes import Scene, scenes
from vlfilter.demo.seeds import stream
from vlfilter.demo.spoil import blank, blur
from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.clip import pad_ids, save_clip
from vlfilter.models.clip_text import HfCaptions
from vlfilter.models.preprocess import ImageSettings, normalise, to_pixels
from vlfilter.models.presets import build_clip, build_vlm, clip_images
from vlfilter.models.tokenizer import TextTokenizer, train_tokenizer
from vlfilter.scoring.unifilter_text import TextLimits, caption_sequence
from vlfilter.training.classifier import LabelledBatch, train_classifier
from vlfilter.training.clip import ClipBatch, train_clip
from vlfilter.training.loop import LogRow, LoopSettings

CLIP_PRESET, UNIFILTER_PRESET = "clip_demo", "unifilter_demo"
VOCABULARY = 600
LEVELS = (3, 2, 1, 0)


@dataclass(frozen=True, slots=True)
class TrainSizes:
    """Scenes of the clean part, steps, and the batch: pairs for CLIP, scenes (four captions each) for UniFilter."""

    scenes: int = 3000
    clip_steps: int = 400
    clip_batch: int = 128
    unifilter_steps: int = 350
    unifilter_batch: int = 16
    learning_rate: float = 1e-3


def _pixels(images: Sequence[Image.Image], settings: ImageSettings) -> Tensor:
    return normalise(torch.from_numpy(np.stack([to_pixels(image, settings) for image in images])), settings)


def clip_batches(
    clean: Sequence[Scene], tokenizer: TextTokenizer, settings: ImageSettings, context: int, size: int, seed: int
) -> Iterator[ClipBatch]:
    """Batches by turns of any scenes, and of digits in one colour on one background: only the number tells them apart.

    The latter are hard negatives: without them the number, the smallest detail, is learned last. Captions are written
    anew each time.
    """
    rng = stream(seed, "clip")
    pixels, captions = _pixels([scene.image for scene in clean], settings), HfCaptions(tokenizer, context, False)
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, scene in enumerate(clean):
        if scene.attributes.background:
            alike[scene.attributes.tone, scene.attributes.background].append(i)
    everything, groups = range(len(clean)), list(alike.values())
    while True:
        for choices in (everything, rng.choice(groups)):
            picked = rng.choices(choices, k=size)
            ids = [captions(describe(clean[i].attributes, rng))[0] for i in picked]
            yield ClipBatch(pixels[picked], pad_ids(ids, captions.pad))


def unifilter_batches(
    clean: Sequence[Scene], tokenizer: TextTokenizer, settings: ImageSettings, size: int, seed: int
) -> Iterator[LabelledBatch]:
    """Batches of `size` scenes with a caption of each level, plus a third of `size` degraded images at level 0."""
    rng = stream(seed, "unifilter")
    pixels = _pixels([scene.image for scene in clean], settings)
    limits = TextLimits()

    def ids(scene: Scene, level: int) -> Tensor:
        pair = ImageText(scene.image, level_caption(scene.attributes, level, rng))
        return torch.tensor(caption_sequence(pair, tokenizer, limits).ids)

    while True:
        picked = [(i, level) for i in rng.choices(range(len(clean)), k=size) for level in LEVELS]
        sequences = [ids(clean[i], level) for i, level in picked]
        images = [pixels[i : i + 1] for i, _ in picked]
        for i in rng.choices(range(len(clean)), k=size // 3):
            degrade = rng.choice((blur, blur, blank))
            sequences.append(ids(clean[i], 3))
            images.append(_pixels([degrade(clean[i].image, rng)], settings))
        labels = torch.tensor([float(level) for _, level in picked] + [0.0] * (size // 3))
        yield LabelledBatch(sequences, images, labels)


def train_models(
    folder: Path, sizes: TrainSizes, seed: int, on_log: Callable[[str, LogRow], None] | None = None
) -> None:
    """Train both models and save them as `folder/clip` and `folder/unifilter`, in the layouts that the scorers read."""
    clean = list(scenes("train", sizes.scenes, seed))
    rng = stream(seed, "tokenizer")
    texts = [describe(scene.attributes, rng) for scene in clean] + [v for v in VAGUE for _ in range(len(clean) // 50)]
    tokenizer, settings = train_tokenizer(texts, VOCABULARY, phrases=phrases()), clip_images(CLIP_PRESET)

    clip = build_clip(CLIP_PRESET, tokenizer, seed=seed)
    context = int(clip.config.text_config.max_position_embeddings)
    batches = clip_batches(clean, tokenizer, settings, context, sizes.clip_batch, seed)
    rate = LoopSettings(sizes.clip_steps, sizes.learning_rate)
    train_clip(clip, batches, rate, (lambda row: on_log("CLIP", row)) if on_log else None)
    save_clip(folder / "clip", clip, tokenizer, settings)

    unifilter = build_vlm(UNIFILTER_PRESET, tokenizer, seed=seed)
    unifilter.vision.model.load_state_dict(clip.vision_model.state_dict())
    levels = unifilter_batches(clean, tokenizer, settings, sizes.unifilter_batch, seed)
    rate = LoopSettings(sizes.unifilter_steps, sizes.learning_rate)
    train_classifier(unifilter, levels, rate, (lambda row: on_log("UniFilter", row)) if on_log else None)
    save_vlm(folder / "unifilter", unifilter, tokenizer, settings)
