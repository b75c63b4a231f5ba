"""A benchmark, images to ask about, tiny models, and a scripted teacher and judges: a data engine's run in small."""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import yaml

from tests.helpers import jpeg
from tests.llm.vendor import prompt_of
from vlfilter.methods.data_engine.question_types import QUESTION_TYPES

NOUNS = (
    "anchor", "balcony", "barrel", "basket", "blanket", "bottle", "bridge", "candle", "carpet", "chimney", "compass",
    "engine", "feather", "garden", "gravel", "hammer", "harbour", "kettle", "ladder", "lantern", "meadow", "mirror",
    "orchard", "pigeon", "pillow", "saddle", "thimble", "trumpet", "tunnel", "window",
)  # fmt: skip
TYPES = ("Image scene", "Attribute recognition", "Spatial relationship")
QUESTIONS, BENCHMARK_IMAGES, POOL = 24, 12, range(100, 130)


def write_files(folder: Path) -> dict[str, Any]:
    """The benchmark's 24 untyped questions about 12 images, 30 images to ask about with captions and boxes, and a base
    mixture of 8 rows: what a run is told, without models and steps."""
    pictures, pool = folder / "val2017", folder / "train2017"
    for place, numbers in ((pictures, range(BENCHMARK_IMAGES)), (pool, POOL)):
        place.mkdir(parents=True)
        for number in numbers:
            (place / f"{number:012d}.jpg").write_bytes(jpeg(number, (40, 30)))
    questions = [question(number) for number in range(QUESTIONS)]
    captions = [{"image_id": n, "id": n, "caption": f"A photo of a {NOUNS[n % len(NOUNS)]} number {n}."} for n in POOL]
    images = [{"id": n, "width": 40, "height": 30, "file_name": f"{n:012d}.jpg"} for n in POOL]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [4, 3, 20, 15]} for n in POOL]
    instances = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    base = [question(1000 + number) | {"image_id": number} for number in range(8)]
    entry = {"name": "base", "schema": "aokvqa", "data": "base.json", "images": "val2017", "sample_ratio": 3}
    files = {
        "val.json": questions,
        "captions.json": {"images": images, "annotations": captions},
        "instances.json": instances,
        "base.json": base,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "mixture.yaml").write_text(yaml.safe_dump({"datasets": [entry]}))
    return {
        "output": str(folder / "out"),
        "questions": str(folder / "val.json"),
        "images": str(pictures),
        "query": {
            "images": str(pool),
            "captions": str(folder / "captions.json"),
            "instances": str(folder / "instances.json"),
            "maxnum": 8,
            "topk": 5,
            "device": "cpu",
        },
        "train": {"mixture": str(folder / "mixture.yaml"), "preset": "data_engine_tiny"},
    }


def question(number: int) -> dict[str, Any]:
    return {
        "split": "val",
        "image_id": number % BENCHMARK_IMAGES,
        "question_id": f"q{number:04d}",
        "question": f"What is number {number}?",
        "choices": random.Random(number).sample(NOUNS, 4),
        "correct_choice_idx": number % 4,
        "direct_answers": ["thing"] * 10,
        "difficult_direct_answer": False,
        "rationales": ["It shows."],
    }


def answer(body: Any) -> str:
    """Of all three: types by the questions' numbers, a question about nouns, and the first choice in the alphabet for
    who sees the image, which is always the right one; without it nobody knows."""
    prompt = prompt_of(body)
    if "text categorization" in prompt:
        return "\n".join(
            f"{line}. ({kind.number}) {kind.name}"
            for line, number in re.findall(r"(\d+)\. What is number (\d+)\?", prompt)
            for kind in QUESTION_TYPES
            if kind.name == TYPES[int(number) % len(TYPES)]
        )
    if "high-quality" in prompt:
        return reply(prompt)
    if "you cannot see" in prompt:
        return json.dumps({"answer": "unknown"})
    choices = re.findall(r"\(([A-D])\) (\w+)", prompt)
    return json.dumps({"answer": min(choices, key=lambda choice: choice[1])[0]})


def reply(prompt: str) -> str:
    """A question in the published form; every fifth prompt is skipped."""
    state = int(hashlib.sha256(prompt.encode()).hexdigest(), 16)
    if state % 5 == 0:
        return "Skip. The image does not show enough."
    words = random.Random(state).sample(NOUNS, 10)
    choices = words[:4]
    right = min(choices)
    listed = " ".join(f"({letter}) {choice}" for letter, choice in zip("ABCD", choices, strict=True))
    return (
        f"Question: Which object stands next to {' and '.join(words[4:])}?\nChoices: {listed}\n"
        f"Answer: The answer is ({'ABCD'[choices.index(right)]}): {right}.\nExplanations: By looking at the image."
    )
