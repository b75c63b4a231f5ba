"""Quality rows → token ids, exactly as the unifilter scorer writes the same content (arXiv 2510.15162)."""

from __future__ import annotations

from dataclasses import dataclass

from vlfilter.data.quality_rows import PLACEHOLDER, QualityRow, document_slots
from vlfilter.data.samples import SampleError
from vlfilter.models.tokenizer import TextTokenizer, encode_start
from vlfilter.scoring.unifilter_text import IMAGE, TextLimits, caption_text, fit_document

CAPTION_TOKENS = TextLimits().caption_tokens


@dataclass(frozen=True, slots=True)
class QualityTokens:
    """One sample: `ids` with `IMAGE` where each of `images` (paths, in order) stands.

    `length` counts positions, the images' own among them; `truncated` tells that text or images were cut away.
    """

    ids: list[int]
    images: list[str]
    length: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class _Slot:
    """An image's place in a document; a path alone would pass for text."""

    path: str


@dataclass(frozen=True)
class QualityEncoder:
    """Writes samples for one tokenizer; `image_tokens` are the positions of one image.

    Captions are cut at the scorer's limit, documents at `max_length` positions; bos and eos always stay.
    """

    tokenizer: TextTokenizer
    image_tokens: int
    max_length: int

    @property
    def limits(self) -> TextLimits:
        room = self.max_length - self.image_tokens - 2
        return TextLimits(max(1, min(CAPTION_TOKENS, room)), self.max_length)

    def encode(self, row: QualityRow) -> QualityTokens:
        """The sample of a row. Raises `ValueError` saying why it cannot be one."""
        if row.kind == "caption":
            return self._caption(row)
        texts, images = document_slots(row)
        slots = [text if text is not None else _Slot(str(path)) for text, path in zip(texts, images, strict=True)]
        try:
            fitted = fit_document(slots, self.tokenizer, self.limits, self.image_tokens)
        except SampleError as error:
            raise ValueError(error.reason) from None
        kept = [slot.path for slot in fitted.images]
        return self._tokens(fitted.ids, kept, fitted.truncated or fitted.dropped_images > 0)

    def _caption(self, row: QualityRow) -> QualityTokens:
        limit = self.limits.caption_tokens
        if self.image_tokens + 3 > self.max_length:
            raise ValueError(f"the image does not fit into {self.max_length} positions")
        caption = row.text.replace(PLACEHOLDER, "", 1).removeprefix("\n").removesuffix("\n")
        text = encode_start(self.tokenizer.ids, caption_text(caption), limit)
        ids = [self.tokenizer.start, IMAGE, *text[:limit], self.tokenizer.eos]
        return self._tokens(ids, list(row.images), len(text) > limit)

    def _tokens(self, ids: list[int], images: list[str], truncated: bool) -> QualityTokens:
        return QualityTokens(ids, images, len(ids) + len(images) * (self.image_tokens - 1), truncated)
