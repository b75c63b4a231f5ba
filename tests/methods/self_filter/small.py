"""A few instructions with images and a tiny CLIP with random weights: what the features need, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.helpers import jpeg
from vlfilter.methods.self_filter.preprocess import preprocess
from vlfilter.models.clip import save_clip
from vlfilter.models.clip_text import openai_tokenizer
from vlfilter.models.presets import build_clip, clip_images

# images recur within a shard of three rows and across shards; one row has none, one is broken in itself
PICTURES = ["a.jpg", "b.jpg", "a.jpg", "sub/c.jpg", "b.jpg", None, "d.jpg", "a.jpg", "e.jpg", "f.jpg"]
ODD = 8
LONG = "very many words " * 60


def entries() -> list[dict[str, Any]]:
    rows = []
    for i, picture in enumerate(PICTURES):
        answer = LONG if i == 3 else f"Answer number {i} – as they say, naïve."
        speaker = "system" if i == ODD else "human"
        turns = [{"from": speaker, "value": f"<image>\nWhat is {i}?"}, {"from": "gpt", "value": answer}]
        rows.append({"id": str(i)} | ({"image": picture} if picture else {}) | {"conversations": turns})
    return rows


def data(folder: Path, rows_per_shard: int = 3, rows: list[dict[str, Any]] | None = None) -> str:
    """Preprocessed instructions in shards of three."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "in.json").write_text(json.dumps(entries() if rows is None else rows))
    preprocess(str(folder / "in.json"), str(folder / "data"), rows_per_shard)
    return str(folder / "data")


def image_files() -> dict[str, bytes]:
    """Everything but `f.jpg`, which is missing; `d.jpg` is cut short."""
    sizes = {"a.jpg": (64, 48), "b.jpg": (33, 90), "sub/c.jpg": (120, 80), "e.jpg": (30, 30)}
    files = {name: jpeg(seed, size) for seed, (name, size) in enumerate(sizes.items())}
    return files | {"d.jpg": jpeg(9)[:100]}


def images(folder: Path) -> str:
    for name, content in image_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(folder)


def clip(folder: Path) -> Path:
    tokenizer = openai_tokenizer()
    return save_clip(folder, build_clip("clip_tiny", tokenizer), tokenizer, clip_images("clip_tiny"))
