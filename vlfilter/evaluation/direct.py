"""Free answers: the model writes, always the likeliest token (greedy), many questions at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from PIL import Image

from vlfilter.evaluation.items import Item
from vlfilter.evaluation.model import EvaluatedModel, Posed
from vlfilter.scoring.base import Prepared

MAX_TOKENS = 20  # the published limit for short answers


class Writing:
    """`answer` is what the model wrote, up to the end of an answer in its form of prompt and without the final full
    stop; `written` is all of it, control tokens left out."""

    name = "direct"
    columns = pa.schema([("answer", pa.string()), ("written", pa.string())])

    def __init__(self, model: EvaluatedModel, max_tokens: int = MAX_TOKENS):
        self.model = model
        self.max_tokens = max_tokens

    def fingerprint(self) -> dict[str, Any]:
        return {"answers": self.name, "max_tokens": self.max_tokens, **self.model.fingerprint()}

    def load(self) -> None:
        self.model.load()

    def prepare(self, item: Item, image: Image.Image) -> Prepared:
        """Raises `SampleError` for a question that cannot be asked."""
        posed = self.model.pose(self.model.writer.open(item.message), image, self.max_tokens)
        return Prepared(self.model.tokens(posed, self.max_tokens), posed)

    def score(self, batch: Sequence[Prepared]) -> dict[str, Sequence[Any]]:
        import torch

        from vlfilter.models.lanes import greedy

        posed: list[Posed] = [prepared.payload for prepared in batch]
        loaded = self.model.loaded
        with torch.inference_mode():
            rows, images = self.model.inputs(posed)
            chosen = greedy(loaded.model, rows, images, self.max_tokens, stop=loaded.tokenizer.eos).cpu()
        written = [str(loaded.tokenizer.hf.decode(row[0], skip_special_tokens=True)) for row in chosen]
        return {"answer": [self.model.writer.answer(text) for text in written], "written": written}
