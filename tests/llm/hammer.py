"""A worker that asks until the budget is used up; a test starts eight of them."""

from __future__ import annotations

import os
from multiprocessing import get_context

import openai  # noqa: F401 - imported once by the fork server, not by each worker

from vlfilter.llm.client import BudgetExceededError, Judge, JudgeSettings
from vlfilter.llm.types import Request


def work(name: str, settings: JudgeSettings, environment: dict[str, str]) -> tuple[int, bool]:
    """How many answers there were, and whether the budget ended it."""
    os.environ.update(environment)
    answered = 0

    def count(index: int, answer: object) -> None:
        nonlocal answered
        answered += 1

    with Judge(settings) as judge:
        try:
            judge.ask_all([Request(f"{name} {i}", max_tokens=20, labels={"step": name}) for i in range(500)], count)
        except BudgetExceededError:
            return answered, True
    return answered, False


def hammer(workers: int, settings: JudgeSettings) -> list[tuple[int, bool]]:
    """Real processes, each with its own judge."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.llm.hammer"])
    environment = {k: v for k, v in os.environ.items() if k.startswith(("AWS_", "OPENAI_", "NO_PROXY"))}
    with context.Pool(workers, maxtasksperchild=1) as pool:
        return pool.starmap(work, [(f"w{i}", settings, environment) for i in range(workers)], chunksize=1)
