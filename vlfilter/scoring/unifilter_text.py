"""UniFilter's input: raw text with image placeholders, no prompt (arXiv 2510.15162 and its published scripts).

Two ways. The default keeps bos and eos whatever is cut, flags what was cut, and drops unusable image slots. The
original way, for parity, cuts finished sequences at their end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from PIL import Image

from vlfilter.data.samples import ImageText, Interleaved, SampleError, Status
from vlfilter.models.tokenizer import TextTokenizer, encode_start

IMAGE = -200  # the placeholder's id, as in vlfilter.models.vlm (not imported: that brings torch)
SEPARATOR = "\n\n"
ORIGINAL_CAPTION_COLUMNS = 75  # bos, one placeholder, text and eos; the script ignores its own --max-len
ORIGINAL_MAX_IMAGES = 10
ORIGINAL_MAX_IDS = 6000

Picture = TypeVar("Picture")
Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class TextLimits:
    """`caption_tokens` counts a caption's text; `document_tokens` a document's whole sequence, images expanded."""

    caption_tokens: int = 512
    document_tokens: int = 4096
    max_images: int = 10


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Token ids with `IMAGE` where each of `images` stands, in order; what was left out is counted."""

    ids: list[int]
    images: list[Image.Image]
    dropped_images: int = 0
    truncated: bool = False


def caption_text(caption: str) -> str:
    """What follows the image: a literal `<image>` in a caption becomes the word."""
    return "\n" + caption.replace("<image>", "image")


def document_slots(document: Interleaved, skip_slivers: bool) -> tuple[list[str | Image.Image], int]:
    """The document's usable slots in order, and how many image slots it lost.

    Literal `<image>` in a text becomes `<image-placeholder>`. `skip_slivers` removes images one pixel wide or high.
    """
    slots: list[str | Image.Image] = []
    dropped = 0
    for text, image, broken in zip(document.texts, document.images, document.broken, strict=True):
        if image is not None:
            sliver = skip_slivers and 1 in image.size
            dropped += sliver
            slots += [] if sliver else [image]
        elif text is not None:
            slots.append(text.replace("<image>", "<image-placeholder>"))
        else:
            dropped += broken is not None
    if not any(isinstance(slot, Image.Image) for slot in slots):
        reasons = sorted({reason for reason in document.broken if reason})
        detail = (
            f"all {dropped} image slots are unusable ({'; '.join(reasons[:3])})" if dropped else "the document has none"
        )
        raise SampleError(Status.MISSING_IMAGE, f"no usable image: {detail}")
    return slots, dropped


def chunks(slots: Sequence[str | Picture]) -> list[str | Picture]:
    """Texts and images alternating as they are tokenised: slots joined by a blank line, split at the images."""
    joined: list[str | Picture] = []
    text = ""
    for index, slot in enumerate(slots):
        text += SEPARATOR if index else ""
        if isinstance(slot, str):
            text += slot
        else:
            joined += [text, slot] if text else [slot]
            text = ""
    return [*joined, text] if text else joined


def caption_sequence(pair: ImageText, tokenizer: TextTokenizer, limits: TextLimits) -> TokenSequence:
    """bos, image, text, eos; text beyond the limit is cut, and special-token strings in it stay text."""
    text = encode_start(tokenizer.ids, caption_text(pair.caption), limits.caption_tokens)
    truncated = len(text) > limits.caption_tokens
    ids = [tokenizer.start, IMAGE, *text[: limits.caption_tokens], tokenizer.eos]
    return TokenSequence(ids, [pair.image], truncated=truncated)


def document_sequence(
    document: Interleaved, tokenizer: TextTokenizer, limits: TextLimits, image_tokens: int
) -> TokenSequence:
    """bos, texts and images in order, eos. The first `max_images` are kept, and what lies beyond the length is cut.

    Raises `SampleError` for a document without a usable image, or whose first image comes after the cut.
    """
    slots, dropped = document_slots(document, skip_slivers=False)
    fitted = fit_document(slots, tokenizer, limits, image_tokens)
    return TokenSequence(fitted.ids, fitted.images, dropped + fitted.dropped_images, fitted.truncated)


@dataclass(frozen=True, slots=True)
class FittedDocument(Generic[Picture]):
    """`ids` with `IMAGE` where each of `images` (whatever stood for them) is, in order."""

    ids: list[int]
    images: list[Picture]
    dropped_images: int
    truncated: bool


def fit_document(
    slots: Sequence[str | Picture], tokenizer: TextTokenizer, limits: TextLimits, image_tokens: int
) -> FittedDocument[Picture]:
    """The ids of slots in order; what is no text stands for an image (the image itself, or its path).

    Raises `SampleError` when the first image comes after the cut.
    """
    kept: list[str | Picture] = []
    images: list[Picture] = []
    dropped = 0
    for slot in slots:
        if not isinstance(slot, str):
            if len(images) == limits.max_images:
                dropped += 1
                continue
            images.append(slot)
        kept.append(slot)
    ids, placed = [tokenizer.start], 0
    room = limits.document_tokens - 2
    truncated = False
    for chunk in chunks(kept):
        if truncated := room <= 0:
            break
        if isinstance(chunk, str):
            text = encode_start(tokenizer.ids, chunk, room)
            truncated = len(text) > room
            ids += text[:room]
            room -= len(text)
        elif truncated := image_tokens > room:
            break
        else:
            ids.append(IMAGE)
            placed += 1
            room -= image_tokens
    if not placed:
        raise SampleError(
            Status.TOO_LARGE, f"the first image does not fit into {limits.document_tokens} tokens (document_max_tokens)"
        )
    return FittedDocument([*ids, tokenizer.eos], images[:placed], dropped + len(images) - placed, truncated)


def original_caption_sequence(pair: ImageText, tokenizer: TextTokenizer) -> TokenSequence:
    """The published script's ids: bos and eos where they are not there already, then cut to 75, eos and all.

    The script decides about bos and eos for a whole batch by its first row; row by row gives the same: every row begins
    with the image, and ends with eos already only where a caption ends with that very token's text.
    """
    text = encode_start(tokenizer.ids_with_control, caption_text(pair.caption), ORIGINAL_CAPTION_COLUMNS)
    ids = _with_ends([IMAGE, *text], tokenizer)
    cut = ids[:ORIGINAL_CAPTION_COLUMNS]
    return TokenSequence(cut, [pair.image], truncated=len(cut) < len(ids))


def original_document_sequence(document: Interleaved, tokenizer: TextTokenizer) -> TokenSequence:
    """The published script's ids for a document; what it skips without a word raises `SampleError(TOO_LARGE)`."""
    slots, dropped = document_slots(document, skip_slivers=True)
    images = [slot for slot in slots if isinstance(slot, Image.Image)]
    if len(images) > ORIGINAL_MAX_IMAGES:
        raise SampleError(Status.TOO_LARGE, f"{len(images)} images, the original skips more than {ORIGINAL_MAX_IMAGES}")
    ids: list[int] = []
    for chunk in chunks(slots):
        if len(ids) > ORIGINAL_MAX_IDS:
            break
        ids += encode_start(tokenizer.ids_with_control, chunk, ORIGINAL_MAX_IDS) if isinstance(chunk, str) else [IMAGE]
    ids = _with_ends(ids, tokenizer)
    if len(ids) > ORIGINAL_MAX_IDS:
        raise SampleError(Status.TOO_LARGE, f"more than {ORIGINAL_MAX_IDS} ids, which the original skips")
    return TokenSequence(ids, images, dropped)


def _with_ends(ids: list[int], tokenizer: TextTokenizer) -> list[int]:
    begun = ids if ids[:1] == [tokenizer.start] else [tokenizer.start, *ids]
    return begun if begun[-1] == tokenizer.eos else [*begun, tokenizer.eos]
