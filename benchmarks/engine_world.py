"""A small benchmark with six types of questions about handwritten digits, and data that teach four of them well.

Scenes are the demo's: scikit-learn's digits in coloured ink on textures. All questions are about the ink, each type in
words of its own; of the weak types, the gems and the drinks, the base data have a handful. Base data, images to ask
about and benchmark share no handwritten digit and no tile of a texture.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.digits import digits
from vlfilter.data.aokvqa import VqaRow, row_json, write_rows
from vlfilter.demo.captions import COLOURS, Attributes, describe
from vlfilter.demo.scenes import SIZE, Scene, Split
from vlfilter.demo.seeds import stream

CAPTIONS = 5  # of an image, as COCO has


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of question: its key among the published 18, wordings, and the answer for each colour of the ink."""

    key: str
    wordings: tuple[str, ...]
    answers: Mapping[str, str]

    def answer(self, attributes: Attributes) -> str:
        return self.answers[attributes.tone]


def _kind(key: str, wordings: tuple[str, ...], answers: Sequence[str]) -> Kind:
    return Kind(key, wordings, dict(zip(COLOURS, answers, strict=True)))


KINDS = (
    _kind("attribute_comparison", ("What has the same colour as the digit?", "The ink looks like what?"),
          ("snow", "banana", "tomato", "lettuce", "sky")),
    _kind("image_emotion", ("Which mood does the ink have?", "What does the colour make one feel?"),
          ("calm", "cheerful", "angry", "hopeful", "sad")),
    _kind("nature_relation", ("Which animal would blend in with the ink?", "Whose colour is that in nature?"),
          ("swan", "canary", "ladybird", "frog", "whale")),
    _kind("function_reasoning", ("What would a light of this colour mean?", "What is this colour good for?"),
          ("on", "ready", "stop", "go", "parking")),
    _kind("attribute_recognition", ("Which gem has this colour?", "The ink shines like what?"),
          ("pearl", "topaz", "ruby", "emerald", "sapphire")),
    _kind("future_prediction", ("Poured into a glass, what would it be?", "Which drink will it become?"),
          ("milk", "juice", "wine", "tea", "water")),
)  # fmt: skip
WEAK = ("attribute_recognition", "future_prediction")
BY_KEY = {kind.key: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Images of the benchmark, with a question of every type each; images to ask about; rows of each type in the base
    data, and rows of each weak type in them."""

    benchmark: int = 200
    pool: int = 1200
    base: int = 80
    base_weak: int = 5


@dataclass(frozen=True)
class World:
    """What is true: the attributes of every image by its id."""

    folder: Path
    seen: Mapping[int, Attributes]


def make_row(kind: Kind, attributes: Attributes, image: int, name: str, rng: random.Random) -> VqaRow:
    """A question with its answer and three others, in any order."""
    right = kind.answer(attributes)
    choices = [right, *rng.sample([other for other in kind.answers.values() if other != right], 3)]
    rng.shuffle(choices)
    return VqaRow(
        rng.choice(kind.wordings), tuple(choices), choices.index(right), name, image,
        direct_answers=(right,) * 10, rationales=("It shows.",), question_type=kind.key,
    )  # fmt: skip


def make_world(folder: Path, sizes: Sizes, seed: int) -> World:
    """Write the benchmark without types (`val.json`), what is known of the images to ask about (`captions.json`,
    `instances.json`), the base mixture (`mixture.yaml`), and the folders of images `val2017`, `train2017`, `base`."""
    rng = stream(seed, "engine rows")
    val = _images(folder / "val2017", "test", sizes.benchmark, 0, seed)
    pool = _images(folder / "train2017", "pool", sizes.pool, 100_000, seed)
    base = _images(folder / "base", "train", sizes.base, 200_000, seed)
    questions = [
        make_row(kind, told, image, f"{image}-{kind.key}", rng) for image, told in val.items() for kind in KINDS
    ]
    untyped = [row_json(row) | {"question_type": None} for row in questions]
    (folder / "val.json").write_text(json.dumps(untyped))
    write_rows(str(folder / "val_typed.json"), questions)
    for name, content in _coco(pool, rng).items():
        (folder / name).write_text(json.dumps(content))
    known = [
        make_row(kind, told, image, f"base-{image}-{kind.key}", rng)
        for kind in KINDS
        for image, told in list(base.items())[: sizes.base_weak if kind.key in WEAK else None]
    ]
    write_rows(str(folder / "base.json"), known)
    entry = {"name": "base", "schema": "aokvqa", "data": "base.json", "images": "base", "sqrt": True}
    (folder / "mixture.yaml").write_text(yaml.safe_dump({"datasets": [entry]}))
    return World(folder, val | pool | base)


def texts(scenes: Sequence[Scene], seed: int) -> list[str]:
    """A caption of each scene."""
    rng = stream(seed, "captions")
    return [describe(scene.attributes, rng) for scene in scenes]


def phrases() -> list[str]:
    """What a small tokenizer had better know whole: then sequences are short."""
    asked = [wording for kind in KINDS for wording in kind.wordings]
    return [*asked, "The answer is", *(f"({letter}) " for letter in "ABCD"), "ASSISTANT: ", "USER: "]


def words() -> list[str]:
    """All answers, for the tokenizer to learn from."""
    return [f" {answer}" for kind in KINDS for answer in kind.answers.values()]


def _images(folder: Path, split: Split, count: int, first: int, seed: int) -> dict[int, Attributes]:
    folder.mkdir(parents=True)
    found = {}
    for image, scene in enumerate(digits(split, count, seed), first):
        scene.image.save(folder / f"{image:012d}.jpg", quality=95)
        found[image] = scene.attributes
    return found


def _coco(pool: Mapping[int, Attributes], rng: random.Random) -> dict[str, Any]:
    """COCO's two files: five true captions and one box an image."""
    images = [{"id": n, "width": SIZE, "height": SIZE, "file_name": f"{n:012d}.jpg"} for n in pool]
    told = [
        {"image_id": n, "id": CAPTIONS * n + i, "caption": f"{describe(attributes, rng)}."}
        for n, attributes in pool.items()
        for i in range(CAPTIONS)
    ]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [2, 2, SIZE - 4, SIZE - 4]} for n in pool]
    kinds = [{"id": 1, "name": "digit"}]
    return {
        "captions.json": {"images": images, "annotations": told},
        "instances.json": {"images": images, "annotations": boxes, "categories": kinds},
    }
