"""Limits that all workers share: how fast the vendors' APIs are asked (tasks/judge.py keeps to them)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
from prefect.exceptions import ObjectNotFound


@dataclass(frozen=True)
class Rate:
    """`at_once` may go out in one moment (tokens: at least what one request takes), `a_minute` in the long run."""

    at_once: int
    a_minute: int

    @property
    def decay(self) -> float:
        """Slots that become free again in a second."""
        return round(self.a_minute / 60, 3)


# What an account's first paid tier allows; raise it to what yours does.
LIMITS = {
    "judge-requests-openai": Rate(10, 500),
    "judge-tokens-openai": Rate(30_000, 200_000),
    "judge-requests-anthropic": Rate(5, 50),
    "judge-tokens-anthropic": Rate(30_000, 50_000),
}


def apply_limits(client: SyncPrefectClient) -> Iterator[str]:
    """Make or update the limits; tells what changed. Whether one is switched on stays as it is."""
    for name, rate in LIMITS.items():
        try:
            found = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            made = GlobalConcurrencyLimitCreate(name=name, limit=rate.at_once, slot_decay_per_second=rate.decay)
            client.create_global_concurrency_limit(made)
            yield f"limit {name}: created"
            continue
        if (found.limit, found.slot_decay_per_second) != (rate.at_once, rate.decay):
            changed = GlobalConcurrencyLimitUpdate(limit=rate.at_once, slot_decay_per_second=rate.decay)
            client.update_global_concurrency_limit(name, changed)
            yield f"limit {name}: updated"
