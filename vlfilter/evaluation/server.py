"""Answers of a model behind an API like OpenAI's (vLLM's, a vendor's), asked through the judge's client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from vlfilter.data.image_files import for_teacher
from vlfilter.data.samples import SampleError, Status
from vlfilter.evaluation.items import Item, item_bytes
from vlfilter.evaluation.shards import Record
from vlfilter.llm.types import Answer, Image, Outcome, Request
from vlfilter.scoring.pipeline import ordered_map

CODE_VERSION = 1
AT_A_TIME = 256  # questions whose images lie in memory together
_STATUS = {Outcome.ANSWERED: Status.OK, Outcome.EMPTY: Status.OK, Outcome.REFUSED: Status.REFUSED}


class Asks(Protocol):
    """What of `vlfilter.llm.client.Judge` is used here."""

    def ask_all(
        self, requests: Sequence[Request], on_answer: Callable[[int, Answer], None] | None = None
    ) -> list[Answer]: ...


class Served:
    """Puts each question with its image's file, greedily. `who` names the model and its server, for the tables.

    `written` is what came back, "" for an answer without text; tokens are as the server counts them.
    """

    name = "server"
    columns = pa.schema([("written", pa.string()), ("input_tokens", pa.int64()), ("output_tokens", pa.int64())])

    def __init__(
        self,
        judge: Asks,
        who: str,
        images: str,
        max_tokens: int,
        workers: int = 2,
        labels: Mapping[str, str] | None = None,
    ):
        self.judge, self.images, self.max_tokens, self.workers = judge, images, max_tokens, workers
        self.labels = dict(labels or {})
        self.parts: dict[str, Any] = {
            "code": CODE_VERSION,
            "answers": self.name,
            "model": who,
            "max_tokens": max_tokens,
        }

    def answer(self, items: Sequence[Item]) -> list[Record]:
        """Raises `VlfilterError` where no question would be answered: a wrong key, a budget that is used up."""
        records: list[Record] = []
        for start in range(0, len(items), AT_A_TIME):
            records += self._answer(items[start : start + AT_A_TIME])
        return records

    def _answer(self, items: Sequence[Item]) -> list[Record]:
        prepared = list(ordered_map(self._prepare, items, self.workers, 8 * self.workers))
        requests = [each for each in prepared if isinstance(each, Request)]
        answers = iter(self.judge.ask_all(requests))
        return [
            self._record(item, next(answers) if isinstance(each, Request) else each)
            for item, each in zip(items, prepared, strict=True)
        ]

    def _prepare(self, item: Item) -> Request | SampleError:
        try:
            image = Image(*for_teacher(item_bytes(item, self.images)))
        except SampleError as problem:
            return problem
        return Request(item.message, (image,), max_tokens=self.max_tokens, temperature=0.0, labels=self.labels)

    def _record(self, item: Item, found: Answer | SampleError) -> Record:
        empty: Record = {"key": item.key, **dict.fromkeys(self.columns.names)}
        if isinstance(found, SampleError):
            return empty | {"status": str(found.status), "reason": found.reason}
        status = _STATUS.get(found.outcome, Status.FAILED)
        used = {"input_tokens": found.usage.input_tokens, "output_tokens": found.usage.output_tokens}
        if status != Status.OK:
            return empty | used | {"status": str(status), "reason": found.reason or "the server gave no answer"}
        return empty | used | {"written": found.text, "status": str(status), "reason": ""}
