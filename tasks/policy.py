"""How the methods' tasks are tried again and what of them Prefect keeps: nothing."""

from __future__ import annotations

import random
from typing import Any

from prefect.cache_policies import NO_CACHE

from vlfilter.errors import StorageError


def _worth_another_try(_task: Any, _run: Any, state: Any) -> bool:
    return isinstance(state.data, StorageError)


def _delays(retries: int) -> list[float]:
    return [random.uniform(0.5, 1.5) * 2 ** (attempt + 1) for attempt in range(retries)]  # noqa: S311 - only jitter


# A step's file and receipt are the proof that it is done; Prefect's cache would be a second truth.
ONCE: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
RETRIED: dict[str, Any] = ONCE | {
    "retries": 2,
    "retry_delay_seconds": _delays,
    "retry_condition_fn": _worth_another_try,
}
