"""clip-retrieval 2.45 as the baseline of `clip_score`: its environment, its command, the scores in its output."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.environments import environment
from benchmarks.harness import Measured, run_program

REQUIREMENTS = Path(__file__).with_name("requirements-clip-retrieval.txt")
NAME = "clip-retrieval-2.45.0"


def run_clip_retrieval(tars: list[Path], model: Path, output: Path, workers: int) -> Measured:
    """Embed images and captions of the tars (1,000 samples each) as its documentation says."""
    names = ",".join(tar.stem for tar in tars)
    pattern = f"{tars[0].parent}/{{{names}}}.tar" if len(tars) > 1 else str(tars[0])
    command = [
        str(environment(NAME, REQUIREMENTS) / "bin" / "clip-retrieval"), "inference",
        "--input_dataset", pattern,
        "--output_folder", str(output),
        "--input_format", "webdataset",
        "--clip_model", f"hf_clip:{model}",
        "--batch_size", "64",
        "--num_prepro_workers", str(workers),
        "--enable_metadata", "True",
        "--write_batch_size", "10000",
        "--wds_number_file_per_input_file", "1000",
    ]  # fmt: skip
    measured, _ = run_program(command)
    return measured


def scores(output: Path) -> dict[str, float]:
    """Cosine by key: the dot product of its embeddings, which it normalises and rounds to half precision."""
    found: dict[str, float] = {}
    for path in sorted((output / "img_emb").glob("*.npy")):
        number = path.stem.removeprefix("img_emb_")
        images = np.load(path).astype(np.float64)
        texts = np.load(output / "text_emb" / f"text_emb_{number}.npy").astype(np.float64)
        images /= np.linalg.norm(images, axis=1, keepdims=True)
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
        keys = pq.read_table(output / "metadata" / f"metadata_{number}.parquet", columns=["image_path"])
        found.update(zip(keys["image_path"].to_pylist(), (images * texts).sum(1).tolist(), strict=True))
    return found


def exact_scores(tars: list[Path], model: Path, output: Path) -> dict[str, float]:
    """Cosine by key in float32, by clip-retrieval's own reader, preprocessing, tokenizer and model."""
    program = Path(__file__).with_name("programs") / "clip_retrieval_scores.py"
    python = str(environment(NAME, REQUIREMENTS) / "bin" / "python")
    run_program([python, str(program), f"hf_clip:{model}", str(output), *map(str, tars)])
    found: dict[str, float] = json.loads(output.read_text())
    return found
