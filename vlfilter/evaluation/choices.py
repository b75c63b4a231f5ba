"""Multiple choice by likelihood: the candidate whose tokens the model finds likeliest is its answer.

Source: MLLM-DataEngine's evaluations, which run every candidate of every question alone; here the candidates of many
questions share their prefixes and go through the model together. Version 1 compares means over a candidate's tokens,
version 2 (MiniGPT-v2's `multi_select`) means over all positions, prompt and padding too, so that only sums count.
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


def over_positions(nll: float, tokens: int, positions: int) -> float:
    """The mean over a candidate's tokens as one over all positions of its row that predict something."""
    return nll * tokens / positions


class Choosing:
    """`choice` is the answer's place among the candidates (ties go to the lowest), `nll` the mean negative
    log-likelihood per token of each candidate in nats, `tokens` their tokens, `answer` the candidate's text.

    `whole` compares candidates by the likelihood of all their tokens together, as version 2 does: that favours short
    ones. `led` has every answer begin with the form's lead ("The answer is").
    """

    name = "choices"
    columns = pa.schema(
        [
            ("answer", pa.string()),
            ("choice", pa.int32()),
            ("nll", pa.list_(pa.float64())),
            ("tokens", pa.list_(pa.int32())),
        ]
    )

    def __init__(self, model: EvaluatedModel, whole: bool = False, led: bool = True):
        self.model = model
        self.whole = whole
        self.led = led

    def fingerprint(self) -> dict[str, Any]:
        told = {} if self.led and not self.whole else {"whole": self.whole, "led": self.led}
        return {"answers": self.name, **told, **self.model.fingerprint()}

    def load(self) -> None:
        self.model.load()

    def prepare(self, item: Item, image: Image.Image) -> Prepared:
        """Raises `SampleError` for a question that cannot be asked."""
        if not item.candidates:
            raise SampleError(Status.MISSING_TEXT, "the question has no choices")
        posed = self.model.pose(self.model.writer_of(self.led).rank(item.message, item.candidates), image)
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
        sizes = [len(lane) for lane in posed.asked.lanes]
        weighed = [over_positions(mean, size, 1) for mean, size in zip(rounded, sizes, strict=True)]
        choice = best(weighed if self.whole else rounded)
        return {
            "answer": item.candidates[choice],
            "choice": choice,
            "nll": rounded,
            "tokens": sizes,
        }
