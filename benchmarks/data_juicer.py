"""Data-Juicer 1.6 as a second baseline of `clip_score`: its `image_text_similarity_filter` by its own command."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.environments import environment
from benchmarks.harness import Measured, run_program

REQUIREMENTS = Path(__file__).with_name("requirements-data-juicer.txt")


def run_data_juicer(tars: Sequence[Path], model: Path, folder: Path, workers: int) -> tuple[Measured, dict[str, float]]:
    """Its accounts, and logits / 100 by key, which is what it calls the similarity.

    It reads no tars: they are unpacked beforehand, which is not measured.
    """
    folder.mkdir(parents=True)
    rows = [row for tar in tars for row in _unpack(tar, folder / "images")]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    operator = {"hf_clip": str(_named(model, folder / "model")), "min_score": -1e6, "max_score": 1e6}
    config = {
        "project_name": "benchmark", "dataset_path": str(folder / "data.jsonl"), "np": workers, "use_cache": False,
        "export_path": str(folder / "out" / "kept.jsonl"), "keep_stats_in_res_ds": True,
        "process": [{"image_text_similarity_filter": operator}],
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    program = environment("data-juicer-1.6.1", REQUIREMENTS) / "bin" / "dj-process"
    measured, text = run_program([str(program), "--config", str(folder / "run.yaml")])
    kept = [json.loads(line) for line in (folder / "out" / "kept.jsonl").read_text().splitlines()]
    if len(kept) != len(rows):  # it drops what fails, and goes on
        raise SystemExit(f"Data-Juicer kept {len(kept)} of {len(rows)} samples:\n{text[-3000:]}")
    return measured, {row["key"]: float(row["__dj__stats__"]["image_text_similarity"][0]) for row in kept}


def _unpack(tar: Path, images: Path) -> list[dict[str, object]]:
    images.mkdir(exist_ok=True)
    captions: dict[str, str] = {}
    with tarfile.open(tar) as file:
        for member in file:
            key, extension = member.name.split(".", 1)
            data = file.extractfile(member).read()  # type: ignore[union-attr]
            if extension == "jpg":
                (images / member.name).write_bytes(data)
            elif extension == "txt":
                captions[key] = data.decode()
    return [
        {"key": key, "text": f"{caption} <__dj__image> <|__dj__eoc|>", "images": [str(images / f"{key}.jpg")]}
        for key, caption in captions.items()
    ]


def _named(model: Path, copy: Path) -> Path:
    """The checkpoint with the name of its class in the configuration, by which Data-Juicer finds that."""
    shutil.copytree(model, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"architectures": ["CLIPModel"]}))
    return copy
