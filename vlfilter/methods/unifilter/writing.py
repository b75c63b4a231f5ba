"""The teacher writes four texts for every item; four rows each, whatever comes back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vlfilter.data.image_files import for_teacher, inside
from vlfilter.data.quality_rows import KINDS, Kind
from vlfilter.data.receipts import exists, file_digest, finished, write_receipt
from vlfilter.data.samples import SampleError
from vlfilter.data.storage import join, read_bytes
from vlfilter.errors import VlfilterError
from vlfilter.llm.ledger import BudgetExceededError
from vlfilter.llm.types import Answer, Image, Request
from vlfilter.methods.unifilter.answers import no_texts, read_levels
from vlfilter.methods.unifilter.items import Item, read_items
from vlfilter.methods.unifilter.questions import make_request, text_parts
from vlfilter.methods.unifilter.texts import OPEN, LevelText, Verdict, read_texts, write_texts

CODE_VERSION = 1

log = logging.getLogger(__name__)


class Teacher(Protocol):
    """What of `vlfilter.llm.client.Judge` is used here."""

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]: ...


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """`teacher` names the model (and server) that answers, for the fingerprint; `at_once` counts items whose images
    lie in memory together. `temperature` None is the vendor's own, so that texts vary."""

    teacher: str
    caption_tokens: int = 2048
    document_tokens: int = 8192
    temperature: float | None = None
    seed: int = 0
    at_once: int = 128

    def parts(self, items: str) -> dict[str, Any]:
        return {
            "code": CODE_VERSION,
            "items": file_digest(items),
            "teacher": self.teacher,
            "tokens": [self.caption_tokens, self.document_tokens],
            "temperature": self.temperature,
            "seed": self.seed,
            **text_parts(),
        }

    def max_tokens(self, kind: Kind) -> int:
        return self.caption_tokens if kind == "caption" else self.document_tokens


def write_levels(items: str, images: str, output: str, teacher: Teacher, settings: WriteSettings) -> dict[str, Any]:
    """Write four rows an item to `output`; returns how many came out with which verdict, and the cost.

    A second call asks only about items that an answer may still be had for (empty, failed, without an image). What was
    answered before an error ends the call lies in the teacher's cache.
    """
    if not exists(items):
        raise VlfilterError(f"there is no list of images {items}: the step that chooses images writes one.")
    parts = settings.parts(items)
    known = finished(output, parts)
    if known is not None and not any(known["texts"].get(str(verdict)) for verdict in OPEN):
        return known
    chosen = read_items(items)
    done: dict[tuple[str, str], list[LevelText]] = _earlier(output, parts)
    total = len(chosen)
    try:
        for questions in _questions(chosen, images, settings, skip=set(done)):
            answers = iter(teacher.ask_all([asked for _, asked in questions if isinstance(asked, Request)]))
            for item, asked in questions:
                rows = read_levels(item, next(answers)) if isinstance(asked, Request) else asked
                done[item.kind, item.id] = rows
            counts = Counter(row.status for rows in done.values() for row in rows)
            told = ", ".join(f"{n} {status}" for status, n in counts.items())
            log.info("texts for %d of %d images or sets: %s", len(done), total, told)
    except BudgetExceededError:
        log.warning("the budget ended the writing; the answers so far are kept, and the same command goes on from them")
        raise
    texts = [row for item in chosen for row in done[item.kind, item.id]]
    write_texts(output, texts)
    return write_receipt(output, parts, _summary(texts, chosen))


def requests_for(items: str, images: str, output: str, settings: WriteSettings) -> Iterator[Request]:
    """What `write_levels` would ask now, for an estimate of the price; few images lie in memory at a time."""
    skip = set(_earlier(output, settings.parts(items)))
    for questions in _questions(read_items(items), images, settings, skip):
        yield from (asked for _, asked in questions if isinstance(asked, Request))


def _earlier(output: str, parts: dict[str, Any]) -> dict[tuple[str, str], list[LevelText]]:
    """The rows of an earlier call with the same input, of items that need not be asked about again."""
    if finished(output, parts) is None:
        return {}
    found: dict[tuple[str, str], list[LevelText]] = {}
    for row in read_texts(output):
        found.setdefault((row.kind, row.item), []).append(row)
    return {key: rows for key, rows in found.items() if all(row.status not in OPEN for row in rows)}


def _questions(
    items: Sequence[Item], images: str, settings: WriteSettings, skip: set[tuple[str, str]]
) -> Iterator[list[tuple[Item, Request | list[LevelText]]]]:
    """What to ask about each item (or its rows, where nothing can be asked), some items at a time."""
    open_items = [item for item in items if (item.kind, item.id) not in skip]
    for start in range(0, len(open_items), settings.at_once):
        yield [(item, _question(item, images, settings)) for item in open_items[start : start + settings.at_once]]


def _question(item: Item, images: str, settings: WriteSettings) -> Request | list[LevelText]:
    shown = []
    for path in item.images:
        if not inside(path):
            return no_texts(item, Verdict.MISSING_IMAGE, f"the path {path!r} leads out of the image folder")
        try:
            shown.append(Image(*for_teacher(read_bytes(join(images, path)))))
        except FileNotFoundError:
            return no_texts(item, Verdict.MISSING_IMAGE, f"there is no {join(images, path)}")
        except SampleError as error:
            return no_texts(item, Verdict.MISSING_IMAGE, f"{path}: {error.reason}")
    return make_request(item.kind, item.id, shown, settings.seed, settings.max_tokens(item.kind), settings.temperature)


def _summary(texts: Sequence[LevelText], items: Sequence[Item]) -> dict[str, Any]:
    counts = Counter(text.status for text in texts)
    reasons = Counter(text.reason for text in texts if text.status != Verdict.OK)
    return {
        "items": {kind: sum(item.kind == kind for item in items) for kind in KINDS},
        "texts": {str(verdict): counts[str(verdict)] for verdict in Verdict if counts[str(verdict)]},
        "reasons": [{"reason": reason, "texts": n} for reason, n in reasons.most_common(20)],
        "input_tokens": sum(text.input_tokens for text in texts),
        "output_tokens": sum(text.output_tokens for text in texts),
        "usd": round(sum(text.usd for text in texts), 6),
    }
