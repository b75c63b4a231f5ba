"""Writes the tiny CLIP (random weights, CLIP's own vocabulary) as a transformers checkpoint into a folder."""

from __future__ import annotations

import sys

from vlfilter.models.clip import save_clip
from vlfilter.models.clip_text import openai_tokenizer
from vlfilter.models.presets import build_clip, clip_images


def main() -> None:
    model = build_clip("clip_tiny", seed=0)
    save_clip(sys.argv[1], model, openai_tokenizer(), clip_images("clip_tiny"))
    print(sum(parameter.numel() for parameter in model.parameters()))


if __name__ == "__main__":
    main()
