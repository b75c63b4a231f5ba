"""Conversations about COCO's images (LLaVA's, the multi-task ones), and instructions without an image."""

from __future__ import annotations

from typing import Any

from vlfilter.data.schemas.base import Example, How, Schema, fields, id_of, image_of, lists, text, worded

PLACEHOLDER = "<image>"


def _turns(row: Any, how: How) -> tuple[str, list[str]]:
    """The first question without the image's placeholder, and all that is said after it."""
    told = row.get("conversations")
    if not isinstance(told, list) or len(told) < 2:
        raise ValueError("it has no conversations")
    said = [worded(turn.get("value") if isinstance(turn, dict) else None, f"turn {i}") for i, turn in enumerate(told)]
    if len(said) % 2:
        raise ValueError("the last question has no answer")
    first = said[0].replace(PLACEHOLDER, "")
    first = (first.replace("\n", "") if how.mode == "compat" else first).strip()
    if not first:
        raise ValueError("its first question is empty")
    return first, said[1:]


def _conversation(row: Any, how: How) -> Example:
    row = fields(row)
    first, said = _turns(row, how)
    later = tuple(zip(said[1::2], said[2::2], strict=True))
    return Example(id_of(row, "id"), image_of(row, "id"), (first,), (said[0],), later)


def _exchange(row: Any, how: How) -> Example:
    """The first question and its answer; whatever follows is not taken, as published."""
    row = fields(row)
    first, said = _turns(row, how)
    return Example(id_of(row, "id"), image_of(row, "id"), (how.text(first),), (said[0],))


def _instruction(row: Any, how: How) -> Example:
    row = fields(row)
    instances = row.get("instances")
    if not isinstance(instances, list) or not instances:
        raise ValueError("it has no instances")
    told = fields(instances[0])
    asked, limits = text(told, "instruction_with_input"), told.get("constraints") or ""
    whole = f"{asked} {limits}" if isinstance(limits, str) else asked
    return Example(id_of(row, "id"), None, (how.text(whole),), (how.text(text(told, "output")),))


NAME = "COCO_train2014_{image}.jpg"  # LLaVA's ids have their leading zeros
CONVERSATION = Schema(lists, _conversation, "text", NAME)
EXCHANGE = Schema(lists, _exchange, "text", NAME)
UNNATURAL = Schema(lists, _instruction, "text", None)
