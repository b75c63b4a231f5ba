"""The ledger of processes on many machines: one S3 object, changed by conditional writes.

Each process sends one change at a time, with all that its threads want by then (group commit), so that many requests
under way cost few writes. What was spent by label lies in one object a process, which nobody else writes.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from vlfilter.data.storage import filesystem, join, read_bytes, write_bytes
from vlfilter.errors import StorageError, VlfilterError
from vlfilter.llm import objects
from vlfilter.llm.ledger import BudgetExceededError, Charge, Spent
from vlfilter.llm.prices import NANO
from vlfilter.llm.types import Usage

TRIES = 200
State = dict[str, Any]  # {"spent": nano, "reserved": {ticket: [nano, model, labels]}, "commits": {process: number}}
Change = Callable[[State], Any]


class S3Ledger:
    """`url` is a prefix; `total.json` and `by-label/PROCESS.json` lie under it."""

    def __init__(self, url: str):
        if not objects.is_s3(url):
            raise VlfilterError(f"a ledger lies in a local file or on S3, not at {url}.")
        self.url = url
        self._total = join(url, "total.json")
        self._me = uuid.uuid4().hex[:12]
        self._commits = 0
        self._lines: dict[tuple[str, str, bool], list[int]] = {}
        self._waiting: list[tuple[Change, Future[Any]]] = []
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        self._checked = False

    def reserve(self, nano: int, limit: int | None, labels: Mapping[str, str], model: str, ticket: str = "") -> str:
        ticket = ticket or uuid.uuid4().hex

        def change(state: State) -> Any:
            held = sum(line[0] for line in state["reserved"].values())
            if ticket not in state["reserved"]:
                if limit is not None and state["spent"] + held + nano > limit:
                    return BudgetExceededError(state["spent"], held, limit, nano, self.url)
                state["reserved"][ticket] = [nano, model, dict(labels)]
            return ticket

        result = self._commit(change)
        if isinstance(result, Exception):
            raise result
        return str(result)

    def settle(self, ticket: str, charges: Sequence[Charge]) -> bool:
        def change(state: State) -> bool:
            if state["reserved"].pop(ticket, None) is None:
                return False
            state["spent"] += sum(charge.nano for charge in charges)
            return True

        settled: bool = self._commit(change)
        if settled and charges:
            self._record(charges)
        return settled

    def spending(self) -> list[Spent]:
        fs, folder = filesystem(join(self.url, "by-label"))
        try:
            names = fs.ls(folder, detail=False, refresh=True)
        except FileNotFoundError:
            names = []
        sums: dict[tuple[str, str, bool], list[int]] = {}
        for name in names:
            for model, labels, batch, numbers in json.loads(
                read_bytes(join(self.url, "by-label", name.split("/")[-1]))
            ):
                _add(sums, (model, labels, batch), numbers)
        lines = [
            Spent(model, json.loads(labels), batch, numbers[0], Usage(*numbers[1:5]), numbers[5] / NANO)
            for (model, labels, batch), numbers in sorted(sums.items())
        ]
        for nano, model, labels in self._read()[1]["reserved"].values():
            lines.append(Spent(model, labels, reserved_usd=nano / NANO))
        return lines

    def _record(self, charges: Sequence[Charge]) -> None:
        with self._guard:
            for charge in charges:
                usage = charge.usage
                tokens = [usage.input_tokens, usage.output_tokens, usage.cached_input_tokens, usage.cache_write_tokens]
                labels = json.dumps(dict(charge.labels), sort_keys=True)
                _add(self._lines, (charge.model, labels, charge.batch), [charge.requests, *tokens, charge.nano])
            data = json.dumps([[*key, numbers] for key, numbers in self._lines.items()]).encode()
            write_bytes(join(self.url, "by-label", f"{self._me}.json"), data)

    def _commit(self, change: Change) -> Any:
        """Queue a change; whoever gets to write next writes all that is queued."""
        mine: Future[Any] = Future()
        with self._guard:
            self._waiting.append((change, mine))
        with self._writing:
            if not mine.done():
                with self._guard:
                    group, self._waiting = self._waiting, []
                try:
                    results = self._write([change for change, _ in group])
                    for (_, future), result in zip(group, results, strict=True):
                        future.set_result(result)
                except BaseException as error:
                    for _, future in group:
                        future.set_exception(error)
        return mine.result()

    def _write(self, changes: Sequence[Change]) -> list[Any]:
        if not self._checked:
            objects.check_conditional(join(self.url, "conditional-writes-check"))
            self._checked = True
        self._commits += 1
        results: list[Any] = []
        for attempt in range(TRIES):
            etag, state = self._read()
            if state["commits"].get(self._me) == self._commits:
                return results  # written after all: only the answer to the last try was lost
            before = json.dumps(state)
            results = [change(state) for change in changes]
            if json.dumps(state) == before:
                return results
            state["commits"][self._me] = self._commits
            if objects.put_if(self._total, json.dumps(state).encode(), etag):
                return results
            time.sleep(random.uniform(0, min(0.01 * 2**attempt, 1.0)))  # noqa: S311 - only jitter
        raise StorageError(f"the judge's ledger {self._total} is changed by too many at a time; run fewer workers.")

    def _read(self) -> tuple[str | None, State]:
        found = objects.get(self._total)
        if found is None:
            return None, {"spent": 0, "reserved": {}, "commits": {}}
        try:
            state: State = json.loads(found[1])
            if not isinstance(state["spent"], int) or not isinstance(state["reserved"], dict):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise VlfilterError(f"the judge's ledger {self._total} is damaged; give another one.") from None
        return found[0], state


def _add(sums: dict[tuple[str, str, bool], list[int]], key: tuple[str, str, bool], numbers: Sequence[int]) -> None:
    old = sums.get(key, [0] * len(numbers))
    sums[key] = [a + b for a, b in zip(old, numbers, strict=True)]
