"""Which answers are wrong, and which questions may say so: the rows that steer the engine and those that report.

The published engine takes weak spots, examples, the choice of the model and the reported score from the same
questions. Here part of them, told by their image, is held out: no weight and no example comes from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlfilter.data.aokvqa import VqaRow
from vlfilter.data.storage import join
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.examples import example_text

Split = Literal["holdout", "original"]
Part = Literal["steer", "report", "both"]


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """`holdout` is the share of images that only report; `original` lets every row steer and report, as published."""

    split: Split = "holdout"
    holdout: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in ("holdout", "original"):
            raise VlfilterError(f"no split is called {self.split!r}: holdout or original.")
        if not 0 < self.holdout < 1:
            raise VlfilterError(
                f"a share of {self.holdout:g} cannot be held out: it must lie between 0 and 1. "
                "Split original lets all questions steer and report."
            )

    def part(self, row: VqaRow) -> Part:
        """Which part a question belongs to: all that are about one image to the same, in any order of the file."""
        if self.split == "original":
            return "both"
        image = row.image_id if row.image_id is not None else row.image_path
        name = f"{self.seed}\0{row.question_id if image is None else image}"
        place = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        return "report" if place < self.holdout * 2**64 else "steer"

    def parts(self) -> dict[str, Any]:
        """For fingerprints."""
        return {"split": self.split} | ({} if self.split == "original" else {"of": self.holdout, "seed": self.seed})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model made of a question. `answer` is the text of its choice, None where there is none."""

    row: VqaRow
    part: Part
    answer: str | None

    @property
    def wrong(self) -> bool:
        """Whether there is an answer, and another text than the right choice's (as published, to the letter)."""
        return self.answer is not None and self.answer != self.row.correct_choice

    @property
    def steers(self) -> bool:
        return self.part != "report"

    @property
    def reports(self) -> bool:
        return self.part != "steer"


def published_order(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """By question id, the order of the published files."""
    return sorted(outcomes, key=lambda outcome: outcome.row.question_id)


def eval_row(outcome: Outcome, image_root: str) -> dict[str, Any]:
    """A row of `aokvqa_eval.json`. `image_root` is the folder written before a COCO image's name where the question
    has no path; rows of a held-out split say in `part` whether they `steer` or `report`."""
    row, kind = outcome.row, outcome.row.question_type
    path = row.image_path
    if path is None and row.file_name:
        path = join(image_root, row.file_name) if isinstance(row.image_id, int) and image_root else row.file_name
    prompt = row.extra.get("prompt") or (example_text(row, kind) if kind else None)
    told = {
        "image_id": row.image_id,
        "image_path": path,
        "idx": row.question_id,
        "question": row.question,
        "choices": list(row.choices),
        "correct_choice_idx": row.correct_choice_idx,
        "direct_answers": list(row.direct_answers),
        "difficult_direct_answer": row.difficult_direct_answer,
        "model_answer": outcome.answer,
        "question_type": kind,
        "prompt": prompt,
        "part": None if outcome.part == "both" else outcome.part,
    }
    return {name: value for name, value in told.items() if value is not None}


def eval_rows(outcomes: Sequence[Outcome], image_root: str) -> list[dict[str, Any]]:
    """All answered questions, as `aokvqa_eval.json` lists them."""
    return [eval_row(outcome, image_root) for outcome in published_order(outcomes) if outcome.answer is not None]


def bad_cases(outcomes: Sequence[Outcome], image_root: str) -> dict[str, list[dict[str, Any]]]:
    """The wrongly answered questions that steer, by type. Every type that the questions have is there, if only with an
    empty list; questions without a type are in none."""
    found: dict[str, list[dict[str, Any]]] = {}
    for outcome in published_order(outcomes):
        if kind := outcome.row.question_type:
            cases = found.setdefault(kind, [])
            if outcome.steers and outcome.wrong:
                cases.append(eval_row(outcome, image_root))
    return found


def steering(outcomes: Sequence[Outcome]) -> list[tuple[str, bool]]:
    """(type, whether it is wrong) of every answered question that steers and has a type, for `error_rates`."""
    return [
        (outcome.row.question_type, outcome.wrong)
        for outcome in published_order(outcomes)
        if outcome.row.question_type and outcome.steers and outcome.answer is not None
    ]


def type_table(
    outcomes: Sequence[Outcome], weights: Mapping[str, float], weights_v2: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One entry a type, weakest first: its questions, those without an answer, the answers that steer and how many of
    them are wrong, its weights (None: nothing steers), and the reporting questions with their accuracy in percent,
    where no answer counts as wrong. Questions without a type come under ""."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in published_order(outcomes):
        groups.setdefault(outcome.row.question_type or "", []).append(outcome)
    entries = []
    for kind, members in groups.items():
        reporting = [one for one in members if one.reports]
        right = sum(one.answer == one.row.correct_choice for one in reporting)
        answered = [one for one in members if one.steers and one.answer is not None]
        entries.append(
            {
                "type": kind,
                "questions": len(members),
                "unanswered": sum(one.answer is None for one in members),
                "steering": len(answered),
                "wrong": sum(one.wrong for one in answered),
                "weight": weights.get(kind),
                "weight_v2": weights_v2.get(kind),
                "reporting": len(reporting),
                "accuracy": round(100 * right / len(reporting), 2) if reporting else None,
            }
        )
    return sorted(entries, key=lambda entry: (-(entry["weight"] if entry["weight"] is not None else -1), entry["type"]))
