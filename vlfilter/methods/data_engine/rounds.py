"""When the rounds end, told by files and numbers alone."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vlfilter.data.aokvqa import write_json
from vlfilter.data.storage import read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.methods.data_engine.evaluate import EvaluatePlaces
from vlfilter.methods.data_engine.places import DataEnginePlaces, RoundPlaces
from vlfilter.methods.data_engine.query import ALIKE, QuerySettings, read_cases
from vlfilter.methods.data_engine.sampling import deduplicate, plan_types
from vlfilter.methods.data_engine.weights import read_weights, v2_weights


class StopKind(StrEnum):
    ROUNDS = "round_limit"
    NO_GAIN = "no_gain"
    NO_BAD_CASES = "no_bad_cases"
    NOTHING_NEW = "nothing_new"
    BUDGET = "budget"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a round is the last one; `reason` is a sentence for people."""

    kind: StopKind
    reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """`patience` rounds without more than `min_gain` percentage points beyond the best before them are the last."""

    rounds: int
    patience: int | None = None
    min_gain: float = 0.0


def read_scores(places: DataEnginePlaces, number: int) -> list[float]:
    """The accuracy in percent, on the questions held out, of the models that rounds 1 to `number` began with.

    Raises `VlfilterError` for a round that was not evaluated, and where no question is held out.
    """
    return [_accuracy(EvaluatePlaces.of(places.round(one).folder).scores) for one in range(1, number + 1)]


def _accuracy(url: str) -> float:
    found = read_evaluation(url)["accuracy"]
    if found is None:
        raise VlfilterError(f"{url}: no question is held out to report by: give more questions, or a higher holdout.")
    return float(found)


def read_evaluation(url: str) -> dict[str, Any]:
    """The scores that the evaluation wrote. Raises `VlfilterError` where there are none."""
    try:
        found: dict[str, Any] = json.loads(read_bytes(url))
    except (FileNotFoundError, ValueError):
        raise VlfilterError(f"there is no evaluation {url}.") from None
    return found


def after_evaluation(scores: Sequence[float], limits: Limits) -> Stop | None:
    """`scores` are the accuracies in percent on the reporting split, of the first model and each round's since."""
    done = len(scores) - 1
    if limits.patience is not None and done >= limits.patience:
        before, since = max(scores[: -limits.patience]), max(scores[-limits.patience :])
        if since - before <= limits.min_gain:
            past = "round" if limits.patience == 1 else f"{limits.patience} rounds"
            told = f"no gain in the last {past}: {since:.1f} % of the held-out questions right, {before:.1f} % before"
            return Stop(StopKind.NO_GAIN, told)
    if done >= limits.rounds:
        return Stop(StopKind.ROUNDS, f"the limit of {limits.rounds} round{'s' * (limits.rounds != 1)} is reached")
    return None


def before_queries(bad_cases: str, weights: str, settings: QuerySettings) -> Stop | None:
    """Whether there is any type to ask about."""
    cases, _ = read_cases(bad_cases)
    if not any(cases.values()):
        return Stop(
            StopKind.NO_BAD_CASES,
            "there are no bad cases: of the questions that steer, the model answers all right. Give it harder ones",
        )
    rates = read_weights(weights)
    if settings.version == "v2":
        rng = random.Random(settings.seed)  # noqa: S311 - as build_queries draws
        cases = {kind: deduplicate(some, ALIKE, rng) for kind, some in cases.items()}
        rates = v2_weights(rates)
    try:
        plan_types(cases, rates, settings.shown)
    except VlfilterError as error:
        return Stop(StopKind.NO_BAD_CASES, str(error).rstrip("."))
    return None


def after_questions(rows: int, replies: int) -> Stop | None:
    """`rows` of the teacher's replies are left to train on."""
    if rows:
        return None
    return Stop(StopKind.NOTHING_NEW, f"none of the {replies} replies became a question that can be trained on")


def write_outcome(
    places: RoundPlaces, number: int, scores: Sequence[float], told: dict[str, Any], stop: Stop | None
) -> None:
    """The round in one file: the accuracies until its beginning, its counts, and why it is the last, if it is."""
    record = {
        "round": number,
        "reporting_accuracy": list(scores),
        **told,
        "stopped": None if stop is None else {"kind": str(stop.kind), "reason": stop.reason},
    }
    write_json(places.outcome, record)
