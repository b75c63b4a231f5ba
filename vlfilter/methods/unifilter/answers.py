"""A teacher's answer → four rows, one a level: texts as they came, or why there are none."""

from __future__ import annotations

import json
import re
from typing import Any

from vlfilter.data.quality_rows import PLACEHOLDER
from vlfilter.llm.types import Answer, Outcome
from vlfilter.methods.unifilter.items import Item
from vlfilter.methods.unifilter.levels import SCORES, VERSION
from vlfilter.methods.unifilter.questions import FIELDS, part_names
from vlfilter.methods.unifilter.texts import LevelText, Verdict

_OUTCOMES = {Outcome.REFUSED: Verdict.REFUSED, Outcome.EMPTY: Verdict.EMPTY, Outcome.FAILED: Verdict.FAILED}


def read_levels(item: Item, answer: Answer) -> list[LevelText]:
    """The rows of an answer, level 0 first. Another number of texts than four has the verdict WRONG_COUNT, and so has
    a document with another number of parts than its images ask for."""
    if answer.outcome is Outcome.ANSWERED:
        found = [_read(item, answer.data[field]) for field in FIELDS]
    else:
        verdict, reason = _OUTCOMES[answer.outcome], answer.reason or str(answer.outcome)
        if verdict is Verdict.FAILED and (wrong := _wrong_count(item, answer.text)):
            verdict, reason = Verdict.WRONG_COUNT, f"{wrong} ({reason})"
        found = [((), verdict, reason)] * len(FIELDS)
    return [
        LevelText(
            item.id,
            item.kind,
            item.images,
            item.side,
            level,
            slots,
            str(verdict),
            reason,
            VERSION,
            answer.model,
            answer.usage.input_tokens if level == SCORES[0] else 0,
            answer.usage.output_tokens if level == SCORES[0] else 0,
            answer.usd if level == SCORES[0] else 0.0,
        )
        for level, (slots, verdict, reason) in zip(SCORES, found, strict=True)
    ]


def no_texts(item: Item, verdict: Verdict, reason: str) -> list[LevelText]:
    """The rows of an item that could not be asked about."""
    return [
        LevelText(item.id, item.kind, item.images, item.side, level, (), str(verdict), reason, VERSION)
        for level in SCORES
    ]


def _read(item: Item, value: Any) -> tuple[tuple[str | None, ...], Verdict, str]:
    slots: tuple[str | None, ...]
    if item.kind == "caption":
        slots = (value.strip(),)
    else:
        slots = document_slots([value[name] for name in part_names(len(item.images))])
    written = sum(slot.count(PLACEHOLDER) for slot in slots if slot)
    if written:
        return slots, Verdict.WRONG_COUNT, f"the text has {written} {PLACEHOLDER} of its own"
    return slots, Verdict.OK, ""


def document_slots(parts: list[str]) -> tuple[str | None, ...]:
    """Paragraphs in order, None for the image between two parts."""
    slots: list[str | None] = []
    for index, part in enumerate(parts):
        slots += [None] if index else []
        slots += [paragraph.strip() for paragraph in re.split(r"\n\s*\n", part) if paragraph.strip()]
    return tuple(slots)


def _wrong_count(item: Item, text: str) -> str:
    """What is wrong with the number of texts, or of their parts, in an answer that is not as asked for; "" if nothing
    is, or if it is no JSON at all."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if isinstance(found, dict) and len(found) == 1 and isinstance(next(iter(found.values())), list):
        found = next(iter(found.values()))
    if not isinstance(found, dict | list):
        return ""
    if len(found) != len(FIELDS):
        return f"{len(found)} texts instead of {len(FIELDS)}"
    parts = part_names(len(item.images))
    levels = found if item.kind == "interleaved" and isinstance(found, dict) else {}
    for name, value in levels.items():
        if isinstance(value, dict | list) and len(value) != len(parts):
            return f"{name} has {len(value)} parts, not {len(parts)} for {len(item.images)} images"
    return ""
