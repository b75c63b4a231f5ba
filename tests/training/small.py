"""A small model, a few images and conversations: what a fine-tuning needs, made on the spot."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests.helpers import jpeg
from tests.models import small
from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.conversation import TEMPLATES
from vlfilter.models.preprocess import default_settings
from vlfilter.models.tokenizer import TextTokenizer, train_tokenizer
from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.scoring.mlm_filter_prompts import METRICS, instruction
from vlfilter.training.settings import TrainSettings, train_settings

VOCABULARY = 800
GRADES = (15, 40, 65, 90)


@cache
def tokenizer() -> TextTokenizer:
    """Knows the words of the rows, and of the scorer's questions, whole."""
    questions = [instruction(metric, "", 1) for metric in METRICS]
    system = [template.system for template in TEMPLATES.values()]
    return train_tokenizer([*questions, *system, *(row["conversations"][0]["value"] for row in rows(40))], VOCABULARY)


def checkpoint(folder: Path, body: str = "llama", *, tied: bool = False) -> Path:
    """A whole checkpoint in the published layout, with random weights."""
    config = small.config(body, "clip", "mlp2x_gelu", select_layer=-2)
    words = config.body.to_dict() | {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": tied,
    }
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


def settings(folder: Path, told: dict[str, str], model: Path, **values: Any) -> TrainSettings:
    """A training of nine steps in three epochs on `data`, with a checkpoint after every second."""
    nine = {"epochs": 3, "batch_size": 8, "per_device_batch": 2, "save_steps": 2, "gradient_checkpointing": True}
    return train_settings({**told, "output": str(folder), "model": str(model), **nine, **values}, "mlm_filter_tiny")
