"""A small language model with eyes, saved as a checkpoint, and questions about small pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.helpers import jpeg
from tests.models import small
from vlfilter.evaluation.items import Item, lettered
from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.preprocess import ImageSettings
from vlfilter.models.vlm import VisionLanguageModel

WORDS = ["cat", "a red bus", "two dogs in the snow", "map of Europe", "chair", "snow", "old London", "photo"]


def save_model(folder: Path, body: str = "qwen2", seed: int = 0) -> str:
    config = replace(small.config(body), head="lm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VisionLanguageModel(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.15)
    images = ImageSettings(small.PIXELS, small.PIXELS)
    return str(save_vlm(folder, model.eval(), small.tokenizer(), images))


def save_images(folder: Path, count: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:012d}.jpg").write_bytes(jpeg(number, (30 + number, 40)))
    return str(folder)


def question(number: int, **changes: Any) -> Item:
    """Questions of unequal lengths with 2 to 5 candidates."""
    words = [WORDS[(number + i) % len(WORDS)] for i in range(2 + number % 4)]
    item = Item(f"q{number}", "Which is it? " * (1 + number % 3), lettered(words), (f"{number:012d}.jpg",))
    return replace(item, **changes)
