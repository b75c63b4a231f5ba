"""Runs in clip-retrieval's environment: its reader and model over a tar, cosines in float32 as JSON, key to score.

Its command keeps only embeddings rounded to half precision, whose cosines are off by up to 1e-4 by themselves.
"""

from __future__ import annotations

import json
import sys

import torch
from all_clip import load_clip
from clip_retrieval.clip_inference.reader import WebdatasetReader


def main() -> None:
    model_name, output, *tars = sys.argv[1:]
    model, preprocess, tokenizer = load_clip(clip_model=model_name, use_jit=False, device="cpu")
    reader = WebdatasetReader(lambda urls: urls, preprocess, tokenizer, tars, 64, 0)
    scores: dict[str, float] = {}
    for batch in reader:
        with torch.no_grad():
            images = torch.nn.functional.normalize(model.encode_image(batch["image_tensor"]), dim=-1)
            texts = torch.nn.functional.normalize(model.encode_text(batch["text_tokens"]), dim=-1)
        scores.update(zip(batch["image_filename"], (images * texts).sum(-1).tolist(), strict=True))
    with open(output, "w") as file:
        json.dump(scores, file)


if __name__ == "__main__":
    main()
