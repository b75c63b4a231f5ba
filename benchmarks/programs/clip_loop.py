"""A plain CLIP scoring loop as DataComp's baselines run it: webdataset, a DataLoader with workers, batches of 256.

Images go through transformers' own CLIP processor in the loader's processes, captions are padded to 77 tokens; rows are
collected in pandas. FOLDER OUTPUT TARS…; device, dtype and workers from BENCHMARK_*. Written for this comparison. The
last line is the time of the loop, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import pandas as pd
import torch
import webdataset as wds
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import CLIPModel, CLIPProcessor

BATCH = 256


class Collator:
    def __init__(self, processor: Any):
        self.processor = processor

    def __call__(self, samples: list[tuple[Any, str, str]]) -> tuple[Any, list[str]]:
        images, texts, keys = zip(*samples, strict=True)
        made = self.processor(
            images=list(images), text=list(texts), return_tensors="pt", padding="max_length", truncation=True,
            max_length=77,
        )  # fmt: skip
        return made, list(keys)


def features(model: Any, batch: Any, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    images = model.get_image_features(pixel_values=batch["pixel_values"].to(device, dtype)).pooler_output
    texts = model.get_text_features(
        input_ids=batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device)
    ).pooler_output
    return images, texts


def main() -> None:
    folder, output, *tars = sys.argv[1:]
    device = os.environ.get("BENCHMARK_DEVICE", "cpu")
    dtype = getattr(torch, os.environ.get("BENCHMARK_DTYPE", "float32"))
    workers = int(os.environ.get("BENCHMARK_WORKERS", "4"))
    model = CLIPModel.from_pretrained(folder).eval().to(device, dtype)
    collate = Collator(CLIPProcessor.from_pretrained(folder))
    os.makedirs(output)
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()
    dataset = wds.WebDataset(list(tars), shardshuffle=False, empty_check=False)
    loader = DataLoader(
        dataset.decode("pilrgb").to_tuple("jpg", "txt", "__key__"), batch_size=BATCH, num_workers=workers,
        collate_fn=collate, pin_memory=device != "cpu",
    )  # fmt: skip
    for batch, keys in loader:
        with torch.inference_mode():
            scores = torch.cosine_similarity(*features(model, batch, device, dtype)).float().cpu().tolist()
        rows += [{"key": key, "clip_score": score} for key, score in zip(keys, scores, strict=True)]
    pd.DataFrame(rows).to_parquet(os.path.join(output, "clip_score.parquet"))
    print(json.dumps({"samples": len(rows), "seconds": round(time.perf_counter() - started, 3)}))


if __name__ == "__main__":
    main()
