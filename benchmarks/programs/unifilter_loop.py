"""A plain scoring loop as UniFilter's published script runs it: webdataset, one DataLoader a tar, batches of 16.

Images are decoded by webdataset, resized and normalised by transformers' slow processor; captions tokenised one by one,
padded to the right and cut to 75 columns; rows collected in pandas, one Parquet a tar. The forward pass is vlfilter's,
so that the comparison shows what lies around it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pandas as pd
import torch
import webdataset as wds
from torch.utils.data import DataLoader
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from vlfilter.models.checkpoints import load_vlm
from vlfilter.models.vlm import IMAGE_TOKEN

BATCH = 16
COLUMNS = 75
LOADER_WORKERS = 1  # its default is 4, of which three find nothing in a single tar


class Collator:
    def __init__(self, tokenizer: Any, processor: Any):
        self.tokenizer = tokenizer
        self.processor = processor

    def __call__(self, samples: list[tuple[Any, str, dict[str, Any]]]) -> tuple[Any, Any, list[dict[str, Any]]]:
        images = [self.processor(image, return_tensors="pt")["pixel_values"] for image, _, _ in samples]
        rows = [self._ids("<image>\n" + caption.replace("<image>", "image")) for _, caption, _ in samples]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        return torch.cat(images), padded[:, :COLUMNS], [record for _, _, record in samples]

    def _ids(self, text: str) -> torch.Tensor:
        chunks = [self.tokenizer(chunk, add_special_tokens=False).input_ids for chunk in text.split("<image>")]
        ids = [self.tokenizer.bos_token_id, *chunks[0]]
        for chunk in chunks[1:]:
            ids += [IMAGE_TOKEN, *chunk]
        return torch.tensor(ids if ids[-1] == self.tokenizer.eos_token_id else [*ids, self.tokenizer.eos_token_id])


def main() -> None:
    folder, output, *tars = sys.argv[1:]
    loaded = load_vlm(folder, vision="hub")
    tower = os.path.join(folder, loaded.config.published["mm_vision_tower"])
    collate = Collator(loaded.tokenizer.hf, SiglipImageProcessorPil.from_pretrained(tower))
    pad = loaded.tokenizer.hf.pad_token_id
    os.makedirs(output)
    for tar in tars:
        dataset = (
            wds.WebDataset(tar, shardshuffle=False, empty_check=False)
            .decode("pilrgb", handler=wds.warn_and_continue)
            .rename(image="jpg;png;jpeg;webp", text="txt", json="json")
            .to_tuple("image", "text", "json")
        )
        loader = DataLoader(dataset, batch_size=BATCH, num_workers=LOADER_WORKERS, collate_fn=collate)
        rows = []
        for pixels, ids, records in loader:
            with torch.inference_mode():
                logits = loaded.model([row[row != pad] for row in ids], [image[None] for image in pixels])
            for record, score in zip(records, logits.squeeze(-1).numpy(), strict=True):
                rows.append({**record, "quality_score": score})
        name = os.path.basename(tar).removesuffix(".tar")
        pd.DataFrame(rows).to_parquet(os.path.join(output, f"{name}_quality_score.parquet"))


if __name__ == "__main__":
    main()
