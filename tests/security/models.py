"""Small model folders for these tests."""

from __future__ import annotations

from pathlib import Path

from vlfilter.models.clip import save_clip
from vlfilter.models.presets import build_clip, clip_images
from vlfilter.models.tokenizer import train_tokenizer


def micro_clip(folder: Path) -> Path:
    tokenizer = train_tokenizer(["a picture called something"] * 20, vocab_size=300, max_length=32)
    return save_clip(folder, build_clip("clip_micro", tokenizer), tokenizer, clip_images("clip_micro"))
