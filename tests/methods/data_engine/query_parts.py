"""The published fixtures of step 2, written to files as its inputs, and small bad cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from vlfilter.data.aokvqa import VqaRow
from vlfilter.methods.data_engine.anchors import Around, anchor_name, neighbours
from vlfilter.methods.data_engine.image_info import FactBook, read_coco
from vlfilter.methods.data_engine.query import read_cases
from vlfilter.retrieval.index import ImageIndex, index_of

STEP2 = Path(__file__).parent.parent.parent / "fixtures" / "data_engine" / "step2"


def load(name: str) -> Any:
    return json.loads((STEP2 / name).read_text())


def write_inputs(folder: Path) -> dict[str, str]:
    """The mini COCO's files, bad cases and weights, as separate files like the published ones; paths by name."""
    inputs = load("inputs.json")
    names = {
        "captions": "coco_captions_train2017",
        "instances": "coco_instances_train2017",
        "bad_cases": "bad_case_pool",
        "weights": "weights",
    }
    for name, key in names.items():
        (folder / f"{name}.json").write_text(json.dumps(inputs[key]))
    return {name: str(folder / f"{name}.json") for name in names}


def published(folder: Path) -> tuple[dict[str, list[VqaRow]], ImageIndex, FactBook, Around]:
    """Bad cases, the 40 images' index, their facts, and the 12 nearest of each anchor."""
    paths = write_inputs(folder)
    cases, bad = read_cases(paths["bad_cases"])
    assert bad == []
    with np.load(STEP2 / "embeddings.npz") as file:
        index = index_of(file["image_ids"].tolist(), file["image_embeds"])
        vectors = dict(zip(file["anchor_image_ids"].tolist(), file["anchor_features"], strict=True))
    anchors = {anchor_name(row): vectors[row.image_id] for rows in cases.values() for row in rows}
    return cases, index, read_coco(paths["captions"], paths["instances"]), neighbours(anchors, index, 12)


def row(number: int, kind: str = "image_scene", question: str = "") -> VqaRow:
    return VqaRow(
        question or f"What about {number}?", ("a", "b", "c", "d"), number % 4, f"q{number}", number, question_type=kind
    )
