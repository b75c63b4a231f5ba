"""What the teacher is asked: all four levels of one image, or of one set of images, in one structured answer.

One answer for all levels makes them contrast: the same content, the same length, only the quality differs. The wording
is ours (see `levels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlfilter.data.quality_rows import Kind
from vlfilter.data.quotas import priority
from vlfilter.data.tables import digest
from vlfilter.llm.types import Image, Request
from vlfilter.methods.unifilter.levels import LEVELS, SCORES, VERSION

FIELDS = tuple(f"level_{score}" for score in SCORES)
# Words that each text should have. The lot draws one for an image, the same for all its levels: a level that were
# longer than the others could be told without a look at the picture.
CAPTION_WORDS = (8, 12, 16, 20, 25, 30, 40, 60)
DOCUMENT_WORDS = (120, 160, 200, 260, 320)

SYSTEM = (
    "You write training data for a classifier that judges how good image-text data is. For every task you write the "
    "same kind of text at four levels of quality. Only the level may tell the four apart: keep language, tone, length "
    "and layout the same. Never name or hint at a level, a mistake or this task in the texts: each must look as if it "
    "had been found on the web beside the pictures. Write nothing that would harm or expose a person, and no names of "
    "persons that are not written in the pictures."
)
_CAPTION_TASK = (
    "Look at the picture and write four captions for it, one at each level, of about {words} words each.\n\n"
    "{levels}\n\nWrite level_3 first in your mind, then derive the others from it. Answer with level_0, level_1, "
    "level_2 and level_3, each the text of its caption and nothing else."
)
_DOCUMENT_TASK = (
    "Here are {images} in their order. Write four documents that contain {them}, as on an illustrated web page, one at "
    "each level, of about {words} words each, in three to eight paragraphs.\n\n{levels}\n\n"
    "Answer with level_0, level_1, level_2 and level_3. Each holds the document in its parts: `before`, what stands "
    "before the first picture, and {parts}, what stands behind each picture up to the next or the end. A part is one "
    "or more paragraphs with a blank line between them; it is empty where pictures follow each other directly. Write "
    "no marks for the pictures, and at least two paragraphs in each document."
)


def part_names(images: int) -> tuple[str, ...]:
    """The parts of a document's answer, so that it cannot have another number of images than were shown."""
    return ("before", *(f"after_{i + 1}" for i in range(images)))


def schema(kind: Kind, images: int) -> dict[str, Any]:
    """Closed objects with all properties required, which both vendors' structured output can hold a model to."""
    text: dict[str, Any] = {"type": "string"}
    return _closed(FIELDS, text if kind == "caption" else _closed(part_names(images), text))


def _closed(names: tuple[str, ...], value: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict.fromkeys(names, value),
        "required": list(names),
        "additionalProperties": False,
    }


def text_parts() -> dict[str, Any]:
    """What of the wording changes an answer, for fingerprints."""
    wording = [SYSTEM, _CAPTION_TASK, _DOCUMENT_TASK, [[level.caption, level.document] for level in LEVELS]]
    lengths = [CAPTION_WORDS, DOCUMENT_WORDS]
    return {
        "levels": VERSION,
        "wording": digest(
            {"wording": wording, "lengths": lengths, "schemas": [schema("caption", 1), schema("interleaved", 2)]}
        ),
    }


def make_request(
    kind: Kind, id: str, images: Sequence[Image], seed: int, max_tokens: int, temperature: float | None
) -> Request:
    """The question about one image (`caption`) or a set in its order (`interleaved`); `id` draws the length."""
    return Request(
        _prompt(kind, len(images), target_words(kind, id, seed)),
        images=tuple(images),
        system=SYSTEM,
        schema=schema(kind, len(images)),
        max_tokens=max_tokens,
        temperature=temperature,
        labels={"step": "unifilter synthesize", "round": kind},
    )


def target_words(kind: Kind, id: str, seed: int) -> int:
    choices = CAPTION_WORDS if kind == "caption" else DOCUMENT_WORDS
    return choices[priority(seed, "length", kind, id) % len(choices)]


def _prompt(kind: Kind, images: int, words: int) -> str:
    if kind == "caption":
        return _CAPTION_TASK.format(words=words, levels=_definitions(kind))
    one = images == 1
    return _DOCUMENT_TASK.format(
        images="one picture" if one else f"{images} pictures",
        them="it" if one else f"all {images}",
        parts="`after_1`" if one else f"`after_1` to `after_{images}`",
        words=words,
        levels=_definitions(kind),
    )


def _definitions(kind: Kind) -> str:
    lines = (
        f"level_{level.score}: {level.caption if kind == 'caption' else level.document}" for level in reversed(LEVELS)
    )
    return "\n".join(lines)
