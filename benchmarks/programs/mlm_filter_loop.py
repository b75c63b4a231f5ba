"""Plain scoring loops as MLM-Filter's published script (v2) runs them: a pass over all tars for each of four metrics.

webdataset, one DataLoader a tar, batches of 8; transformers' slow processor; prompts tokenised one by one and padded to
the left; two tokens by transformers' generate; rows collected in pandas, one Parquet a tar and metric. Unlike the
script it masks its padding, so that its answers can be compared. Written for this comparison. The last line is the
time of all four passes, as JSON.
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
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, SiglipVisionModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from vlfilter.models.conversation import TEMPLATES
from vlfilter.scoring.mlm_filter_prompts import METRICS, instruction

BATCH, LOADER_WORKERS, MAX_IDS, NEW_TOKENS = 8, 4, 2040, 2  # the script's defaults
IMAGE = -200
PROJECTOR = "model.mm_projector.mlp_projector."


class Model(nn.Module):
    """SigLIP, an average-pooling projector of two layers and Qwen2 with its head, from a published checkpoint."""

    def __init__(self, folder: Path):
        super().__init__()
        fields = json.loads((folder / "config.json").read_text())
        config = Qwen2Config.from_dict({**fields, "model_type": "qwen2"})
        weights = load_file(folder / "model.safetensors")
        self.side = int(fields["mm_num_image_tokens"] ** 0.5)
        self.layer = int(fields["mm_vision_select_layer"])
        self.tower = SiglipVisionModel.from_pretrained(folder / fields["mm_vision_tower"])
        width, hidden = self.tower.config.hidden_size, config.hidden_size
        self.projector = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.projector.load_state_dict(
            {name.removeprefix(PROJECTOR): tensor for name, tensor in weights.items() if name.startswith(PROJECTOR)}
        )
        self.language = Qwen2ForCausalLM(config)
        outside = ("model.mm_projector.", "model.vision_tower.")
        self.language.load_state_dict(
            {name: tensor for name, tensor in weights.items() if not name.startswith(outside)}
        )

    def answer(self, ids: list[Tensor], pixels: Tensor, pad: int) -> Tensor:
        features = self.tower(pixels, output_hidden_states=True).hidden_states[self.layer]
        count, patches, width = features.shape
        grid = features.transpose(1, 2).reshape(count, width, int(patches**0.5), int(patches**0.5))
        pooled = nn.functional.adaptive_avg_pool2d(grid, self.side)
        images = self.projector(pooled.flatten(2).transpose(1, 2))
        rows = []
        for row, image in zip(ids, images, strict=True):
            place = int((row == IMAGE).nonzero()[0])
            words = self.language.model.embed_tokens(torch.cat([row[:place], row[place + 1 :]]))
            rows.append(torch.cat([words[:place], image, words[place:]]))
        longest = max(len(row) for row in rows)
        padded = torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
        mask = torch.stack([torch.arange(longest, device=padded.device) >= longest - len(row) for row in rows]).long()
        chosen: Tensor = self.language.generate(
            inputs_embeds=padded, attention_mask=mask, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=pad
        )
        return chosen


class Collator:
    def __init__(self, tokenizer: Any, processor: Any, metric: str):
        self.tokenizer = tokenizer
        self.processor = processor
        self.metric = metric

    def __call__(self, samples: list[tuple[Any, str, dict[str, Any]]]) -> tuple[Tensor, list[Tensor], list[Any]]:
        images = [self.processor(image, return_tensors="pt")["pixel_values"] for image, _, _ in samples]
        rows = [self._ids(caption) for _, caption, _ in samples]
        return torch.cat(images), rows, [record for _, _, record in samples]

    def _ids(self, caption: str) -> Tensor:
        prompt = TEMPLATES["qwen_instruct"].prompt("<image>\n" + instruction(self.metric, caption, 2))
        chunks = [self.tokenizer(chunk, add_special_tokens=False).input_ids for chunk in prompt.split("<image>")]
        ids = chunks[0]
        for chunk in chunks[1:]:
            ids += [IMAGE, *chunk]
        blank = self.tokenizer(" ", add_special_tokens=False).input_ids[-1]
        return torch.tensor([*ids[:MAX_IDS], blank])


def main() -> None:
    folder, output, *tars = sys.argv[1:]
    device = os.environ.get("BENCHMARK_DEVICE", "cpu")
    dtype = getattr(torch, os.environ.get("BENCHMARK_DTYPE", "float32"))
    model = Model(Path(folder)).eval().to(device, dtype)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tower = json.loads((Path(folder) / "config.json").read_text())["mm_vision_tower"]
    processor = SiglipImageProcessorPil.from_pretrained(os.path.join(folder, tower))
    os.makedirs(output)
    samples, started = 0, time.perf_counter()
    for metric in METRICS:
        collate = Collator(tokenizer, processor, metric)
        for tar in tars:
            dataset = (
                wds.WebDataset(tar, shardshuffle=False, empty_check=False)
                .decode("pilrgb")
                .rename(image="jpg;png;jpeg;webp", text="txt", json="json")
                .to_tuple("image", "text", "json")
            )
            rows = []
            for pixels, ids, records in DataLoader(
                dataset, batch_size=BATCH, num_workers=LOADER_WORKERS, collate_fn=collate
            ):
                with torch.inference_mode():
                    chosen = model.answer(
                        [row.to(device) for row in ids], pixels.to(device, dtype), tokenizer.pad_token_id
                    )
                texts = tokenizer.batch_decode(chosen, skip_special_tokens=True)
                rows += [{**record, f"{metric}_score": text} for record, text in zip(records, texts, strict=True)]
            samples += len(rows) if metric == METRICS[0] else 0
            name = os.path.basename(tar).removesuffix(".tar")
            pd.DataFrame(rows).to_parquet(os.path.join(output, f"{name}_{metric}.parquet"))
    print(json.dumps({"samples": samples, "seconds": round(time.perf_counter() - started, 3)}))


if __name__ == "__main__":
    main()
