"""From marks to scores: units that count as one, measures, categories, all rules beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlfilter.evaluation.benchmarks.base import Question
from vlfilter.evaluation.vqa import percent


@dataclass(frozen=True, slots=True)
class Marked:
    """A question with its marks by rule, each from 0 to 1; without a truth there are none. An unanswered one has 0."""

    question: Question
    answered: bool
    marks: Mapping[str, float]


def score_table(marked: Sequence[Marked], rules: Sequence[str]) -> list[dict[str, Any]]:
    """For each measure a line of all its questions (category ""), then one a category, in order of appearance.

    `questions` counts units, `answered` those whose questions all have an answer; each rule's score is in percent over
    all units, unanswered ones being wrong, and None where no right answers are known.
    """
    lines = []
    for measure in dict.fromkeys(one.question.measure for one in marked):
        part = [one for one in marked if one.question.measure == measure]
        kinds = [kind for kind in dict.fromkeys(one.question.category for one in part) if kind]
        groups = {"": part} | {kind: [one for one in part if one.question.category == kind] for kind in kinds}
        lines += [{"measure": measure, "category": kind} | _line(group, rules) for kind, group in groups.items()]
    return lines


def single_accuracy(marked: Sequence[Marked]) -> float | None:
    """In percent, by the house's rule, every question for itself; None where units are single questions anyway."""
    known = [one for one in marked if one.marks]
    if not known or all(not one.question.unit for one in marked):
        return None
    return percent(one.marks["fixed"] for one in known)


def _line(part: Sequence[Marked], rules: Sequence[str]) -> dict[str, Any]:
    units: dict[str, list[Marked]] = {}
    for one in part:
        units.setdefault(one.question.unit or f"/{one.question.item.key}", []).append(one)
    scored = [unit for unit in units.values() if all(one.marks for one in unit)]
    return {
        "questions": len(units),
        "answered": sum(all(one.answered for one in unit) for unit in units.values()),
        **{rule: _percent(min(one.marks[rule] for one in unit) for unit in scored) for rule in rules},
    }


def _percent(marks: Iterable[float]) -> float | None:
    listed = list(marks)
    return percent(listed) if listed else None
