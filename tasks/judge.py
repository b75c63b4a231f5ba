"""The judge in a deployment: keys from Secret blocks, limits shared by all workers, the account as an artifact, and an
event where the budget is used up."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prefect import get_run_logger, runtime
from prefect.artifacts import create_table_artifact
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError, rate_limit
from prefect.events import emit_event
from prefect.exceptions import MissingContextError, ObjectNotFound
from prefect.logging import get_logger

from tasks.artifacts import MAX_ROWS
from vlfilter.llm.client import BudgetExceededError, Judge, JudgeSettings
from vlfilter.llm.keys import VARIABLES, ModelName
from vlfilter.llm.ledger import Spent
from vlfilter.llm.limits import Limiter, LocalLimiter

OVER_BUDGET = "vlfilter.budget.exceeded"  # the event; deployments/automations.py acts on it


@contextmanager
def paid_judge(settings: JudgeSettings, account: str = "judge-spending") -> Iterator[Judge]:
    """A judge whose account becomes the artifact `account`, however the task ends."""
    with make_judge(settings) as judge:
        try:
            yield judge
        except BudgetExceededError as error:
            tell_over_budget(error)
            raise
        finally:
            spending_table(judge.spending(), account)


def tell_over_budget(error: BudgetExceededError) -> None:
    """An event about the deployment that began it all, so that the server can pause its schedule."""
    root = runtime.flow_run.root_flow_run_id
    related: list[dict[str, str]] = []
    if root is not None:
        with get_client(sync_client=True) as client:
            deployment = client.read_flow_run(root).deployment_id
        if deployment is not None:
            name = f"prefect.deployment.{deployment}"
            related = [{"prefect.resource.id": name, "prefect.resource.role": "deployment"}]
    emit_event(
        OVER_BUDGET,
        resource={"prefect.resource.id": f"vlfilter.budget.{root}", "prefect.resource.name": "judge's budget"},
        related=related,
        payload={"message": str(error), "spent_usd": error.spent_usd, "limit_usd": error.limit_usd},
    )


def make_judge(settings: JudgeSettings) -> Judge:
    """A judge with the deployment's limits and, where the environment holds no key, the key of its Secret block."""
    vendor = ModelName.parse(settings.model).vendor
    local = LocalLimiter(settings.requests_per_minute, settings.tokens_per_minute)
    return Judge(settings, SharedLimiter(vendor, local), secret_key(vendor))


def secret_key(vendor: str) -> str | None:
    """The value of the block `openai-api-key` or `anthropic-api-key`; None where the environment has a key, or no block
    is there. It is for the judge's memory only: never a parameter, a result or a log line."""
    if os.environ.get(VARIABLES[vendor]):
        return None
    try:
        block = Secret.load(f"{vendor}-api-key", _sync=True)  # type: ignore[call-arg]
    except ValueError:  # Prefect's word for "not found"
        return None
    value: object = block.get()  # type: ignore[union-attr]
    return str(value)


@dataclass
class SharedLimiter:
    """The global limits `judge-requests-VENDOR` and `judge-tokens-VENDOR`, after the worker's own limit.

    A limit that does not exist limits nothing, which is said once in the log. It needs a slot decay: `--limit N` is the
    most at a time, `--slot-decay-per-second` the rate. A request of more tokens than the limit takes all of it.
    """

    vendor: str
    local: Limiter
    _found: dict[str, int] = field(default_factory=dict)
    _looked: bool = False
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def acquire(self, tokens: int) -> None:
        await self.local.acquire(tokens)
        async with self._lock:
            if not self._looked:
                await self._look()
                self._looked = True
        for kind, slots in (("requests", 1), ("tokens", tokens)):
            name = f"judge-{kind}-{self.vendor}"
            if name in self._found:
                try:
                    await rate_limit(name, occupy=max(1, min(slots, self._found[name])), strict=False)
                except ConcurrencySlotAcquisitionError as error:
                    # Better too fast, which the vendor tells us and we retry, than a night's run lost.
                    self._found.pop(name, None)
                    _logger().warning("the shared limit %s cannot be kept any more: %s", name, error)

    async def _look(self) -> None:
        """Which limits there are: asked once, so that a missing one costs nothing and does not go unseen."""
        log = _logger()
        async with get_client() as client:
            for kind in ("requests", "tokens"):
                name = f"judge-{kind}-{self.vendor}"
                try:
                    limit = await client.read_global_concurrency_limit_by_name(name)
                except ObjectNotFound:
                    log.warning("no shared limit %s: each worker keeps its own only (docs/judge.md)", name)
                    continue
                if not limit.active:
                    log.warning("the shared limit %s is switched off", name)
                elif not limit.slot_decay_per_second:
                    log.warning("the shared limit %s has no slot decay and is left out (docs/judge.md)", name)
                else:
                    self._found[name] = limit.limit


def spending_table(spent: Iterable[Spent], key: str = "judge-spending") -> None:
    """Tokens and dollars on the run's page, by step and round, then by shard."""
    lines = list(spent)
    usd = sum(line.usd for line in lines)
    held = sum(line.reserved_usd for line in lines)
    note = f", ${held:.4f} set aside for requests under way or lost" if held else ""
    rows = [_row(labels, group) for labels, group in _groups(lines, ("step", "round"))]
    rows += [_row(labels, group) for labels, group in _groups(lines, ("step", "round", "shard")) if labels[2]]
    cut = f" (the first {MAX_ROWS} of {len(rows)} rows)" if len(rows) > MAX_ROWS else ""
    description = f"Judge: ${usd:.4f} spent{note}{cut}"
    create_table_artifact(rows[:MAX_ROWS], key=key, description=description)


def _groups(lines: Iterable[Spent], names: tuple[str, ...]) -> list[tuple[tuple[str, ...], list[Spent]]]:
    groups: dict[tuple[str, ...], list[Spent]] = defaultdict(list)
    for line in lines:
        groups[tuple(line.labels.get(name, "") for name in names)].append(line)
    return sorted(groups.items())


def _row(labels: tuple[str, ...], lines: list[Spent]) -> dict[str, str]:
    step, round_, shard = (*labels, "all")[:3]
    return {
        "step": step,
        "round": round_,
        "shard": shard,
        "model": ", ".join(sorted({line.model for line in lines})),
        "requests": str(sum(line.requests for line in lines)),
        "tokens in": str(sum(line.usage.input_tokens for line in lines)),
        "tokens out": str(sum(line.usage.output_tokens for line in lines)),
        "usd": f"{sum(line.usd for line in lines):.4f}",
    }


def _logger():  # type: ignore[no-untyped-def]
    """The run's, where there is one."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("vlfilter.judge")
