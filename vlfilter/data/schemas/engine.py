"""The data engine's published rows, asked for an answer in words (da) or for an option's letter (mc, mcp)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from vlfilter.data.aokvqa import LETTERS
from vlfilter.data.schemas.base import (
    Example,
    How,
    LeftOutError,
    Mode,
    Schema,
    fields,
    id_of,
    image_of,
    lists,
    text,
    worded,
)

DIRECTLY = "Answer with the option's letter from the given choices directly."
LETTER_NAMES = ("choice_answer", "choide_answer")  # the second as the data's README prints it


def _direct(row: Any, how: How) -> Example:
    row = fields(row)
    asked, said = how.text(text(row, "instruction")), how.text(text(row, "answer"))
    return Example(id_of(row, "id"), image_of(row, "image"), (asked,), (said,))


def _chosen(row: Any, how: How) -> Example:
    row = fields(row)
    return _lettered(row, *_options(row), how.mode)


def _shuffled(row: Any, how: How) -> Example:
    row = fields(row)
    options, place = shuffle(*_options(row), random.Random(f"{how.key} options"), how.mode)  # noqa: S311
    return _lettered(row, options, place, how.mode)


def shuffle(options: Sequence[str], place: int, rng: random.Random, mode: Mode) -> tuple[list[str], int]:
    """The options in another order, and where the one at `place` is now. Of two that read alike the original takes
    the first (compat)."""
    order = list(range(len(options)))
    rng.shuffle(order)
    moved = [options[old] for old in order]
    return moved, moved.index(options[place]) if mode == "compat" else order.index(place)


def _options(row: Any) -> tuple[list[str], int]:
    """The options and the right one's place. Any text is an option, `None` in letters too."""
    told = row.get("options")
    if told is None or told == []:
        raise LeftOutError("it has no options")
    if not isinstance(told, list):
        raise ValueError("options is not a list")
    if not 2 <= len(told) <= len(LETTERS):
        raise ValueError(f"{len(told)} options are not between 2 and {len(LETTERS)}")
    options = [worded(option, f"option {LETTERS[i]}") for i, option in enumerate(told)]
    letter = next((row[name] for name in LETTER_NAMES if row.get(name) is not None), None)
    if letter is None:
        raise LeftOutError("it has no choice_answer")
    known = LETTERS[: len(options)]
    place = known.find(letter.strip().upper()) if isinstance(letter, str) and len(letter.strip()) == 1 else -1
    if place < 0:
        raise ValueError(f"choice_answer {letter!r} is no letter from A to {known[-1]}")
    return options, place


def _lettered(row: Any, options: Sequence[str], place: int, mode: Mode) -> Example:
    """The question with a line an option. The original's text processor makes the letter a small one (compat)."""
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    asked = "\n".join([text(row, "instruction"), *lines, DIRECTLY])
    letter = LETTERS[place].lower() if mode == "compat" else LETTERS[place]
    return Example(id_of(row, "id"), image_of(row, "image"), (asked,), (letter,))


ENGINE_DA = Schema(lists, _direct, "question")
ENGINE_MC = Schema(lists, _chosen, "question")
ENGINE_MCP = Schema(lists, _shuffled, "question")
