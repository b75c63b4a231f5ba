"""The numbers that MLLM-DataEngine publishes of MiniGPT-v2 (published.json, with sources), beside ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

NONE = "–"


@cache
def published() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(files("vlfilter.evaluation").joinpath("published.json").read_text("utf-8"))
    return found


def headline(told: Mapping[str, Any], rule: str) -> float | None:
    """A benchmark's first score over all questions; by the house's rule where there is no such `rule`."""
    line: Mapping[str, Any] = told["scores"][0]
    value: float | None = line.get(rule, line["fixed"])
    return value


def comparison(told: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """A line for each published model, then this run's by the published rules and by the house's; a column for each
    benchmark of the run. Where the published scripts leave scoring to a server, both lines are the house's."""
    names = [str(one["benchmark"]) for one in told]
    lines = [
        {"model": model["name"], "added rows": model["added"]}
        | {name: _shown(model["scores"].get(name)) for name in names}
        | {"source": model["source"]}
        for model in published()["models"]
    ]
    who = ", ".join(dict.fromkeys(str(one["model"]) for one in told))
    for rule, way in (("compat", "scored as published"), ("fixed", "scored by the house's rules")):
        scores = {str(one["benchmark"]): _shown(headline(one, rule)) for one in told}
        lines.append({"model": f"{who}, {way}", "added rows": ""} | scores | {"source": "this run"})
    return lines


def published_categories(benchmark: str) -> Sequence[Mapping[str, Any]]:
    """Published scores by category: `name`, `source`, `scores`; of SEED-Bench only."""
    found: Sequence[Mapping[str, Any]] = published()["categories"].get(benchmark, [])
    return found


def _shown(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"
