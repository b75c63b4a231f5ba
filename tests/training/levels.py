"""Quality rows with their images, and a small model to start from: what a classifier's training needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.helpers import jpeg
from tests.models import small
from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.preprocess import default_settings
from vlfilter.models.vlm import VisionLanguageModel

WORDS = ("an unrelated text", "a picture with faults", "a picture with one fault", "a faithful description")


def start(folder: Path, body: str = "qwen2", tower: str = "siglip", projector: str = "aapool_mlp") -> Path:
    """A language model's checkpoint in the published layout, with random weights."""
    config = replace(small.config(body, tower, projector), head="lm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = VisionLanguageModel(config).eval()
    return save_vlm(folder, model, small.tokenizer(), default_settings(f"{tower}_vision_model", small.PIXELS))


def rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Four captions and four documents of one to three images by turns; levels 0 to 3 in turn."""
    made: list[dict[str, Any]] = []
    for i in range(first, first + count):
        words = f"{WORDS[i % 4]} number {i}"
        one = f"part/{i % 6}.jpg"
        if (i // 4) % 2:
            images = [f"part/{(i + j) % 6}.jpg" for j in range(1 + (i + i // 8) % 3)]
            made.append({"image": images, "text": words + "\n\n<image>\n\nand so on" * len(images), "label": i % 4})
        else:
            made.append({"image": one, "text": f"<image>\n{words}", "label": i % 4})
    return made


def data(folder: Path, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> dict[str, str]:
    """The settings `data`, `validation` and `images`."""
    images = folder / "images"
    (images / "part").mkdir(parents=True)
    for seed in range(6):
        (images / "part" / f"{seed}.jpg").write_bytes(jpeg(seed, size=(40, 24)))
    found = {"images": str(images)}
    for name, chosen in (("data", train), ("validation", validation)):
        (folder / f"{name}.json").write_text(json.dumps(chosen))
        found[name] = str(folder / f"{name}.json")
    return found
