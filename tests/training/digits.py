"""Handwritten digits in coloured ink on coloured ground, with captions of four levels: a small real set for stage 2."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from transformers import CLIPVisionConfig, Qwen2Config

from vlfilter.demo.captions import BACKGROUNDS, COLOURS, DIGITS, PHOTOS, VAGUE, Attributes, describe
from vlfilter.demo.scenes import _INK as INK
from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.preprocess import default_settings
from vlfilter.models.projectors import ProjectorConfig
from vlfilter.models.tokenizer import train_tokenizer
from vlfilter.models.vlm import VisionLanguageModel, VlmConfig

SIDE = 32
GROUND = dict(zip(BACKGROUNDS, ((120, 50, 40), (30, 90, 30), (100, 100, 100), (20, 20, 40)), strict=True))
TRAIN, VALIDATION = 1300, 250  # digits; three scenes of each to train on


def scene(digit: np.ndarray, attributes: Attributes) -> Image.Image:
    ground = Image.new("RGB", (SIDE, SIDE), GROUND[str(attributes.background)])
    glyph = Image.fromarray((digit * (255 / 16)).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    ground.paste(Image.new("RGB", (SIDE, SIDE), INK[attributes.tone]), (0, 0), glyph)
    return ground


def caption(attributes: Attributes, level: int, rng: random.Random) -> str:
    """3: all right; 2: one of digit, ink and ground wrong; 1: vague; 0: about a photograph that is not there."""
    if level == 0:
        return describe(Attributes(rng.choice(tuple(PHOTOS)), "grey"), rng)
    if level == 1:
        return rng.choice(VAGUE)
    words = {"label": attributes.label, "tone": attributes.tone, "background": str(attributes.background)}
    if level == 2:
        choices = {"label": DIGITS, "tone": COLOURS, "background": tuple(BACKGROUNDS)}
        wrong = rng.choice(tuple(words))
        words[wrong] = rng.choice([word for word in choices[wrong] if word != words[wrong]])
    return f"a {words['tone']} {words['label']} on {words['background']}"


def make(folder: Path, shuffled: bool = False) -> dict[str, Any]:
    """The settings `data`, `validation`, `images` and `model`: rows, and a model with random weights.

    `shuffled` deals the labels out anew, so that nothing is left to learn.
    """
    rng = random.Random(0)
    found = load_digits()
    order = rng.sample(range(len(found.images)), TRAIN + VALIDATION)
    sides = {"data": order[:TRAIN] * 3, "validation": order[TRAIN:]}
    (folder / "images").mkdir(parents=True)
    told: dict[str, Any] = {"images": str(folder / "images"), "model": str(folder / "start")}
    texts = []
    for side, digits in sides.items():
        rows = list(_rows(folder / "images", side, digits, found, rng))
        texts += [row["text"].removeprefix("<image>\n") for row in rows]
        if shuffled:
            labels = [row["label"] for row in rows]
            rng.shuffle(labels)
            rows = [{**row, "label": label} for row, label in zip(rows, labels, strict=True)]
        (folder / f"{side}.json").write_text(json.dumps(rows))
        told[side] = str(folder / f"{side}.json")
    _start(folder / "start", texts)
    return told


def _rows(images: Path, side: str, digits: list[int], found: Any, rng: random.Random) -> Iterator[dict[str, Any]]:
    for number, i in enumerate(digits):
        attributes = Attributes(DIGITS[found.target[i]], rng.choice(COLOURS), rng.choice(tuple(BACKGROUNDS)))
        name = f"{side}-{number:05d}.bmp"
        scene(found.images[i], attributes).save(images / name)
        for level in range(4):
            yield {"image": name, "text": f"<image>\n{caption(attributes, level, rng)}", "label": level}


def _start(folder: Path, texts: list[str]) -> None:
    """The tower is read at its embeddings, patches projected at random: all that is seen is learnt in stage 2."""
    tokenizer = train_tokenizer(texts, 600)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    body = Qwen2Config(**size, vocab_size=len(tokenizer.hf), num_hidden_layers=2, num_key_value_heads=4,
                       max_position_embeddings=512, tie_word_embeddings=True)  # fmt: skip
    tower = CLIPVisionConfig(**size, num_hidden_layers=1, image_size=SIDE, patch_size=16, projection_dim=64)
    torch.manual_seed(0)
    model = VisionLanguageModel(VlmConfig(body, tower, ProjectorConfig("mlp2x_gelu"), select_layer=0, head="lm"))
    save_vlm(folder, model, tokenizer, default_settings("clip_vision_model", SIDE))
