"""A mixture of three small data sets, one of each schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.training import small
from vlfilter.training.settings import TrainSettings, train_settings


def questions(count: int) -> list[dict[str, Any]]:
    """Questions in A-OKVQA's form about the images of `small.data`."""
    return [
        {
            "question_id": f"q{i}", "image_path": f"part/{i % 8}.jpg", "question": f"What picture is number {i}?",
            "choices": ["the caption", "a picture", "a number"], "correct_choice_idx": i % 3,
            "rationales": ["It fits."],
        }
        for i in range(count)
    ]  # fmt: skip


def mixture(folder: Path) -> Path:
    """A YAML file with `chat` (16 rows, 4 without an image), `vqa` (9 rows) and `captions` (8 rows)."""
    small.data(folder, 16)
    (folder / "vqa.json").write_text(json.dumps(questions(9)))
    captions = [{"image_id": i, "image": f"part/{i}.jpg", "caption": f"picture number {i}"} for i in range(8)]
    (folder / "captions.json").write_text(json.dumps({"annotations": captions}))
    entries = [
        {"name": "chat", "schema": "llava", "data": "data.json", "images": "images", "sample_ratio": 3},
        {"name": "vqa", "schema": "aokvqa", "data": "vqa.json", "images": "images", "format": "QM-AE", "sqrt": True},
        {"name": "captions", "schema": "captions", "data": "captions.json", "images": "images", "sample_ratio": 2},
    ]
    (folder / "mixture.yaml").write_text(yaml.safe_dump({"datasets": entries}))
    return folder / "mixture.yaml"


def settings(output: Path, told: Path, model: Path, **values: Any) -> TrainSettings:
    """A training of eight steps in two epochs, with a checkpoint after every second."""
    eight = {
        "epochs": 2, "iters_per_epoch": 4, "batch_size": 8, "draws": 2, "per_device_batch": 2, "save_steps": 2,
        "warmup_steps": 2, "gradient_checkpointing": True,
    }  # fmt: skip
    own = {"mixture": str(told), "output": str(output), "model": str(model)}
    return train_settings({**own, **eight, **values}, "data_engine_tiny")
