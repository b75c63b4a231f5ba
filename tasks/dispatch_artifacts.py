"""The groups of a run in one table on its page: which is where, how often it was handed out, and what it said."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from tasks.artifacts import MAX_ROWS, tolerant

EVERY = 5.0  # seconds between two writings at least
ORDER = ("Crashed", "Failed", "ShardsFailed", "Running", "", "Completed")  # first what people look for; "": others


class Row(Protocol):
    """A group as the table shows it."""

    @property
    def name(self) -> str: ...
    @property
    def shards(self) -> Sequence[object]: ...
    @property
    def state(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def message(self) -> str: ...


class GroupTable:
    """One artifact that follows the groups."""

    def __init__(self) -> None:
        self._artifact: UUID | None = None
        self._shown: list[dict[str, str]] = []
        self._next = 0.0

    def show(self, groups: Sequence[Row], last: bool = False) -> None:
        """Write the table again if it has changed, but not too often; `last` writes it in any case."""
        if time.monotonic() < self._next and not last:
            return
        rows = _rows(groups)
        if rows == self._shown:
            return
        self._write(rows, f"{sum(g.state == 'Completed' for g in groups)} of {len(groups)} groups completed")
        self._shown, self._next = rows, time.monotonic() + EVERY

    @tolerant
    def _write(self, rows: list[dict[str, str]], description: str) -> None:
        if self._artifact is None:
            made: Any = create_table_artifact(rows, key="score-shards-groups", description=description)
            self._artifact = made  # sync here; its type also tells of the async form
            return
        with get_client(sync_client=True) as client:
            client.update_artifact(self._artifact, ArtifactUpdate(data=json.dumps(rows), description=description))


def _rows(groups: Sequence[Row]) -> list[dict[str, str]]:
    ranked = sorted(groups, key=lambda group: ORDER.index(group.state if group.state in ORDER else ""))
    return [
        {"group": g.name, "shards": str(len(g.shards)), "state": g.state, "tries": str(g.attempt), "why": g.message}
        for g in ranked[:MAX_ROWS]
    ]
