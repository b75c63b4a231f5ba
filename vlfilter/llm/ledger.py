"""What was spent, and the budget: money is set aside before a request goes out and settled when its cost is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vlfilter.errors import VlfilterError
from vlfilter.llm.prices import NANO
from vlfilter.llm.types import Usage


class BudgetExceededError(VlfilterError):
    """The request could cost more than is left. Nothing was sent; finished answers stay in the cache."""

    def __init__(self, spent: int, reserved: int, limit: int, needed: int, ledger: str):
        self.spent_usd, self.reserved_usd = spent / NANO, reserved / NANO
        self.limit_usd, self.needed_usd = limit / NANO, needed / NANO
        super().__init__(
            f"the budget is used up: ${self.spent_usd:.4f} spent and ${self.reserved_usd:.4f} set aside for requests "
            f"under way or lost, of max_usd=${self.limit_usd:.4f}; the next request could cost up to "
            f"${self.needed_usd:.6f}. Finished answers are cached: raise max_usd and run again to go on "
            f"(ledger: {ledger})."
        )


@dataclass(frozen=True, slots=True)
class Charge:
    """What one or more answers cost, in billionths of a dollar."""

    labels: Mapping[str, str]
    model: str
    usage: Usage
    nano: int
    requests: int = 1
    batch: bool = False


@dataclass(frozen=True, slots=True)
class Spent:
    """A line of the account. `reserved_usd`: set aside for requests under way, or for those of a process that died."""

    model: str
    labels: Mapping[str, str] = field(default_factory=dict)
    batch: bool = False
    requests: int = 0
    usage: Usage = field(default_factory=Usage)
    usd: float = 0.0
    reserved_usd: float = 0.0


class Ledger(Protocol):
    """One account, safe for threads and processes.

    The limit holds for all that the ledger has ever recorded. What a process set aside and never settled stays counted
    as spent, for the vendor may have charged for it: a crash makes the budget smaller, never larger.
    """

    def reserve(self, nano: int, limit: int | None, labels: Mapping[str, str], model: str, ticket: str = "") -> str:
        """Set money aside and return the ticket (a new one, or the one given; a known one is kept as it is).

        Raises `BudgetExceededError` where spent + reserved + `nano` > `limit`.
        """
        ...

    def settle(self, ticket: str, charges: Sequence[Charge]) -> bool:
        """Give back what was set aside and record what was charged. A ticket that is not open: False, no record."""
        ...

    def spending(self) -> list[Spent]: ...
