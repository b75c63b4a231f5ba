"""Multiple choice by likelihood: the candidate whose tokens the model finds likeliest on average is its answer.

Source: MLLM-DataEngine's evaluation, which runs every candidate of every question alone; here the candidates of many
questions share their prefixes and go through the model together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from PIL import Image

from vlfilter.data.samples import SampleError, Status
from vlfilter.evaluation.items import Item
from vlfilter.evaluation.model import EvaluatedModel, Posed
from vlfilter.scoring.base import Prepared

DECIMALS = 6
TIE = 1e-5  # nats; batch neighbours change less, so equal candidates tie in any batch


def best(losses: Sequence[float]) -> int:
    """The place of the lowest; of those that equal it to `TIE` the first."""
    lowest = min(losses)
    return next(place for place, loss in enumerate(losses) if loss <= lowest + TIE)


class Choosing:
    """`choice` is the answer's place among the candidates (ties go to the lowest), `nll` the mean negative
    log-likelihood per token of each candidate in nats, `tokens` their tokens, `answer` the candidate's text."""

    name = "choices"
    columns = pa.schema(
        [
            ("answer", pa.string()),
            ("choice", pa.int32()),
            ("nll", pa.list_(pa.float64())),
            ("tokens", pa.list_(pa.int32())),
        ]
    )

    def __init__(self, model: EvaluatedModel):
        self.model = model

    def fingerprint(self) -> dict[str, Any]:
        return {"answers": self.name, **self.model.fingerprint()}

    def load(self) -> None:
        self.model.load()

    def prepare(self, item: Item, image: Image.Image) -> Prepared:
        """Raises `SampleError` for a question that cannot be asked."""
        if not item.candidates:
            raise SampleError(Status.MISSING_TEXT, "the question has no choices")
        posed = self.model.pose(self.model.writer.rank(item.message, item.candidates), image)
        return Prepared(self.model.tokens(posed), (item, posed))

    def score(self, batch: Sequence[Prepared]) -> dict[str, Sequence[Any]]:
        import torch

        from vlfilter.models.lanes import lane_log_probabilities

        payloads: list[tuple[Item, Posed]] = [prepared.payload for prepared in batch]
        with torch.inference_mode():
            rows, images = self.model.inputs([posed for _, posed in payloads])
            found = lane_log_probabilities(self.model.loaded.model, rows, images)
            means = [[-float(lane.mean()) for lane in lanes] for lanes in found]
        columns: dict[str, list[Any]] = {name: [] for name in self.columns.names}
        for (item, posed), nll in zip(payloads, means, strict=True):
            row = self._row(item, posed, nll[: len(item.candidates)])
            for name in self.columns.names:
                columns[name].append(row[name])
        return dict(columns)

    def _row(self, item: Item, posed: Posed, nll: Sequence[float]) -> dict[str, Any]:
        if not all(map(math.isfinite, nll)):
            return dict.fromkeys(self.columns.names, SampleError(Status.FAILED, "a likelihood is no finite number"))
        rounded = [round(value, DECIMALS) for value in nll]
        choice = best(rounded)
        return {
            "answer": item.candidates[choice],
            "choice": choice,
            "nll": rounded,
            "tokens": [len(lane) for lane in posed.asked.lanes],
        }
