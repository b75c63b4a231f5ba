"""How often each type of question is asked about: more, the worse the model answers it.

Version 1 weighs a type by its error rate (MLLM-DataEngine, `weight.json`), the later paper by the error rate's square
root ("Adaptive Bad-case Sampling"), which is less extreme.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from vlfilter.data.storage import read_bytes
from vlfilter.errors import VlfilterError

DECIMALS = 3  # of the published file


def error_rates(outcomes: Iterable[tuple[str, bool]]) -> dict[str, float]:
    """Wrong answers / answers of each type, as `weight.json` holds them, from (type, whether the answer is wrong)."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for kind, wrong in outcomes:
        counts[kind][0] += wrong
        counts[kind][1] += 1
    return {kind: round(wrong / answers, DECIMALS) for kind, (wrong, answers) in counts.items()}


def read_weights(url: str) -> dict[str, float]:
    """Error rate by type, as step 1 writes it. Raises `VlfilterError` when the file is missing or holds anything else
    than numbers from 0 to 1."""
    try:
        loaded = json.loads(read_bytes(url))
    except FileNotFoundError:
        raise VlfilterError(f"there is no file {url}.") from None
    except (ValueError, RecursionError) as error:
        raise VlfilterError(f"{url} is not a JSON file: {error}") from None
    if not isinstance(loaded, dict):
        raise VlfilterError(f"{url} should hold an object from question type to weight.")
    for kind, weight in loaded.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise VlfilterError(f"{url}: the weight of {kind} is {weight!r}, not a number from 0 to 1.")
    return {kind: float(weight) for kind, weight in loaded.items()}


def v2_weights(error_rates: Mapping[str, float]) -> dict[str, float]:
    """√(1 − accuracy) of each type, from 1 − accuracy."""
    return {kind: math.sqrt(rate) for kind, rate in error_rates.items()}


def probabilities(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights as shares of one. Raises `VlfilterError` when they are all zero."""
    total = sum(weights.values())
    if total <= 0:
        raise VlfilterError("the weights of all types are zero: there is nothing to ask about.")
    return {kind: weight / total for kind, weight in weights.items()}
