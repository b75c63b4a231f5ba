"""Writes a UniFilter of a preset's size (random weights, CLIP's vocabulary) in the published layout.

Arguments: the folder, the preset, the dtype.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from vlfilter.models.checkpoints import save_vlm
from vlfilter.models.clip_text import openai_tokenizer
from vlfilter.models.presets import vlm_config, vlm_images
from vlfilter.models.vlm import VisionLanguageModel

TOWER = "siglip"


def main() -> None:
    folder, preset, dtype = sys.argv[1:]
    torch.manual_seed(0)
    config = replace(vlm_config(preset), published={"mm_vision_tower": TOWER})
    model = VisionLanguageModel(config)
    save_vlm(folder, model, openai_tokenizer(), vlm_images(preset), dtype=getattr(torch, dtype))
    # the published script reads the tower from a folder of its own
    tower = Path(folder) / TOWER
    model.vision.model.to(getattr(torch, dtype)).save_pretrained(tower)
    (tower / "preprocessor_config.json").write_text((Path(folder) / "preprocessor_config.json").read_text())
    print(sum(parameter.numel() for parameter in model.parameters()))


if __name__ == "__main__":
    main()
