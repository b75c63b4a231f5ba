"""The benchmarks' published files, written from the fixtures, and the fixtures' scripted answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.methods.data_engine.fixtures import COPIED, copied
from vlfilter.evaluation.benchmarks import find_benchmark
from vlfilter.evaluation.benchmarks.base import Answered, Answers, Mode, Reading, Source

TABLE = COPIED / "v2" / "mmbench_input.tsv"


def fixture(name: str) -> Any:
    return copied(f"v2/eval_{name}.json")


def lines(rows: Sequence[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _okvqa(folder: Path) -> Path:
    told = fixture("okvqa")
    (folder / "okvqa_test_split.json").write_text(json.dumps(told["test_split"]))
    (folder / "mscoco_val2014_annotations_clean.json").write_text(json.dumps(told["annotations"]))
    return folder


def _vizwiz(folder: Path) -> Path:
    (folder / "val.json").write_text(json.dumps(fixture("vizwiz")["val"]))
    return folder


def _vsr(folder: Path) -> Path:
    (folder / "test.jsonl").write_text(lines(fixture("vsr")["annotation"]))
    return folder


def _seed(folder: Path) -> Path:
    told = fixture("seed")
    (folder / "seed-bench-image.jsonl").write_text(lines(told["seed_jsonl"]))
    (folder / "SEED-Bench-image.json").write_text(json.dumps(told["annotation"]))
    return folder


WRITERS: Mapping[str, Callable[[Path], Path]] = {
    "okvqa": _okvqa,
    "vizwiz": _vizwiz,
    "vsr": _vsr,
    "seed": _seed,
    "mmbench": lambda folder: TABLE,
}


def published(name: str, folder: Path) -> str:
    """The benchmark's files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return str(WRITERS[name](folder))


def read(name: str, folder: Path, mode: Mode = "compat") -> Reading:
    return find_benchmark(name).read(Source(published(name, folder), mode=mode))


def scripted(name: str, reading: Reading) -> list[Answered]:
    """The fixture's answer to each question: by a part of it, by number, or in order."""
    told = fixture(name)["scripted_answers"]
    if isinstance(told, list):
        return [Answered(question, text) for question, text in zip(reading.questions, told, strict=True)]
    found = []
    for question in reading.questions:
        key = question.item.key
        told_of = [text for part, text in told.items() if part == key or part in question.item.message]
        assert len(told_of) == 1, question.item.message
        found.append(Answered(question, told_of[0]))
    return found


def files(name: str, answered: Sequence[Answered], mode: Mode = "compat") -> dict[str, bytes]:
    return find_benchmark(name).files(Answers(answered, mode, "minigpt4-v2"))
