"""An evaluation's scores in words and lines, for terminals and pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlfilter.evaluation.published import NONE

RULE_NAMES = {"fixed": "accuracy", "compat": "as published"}


def summary_line(told: Mapping[str, Any]) -> str:
    """One line: every measure over all questions, and how many have an answer."""
    parts = []
    for line in told["scores"]:
        if line["category"]:
            continue
        rules = ", ".join(f"{percent(line[rule])}{_way(rule)}" for rule in told["rules"])
        parts.append(
            f"{line['measure'].replace('_', ' ')} {rules} ({line['answered']} of {line['questions']} answered)"
        )
    if told["single"] is not None:
        parts.append(f"each rotation for itself {percent(told['single'])}")
    return f"{told['title']}: {'; '.join(parts)}"


def category_rows(told: Mapping[str, Any]) -> list[dict[str, str]]:
    """A line for each measure and category, ready to be shown."""
    return [
        {"measure": line["measure"].replace("_", " "), "category": line["category"] or "all"}
        | {"questions": str(line["questions"]), "answered": str(line["answered"])}
        | {RULE_NAMES.get(rule, rule): percent(line[rule]) for rule in told["rules"]}
        for line in told["scores"]
    ]


def percent(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f} %"


def _way(rule: str) -> str:
    return "" if rule == "fixed" else f" {RULE_NAMES.get(rule, f'by {rule}')}"
