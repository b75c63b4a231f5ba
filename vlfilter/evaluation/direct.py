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
    """`written` is what the model wrote, `answer` what of it is its answer: up to the end in its form of prompt.

    `led` has every answer begin with the form's lead ("The answer is"), and takes the sentence's full stop off; control
    tokens are left out. Otherwise the model begins as it likes, and all that it wrote is kept up to its end token, as
    the published scripts keep it.
    """

    name = "direct"
    columns = pa.schema([("answer", pa.string()), ("written", pa.string())])

    def __init__(self, model: EvaluatedModel, max_tokens: int = MAX_TOKENS, led: bool = True):
        self.model = model
        self.max_tokens = max_tokens
        self.led = led

    def fingerprint(self) -> dict[str, Any]:
        told = {} if self.led else {"led": False}
        return {"answers": self.name, "max_tokens": self.max_tokens, **told, **self.model.fingerprint()}

    def load(self) -> None:
        self.model.load()

    def prepare(self, item: Item, image: Image.Image) -> Prepared:
        """Raises `SampleError` for a question that cannot be asked."""
        posed = self.model.pose(self.model.writer_of(self.led).open(item.message), image, self.max_tokens)
        return Prepared(self.model.tokens(posed, self.max_tokens), posed)

    def score(self, batch: Sequence[Prepared]) -> dict[str, Sequence[Any]]:
        import torch

        from vlfilter.models.lanes import greedy

        posed: list[Posed] = [prepared.payload for prepared in batch]
        loaded = self.model.loaded
        with torch.inference_mode():
            rows, images = self.model.inputs(posed)
            chosen = greedy(loaded.model, rows, images, self.max_tokens, stop=loaded.tokenizer.eos).cpu()
        written = [self._decode(row[0].tolist()) for row in chosen]
        writer = self.model.writer_of(self.led)
        answer = writer.answer if self.led else writer.until_end
        return {"answer": [answer(text) for text in written], "written": written}

    def _decode(self, ids: list[int]) -> str:
        tokenizer = self.model.loaded.tokenizer
        if not self.led:
            ids = [one for one in ids[: (*ids, tokenizer.eos).index(tokenizer.eos)] if one != tokenizer.bos]
        return str(tokenizer.hf.decode(ids, skip_special_tokens=self.led))
