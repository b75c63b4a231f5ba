"""Handwritten digits in three of MiniGPT-v2's data formats, and held-out questions in three benchmarks' formats.

Scenes are the demo's: scikit-learn's digits in coloured ink on textures. Training and test share no handwritten digit
and no tile of a texture.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.digits import digits
from vlfilter.data.schemas.engine import DIRECTLY
from vlfilter.demo.captions import BACKGROUNDS, COLOURS, DIGITS, Attributes
from vlfilter.demo.scenes import Split
from vlfilter.demo.seeds import stream
from vlfilter.evaluation.benchmarks.base import Benchmark, Source
from vlfilter.evaluation.benchmarks.okvqa import ASKED
from vlfilter.evaluation.benchmarks.vsr import ASKED as JUDGED

LETTERS = "ABCD"
DISSENT = 2  # of ten people, so many say something else


@dataclass(frozen=True, slots=True)
class Kind:
    """What is asked of an image: a question about one attribute, and the answers there are."""

    name: str
    about: str
    question: str
    answers: tuple[str, ...]


KINDS = (
    Kind("colour", "tone", "which colour has the digit?", COLOURS),
    Kind("ground", "background", "what is it written on?", tuple(BACKGROUNDS)),
    Kind("digit", "label", "which digit is it?", DIGITS),
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Images; every one is asked about once in each format."""

    train: int = 1500
    test: int = 300


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of one kind about an image, its answer, what else was to choose from, and a statement on it."""

    image: int
    kind: Kind
    answer: str
    options: tuple[str, ...]
    statement: str
    true: bool


def make_world(folder: Path, sizes: Sizes, seed: int) -> None:
    """Write `mixture.yaml` with its three data sets below `train`, and the benchmarks' files below `test`."""
    rng = stream(seed, "minigpt rows")
    train = _questions(_images(folder / "train" / "images", "train", sizes.train, seed), rng)
    test = _questions(_images(folder / "test" / "images", "test", sizes.test, seed), rng)
    _training(folder, train, rng)
    _benchmarks(folder / "test", test)


def phrases() -> list[str]:
    """What a small tokenizer had better know whole: then sequences are short."""
    asked = [*(kind.question for kind in KINDS), ASKED, JUDGED, DIRECTLY]
    return [*asked, "[vqa] ", "[INST] ", "[/INST]", "<Img>", "</Img> ", *(f"{letter}. " for letter in LETTERS)]


def words() -> list[str]:
    """All answers and statements, for the tokenizer to learn from."""
    told = [answer for kind in KINDS for answer in kind.answers]
    return [*(_statement(kind, answer) for kind in KINDS for answer in kind.answers), *told, "true", "false"]


def constant(benchmark: Benchmark, source: Source) -> float:
    """Percent that the best constant answer reaches, another one for each category of questions: the majority's."""
    groups: dict[str, list[Any]] = {}
    for question in benchmark.read(source).questions:
        groups.setdefault(question.category, []).append(question)
    marks, count = 0.0, 0
    for group in groups.values():
        said = {text for question in group for text in question.truth}
        marks += max(sum(benchmark.mark(question, text, "fixed") for question in group) for text in said)
        count += len(group)
    return 100 * marks / count


def _images(folder: Path, split: Split, count: int, seed: int) -> list[tuple[int, Attributes]]:
    folder.mkdir(parents=True)
    found = []
    for number, scene in enumerate(digits(split, count, seed)):
        scene.image.save(folder / f"COCO_val2014_{number:012d}.jpg", quality=95)
        found.append((number, scene.attributes))
    return found


def _questions(images: Sequence[tuple[int, Attributes]], rng: random.Random) -> list[Asked]:
    return [asked for number, told in images for asked in _about(number, told, rng)]


def _about(number: int, told: Attributes, rng: random.Random) -> Iterator[Asked]:
    for kind in KINDS:
        answer, true = str(getattr(told, kind.about)), rng.random() < 0.5
        others = [other for other in kind.answers if other != answer]
        options = [answer, *rng.sample(others, len(LETTERS) - 1)]
        rng.shuffle(options)
        said = answer if true else rng.choice(others)
        yield Asked(number, kind, answer, tuple(options), _statement(kind, said), true)


def _statement(kind: Kind, answer: str) -> str:
    return {"colour": f"the digit is {answer}", "ground": f"it is written on {answer}"}.get(
        kind.name, f"it is the digit {answer}"
    )


def _training(folder: Path, rows: Sequence[Asked], rng: random.Random) -> None:
    """Questions with ten answers (VQAv2's form), with an option's letter and with words (both the engine's)."""
    files: dict[str, list[dict[str, Any]]] = {"vqa": [], "engine_mc": [], "engine_da": []}
    for place, row in enumerate(rows):
        image, others = f"COCO_val2014_{row.image:012d}.jpg", [a for a in row.kind.answers if a != row.answer]
        answers = [row.answer] * (10 - DISSENT) + rng.choices(others, k=DISSENT)
        shown = {"image": image, "instruction": row.kind.question, "answer": row.answer}
        letter = LETTERS[row.options.index(row.answer)]
        files["vqa"].append({"question_id": place, "image": image, "question": row.kind.question, "answer": answers})
        files["engine_mc"].append(shown | {"options": list(row.options), "choice_answer": letter})
        judged = {"instruction": JUDGED + row.statement, "answer": "true" if row.true else "false"}
        files["engine_da"].append({"image": image} | judged)
    entries = []
    for name, written in files.items():
        (folder / "train" / f"{name}.json").write_text(json.dumps(written))
        ratio = 2 if name == "engine_mc" else 1
        entry = {"name": name, "schema": name, "data": f"train/{name}.json", "images": "train/images"}
        entries.append(entry | {"sample_ratio": ratio, "batch_size": 24})
    (folder / "mixture.yaml").write_text(yaml.safe_dump({"datasets": entries}))


def _benchmarks(folder: Path, rows: Sequence[Asked]) -> None:
    """SEED-Bench's annotations, OK-VQA's questions and annotations, VSR's lines."""
    types = {kind.name: number for number, kind in enumerate(KINDS, 1)}
    seed, asked, known, judged = [], [], [], []
    for place, row in enumerate(rows):
        image = f"COCO_val2014_{row.image:012d}.jpg"
        options = {f"choice_{letter.lower()}": option for letter, option in zip(LETTERS, row.options, strict=True)}
        letter = LETTERS[row.options.index(row.answer)]
        seed.append(
            {"question_id": place, "question": row.kind.question, "data_id": image, "data_type": "image", **options,
             "answer": letter, "question_type_id": types[row.kind.name]}
        )  # fmt: skip
        asked.append({"question_id": place, "image_id": row.image, "question": row.kind.question})
        people = [{"answer_id": i, "answer": row.answer} for i in range(10)]
        known.append({"question_id": place, "question_type": row.kind.name, "answers": people})
        judged.append({"image": image, "caption": row.statement, "label": int(row.true), "relation": row.kind.name})
    lines = "".join(json.dumps(line) + "\n" for line in judged)
    files = {
        "SEED-Bench.json": {"question_type": types, "questions": seed},
        "okvqa_test_split.json": asked,
        "mscoco_val2014_annotations_clean.json": {"annotations": known},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "test.jsonl").write_text(lines)
