"""A plain scoring loop as UniFilter's published script runs it: webdataset, one DataLoader a tar, batches of 16.

Images are decoded by webdataset, resized and normalised by transformers' slow processor; captions tokenised one by one,
padded to the right and cut to 75 columns; the model is made of transformers' own parts; rows are collected in pandas,
one Parquet a tar. Written for this comparison. The last line is the time of the loop, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import webdataset as wds
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model, SiglipVisionModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

BATCH, COLUMNS, LOADER_WORKERS = 16, 75, 4  # the script's defaults
IMAGE = -200
PROJECTOR = "model.mm_projector.mlp_projector."


class Classifier(nn.Module):
    """SigLIP, an average-pooling projector of two layers, Qwen2 and a linear head, from a published checkpoint."""

    def __init__(self, folder: Path):
        super().__init__()
        fields = json.loads((folder / "config.json").read_text())
        config = Qwen2Config.from_dict({**fields, "model_type": "qwen2"})
        weights = load_file(folder / "model.safetensors")
        self.pad = int(config.pad_token_id)
        self.longest = int(fields["tokenizer_model_max_length"])
        self.side = int(fields["mm_num_image_tokens"] ** 0.5)
        self.tower = SiglipVisionModel.from_pretrained(folder / fields["mm_vision_tower"])
        width, hidden = self.tower.config.hidden_size, config.hidden_size
        self.projector = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.projector.load_state_dict(
            {name.removeprefix(PROJECTOR): tensor for name, tensor in weights.items() if name.startswith(PROJECTOR)}
        )
        self.body = Qwen2Model(config)
        parts = ("model.embed_tokens.", "model.layers.", "model.norm.")
        self.body.load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in weights.items() if name.startswith(parts)}
        )
        self.score = nn.Linear(hidden, len(weights["score.weight"]), bias=False)
        self.score.weight.data.copy_(weights["score.weight"])

    def forward(self, ids: Tensor, mask: Tensor, pixels: Tensor) -> Tensor:
        images = self._project(self.tower(pixels, output_hidden_states=True).hidden_states[-1])
        rows = []
        for row, kept, image in zip(ids, mask, images, strict=True):
            row = row[kept]
            place = int((row == IMAGE).nonzero()[0])
            words = self.body.embed_tokens(torch.cat([row[:place], row[place + 1 :]]))
            rows.append(torch.cat([words[:place], image, words[place:]])[: self.longest])
        lengths = torch.tensor([len(row) for row in rows])
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        attended = (torch.arange(padded.shape[1]) < lengths[:, None]).to(padded.device)
        states = self.body(inputs_embeds=padded, attention_mask=attended).last_hidden_state
        logits: Tensor = self.score(states)[torch.arange(len(rows)), lengths - 1]
        return logits

    def _project(self, features: Tensor) -> Tensor:
        count, patches, width = features.shape
        grid = features.transpose(1, 2).reshape(count, width, int(patches**0.5), int(patches**0.5))
        pooled = nn.functional.adaptive_avg_pool2d(grid, self.side)
        projected: Tensor = self.projector(pooled.flatten(2).transpose(1, 2))
        return projected


class Collator:
    def __init__(self, tokenizer: Any, processor: Any):
        self.tokenizer = tokenizer
        self.processor = processor

    def __call__(self, samples: list[tuple[Any, str, dict[str, Any]]]) -> tuple[Tensor, Tensor, list[dict[str, Any]]]:
        images = [self.processor(image, return_tensors="pt")["pixel_values"] for image, _, _ in samples]
        rows = [self._ids("<image>\n" + caption.replace("<image>", "image")) for _, caption, _ in samples]
        padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        return torch.cat(images), padded[:, :COLUMNS], [record for _, _, record in samples]

    def _ids(self, text: str) -> Tensor:
        chunks = [self.tokenizer(chunk, add_special_tokens=False).input_ids for chunk in text.split("<image>")]
        ids = [self.tokenizer.bos_token_id, *chunks[0]]
        for chunk in chunks[1:]:
            ids += [IMAGE, *chunk]
        return torch.tensor(ids if ids[-1] == self.tokenizer.eos_token_id else [*ids, self.tokenizer.eos_token_id])


def main() -> None:
    folder, output, *tars = sys.argv[1:]
    device = os.environ.get("BENCHMARK_DEVICE", "cpu")
    dtype = getattr(torch, os.environ.get("BENCHMARK_DTYPE", "float32"))
    model = Classifier(Path(folder)).eval().to(device, dtype)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tower = json.loads((Path(folder) / "config.json").read_text())["mm_vision_tower"]
    collate = Collator(tokenizer, SiglipImageProcessorPil.from_pretrained(os.path.join(folder, tower)))
    os.makedirs(output)
    samples, started = 0, time.perf_counter()
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
                ids = ids.to(device)
                logits = model(ids, ids != model.pad, pixels.to(device, dtype)).float().cpu()
            for record, score in zip(records, logits.squeeze(-1).numpy(), strict=True):
                rows.append({**record, "quality_score": score})
        samples += len(rows)
        name = os.path.basename(tar).removesuffix(".tar")
        pd.DataFrame(rows).to_parquet(os.path.join(output, f"{name}_quality_score.parquet"))
    print(json.dumps({"samples": samples, "seconds": round(time.perf_counter() - started, 3)}))


if __name__ == "__main__":
    main()
