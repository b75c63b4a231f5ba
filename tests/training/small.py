"""A small model, a few images and conversations: what a fine-tuning needs, made on the spot."""

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
from vlfilter.models.tokenizer import TextTokenizer, train_tokenizer
from vlfilter.models.vlm import VisionLanguageModel

VOCABULARY = 400
GRADES = (15, 40, 65, 90)


def tokenizer() -> TextTokenizer:
    return train_tokenizer([row["conversations"][0]["value"] for row in rows(40)], VOCABULARY)


def checkpoint(folder: Path, body: str = "llama", *, tied: bool = False) -> Path:
    """A whole checkpoint in the published layout, with random weights."""
    config = small.config(body, "clip", "mlp2x_gelu", select_layer=-2)
    words = config.body.to_dict() | {"vocab_size": VOCABULARY, "tie_word_embeddings": tied}
    config = replace(config, body=type(config.body).from_dict(words), head="lm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = VisionLanguageModel(config).eval()
    return save_vlm(folder, model, tokenizer(), default_settings("clip_vision_model", small.PIXELS))


def rows(count: int) -> list[dict[str, Any]]:
    """Questions about pictures, every fourth without one; answers of different lengths."""
    made: list[dict[str, Any]] = []
    for i in range(count):
        question = f"Text Caption: picture number {i}\n\nRate how well the caption fits." + " Please." * (i % 3)
        answer = f"{GRADES[i % 4]}\n" + "The caption fits the picture. " * (1 + i % 4)
        row: dict[str, Any] = {"id": f"row-{i}"}
        if i % 4 != 3:
            row["image"] = f"part/{i % 8}.jpg"
            question = f"{question}\n<image>" if i % 2 else f"<image>\n{question}"
        row["conversations"] = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        made.append(row)
    return made


def data(folder: Path, count: int = 24) -> dict[str, str]:
    """A LLaVA file and its images: the settings `data` and `images`."""
    images = folder / "images"
    (images / "part").mkdir(parents=True)
    for seed in range(8):
        (images / "part" / f"{seed}.jpg").write_bytes(jpeg(seed, size=(40, 24)))
    (folder / "data.json").write_text(json.dumps(rows(count)))
    return {"data": str(folder / "data.json"), "images": str(images)}
