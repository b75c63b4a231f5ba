"""Writes a model of a preset's size (random weights) as it is published: FOLDER PRESET DTYPE.

Its tokenizer is CLIP's, or for MLM-Filter, which needs tokens of digits, one trained on MLM-Filter's questions. Made on
a GPU where there is one: a billion random numbers take a CPU half a minute.
"""

from __future__ import annotations

import string
import sys
from dataclasses import replace
from pathlib import Path

import torch

from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.clip import save_clip
from vlfilter.models.clip_text import openai_tokenizer
from vlfilter.models.conversation import TEMPLATES
from vlfilter.models.presets import CLIP_PRESETS, build_clip, clip_images, vlm_config, vlm_images
from vlfilter.models.tokenizer import TextTokenizer, train_tokenizer
from vlfilter.models.vlm import VisionLanguageModel
from vlfilter.scoring.mlm_filter_prompts import METRICS, instruction

TOWER = "siglip"


def make_clip(folder: str, preset: str, dtype: torch.dtype) -> int:
    model = build_clip(preset, seed=0).to(dtype)
    save_clip(folder, model, openai_tokenizer(), clip_images(preset))
    return sum(parameter.numel() for parameter in model.parameters())


def questions_tokenizer() -> TextTokenizer:
    """Whole words for the most part, as Qwen's has for English."""
    texts = [
        instruction(metric, f"{word} photo of a {word}", 2) for metric in METRICS for word in string.ascii_lowercase
    ]
    return train_tokenizer([*texts, *TEMPLATES["qwen_instruct"].prompt("").split()], 2000, 4096)


def make_vlm(folder: str, preset: str, dtype: torch.dtype) -> int:
    torch.manual_seed(0)
    config = vlm_config(preset)
    tokenizer = questions_tokenizer() if config.head == "lm" else openai_tokenizer()
    if int(config.body.vocab_size) < len(tokenizer.hf):
        config = vlm_config(preset, vocab_size=len(tokenizer.hf))
    config = replace(config, published={"mm_vision_tower": TOWER})
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = VisionLanguageModel(config).to(dtype)
    save_vlm(folder, model, tokenizer, vlm_images(preset), dtype=dtype)
    # the published scripts read the tower from a folder of its own
    tower = Path(folder) / TOWER
    model.vision.model.save_pretrained(tower)
    (tower / "preprocessor_config.json").write_text((Path(folder) / "preprocessor_config.json").read_text())
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    folder, preset, dtype = sys.argv[1:]
    make = make_clip if preset in CLIP_PRESETS else make_vlm
    print(make(folder, preset, getattr(torch, dtype)))


if __name__ == "__main__":
    main()
