"""What MLM-Filter's scorer does to a sample before the model: the questions' tokens, and the image's pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vlfilter.data.samples import ImageText, Interleaved
from vlfilter.models.preprocess import ImageSettings, to_pixels
from vlfilter.scoring.base import Prepared, one_pair
from vlfilter.scoring.mlm_filter_text import Asker, Questions


@dataclass(frozen=True, slots=True)
class Payload:
    questions: Questions
    pixels: np.ndarray  # (H, W, 3) uint8


@dataclass(frozen=True, slots=True)
class MlmFilterPreparer:
    """Of a loaded model. `nodes` is what the tree of numbers adds to each question, in tokens."""

    name: str
    asker: Asker
    images: ImageSettings
    nodes: int

    def prepare(self, content: ImageText | Interleaved) -> Prepared:
        pair = one_pair(content, self.name)
        questions = self.asker.ask(pair.caption)
        lanes = sum(len(lane) for lane in questions.lanes) + len(questions.lanes) * self.nodes
        tokens = len(questions.prefix) + self.asker.image_tokens - 1 + lanes
        return Prepared(tokens, Payload(questions, to_pixels(pair.image, self.images)))
