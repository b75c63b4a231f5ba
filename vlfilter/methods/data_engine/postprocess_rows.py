"""One generated reply → one training row in A-OKVQA's format, or the reason why there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from vlfilter.methods.data_engine.cleaning import clean_compat, clean_fixed
from vlfilter.methods.data_engine.replies import Drop, DropError, Reply, read_compat, read_fixed

Mode = Literal["compat", "fixed"]
MODES: tuple[Mode, ...] = ("compat", "fixed")

_COMPAT_BOX_WORDS = re.compile(r"coordinates?|bounding box")
_FIXED_BOX_WORDS = re.compile(r"\b(coordinates?|bounding box(es)?)\b")
_COMPAT_SKIP = re.compile(r"[Ss]kip")
# The prompt asks to state 'Skip': written large, in quotes, or first of all. "They skip rope" is none of these.
_FIXED_SKIP = re.compile(r"""\b(Skip|SKIP)\b|['"‘“]skip['"’”]|\A\W*skip\b""")
_LOCATED = re.compile(r"located at\s*\[")


def process(text: str, mode: Mode) -> Reply:
    """The cleaned parts of a reply. Raises `DropError`.

    `compat` gives what the original gives, a reason where that ends with an error; `fixed` mends its known defects.
    """
    fixed = mode == "fixed"
    if found := (_FIXED_BOX_WORDS if fixed else _COMPAT_BOX_WORDS).search(text):
        raise DropError(Drop.COORDINATES, f"it speaks of {found[0]!r}")
    if found := (_FIXED_SKIP if fixed else _COMPAT_SKIP).search(text):
        raise DropError(Drop.SKIP, f"it says {found[0].strip()!r}")
    reply = read_fixed(text) if fixed else read_compat(text)
    if any(_LOCATED.search(part) for part in reply.texts):
        raise DropError(Drop.LOCATED_AT_BOX, "it says 'located at' with a box")
    clean = clean_fixed if fixed else clean_compat
    reply = Reply(
        clean(reply.question), tuple(clean(part) for part in reply.choices), reply.correct, clean(reply.rationale)
    )
    if "description" in reply.rationale.lower():
        raise DropError(Drop.DESCRIPTION, "the rationale speaks of a description")
    if fixed:
        _check(reply)
    return reply


def _check(reply: Reply) -> None:
    """What training would stumble over, or learn wrongly."""
    if not reply.question:
        raise DropError(Drop.NO_QUESTION, "nothing of the question is left without its boxes")
    if "" in reply.choices:
        raise DropError(Drop.EMPTY_CHOICE, f"choice {'ABCDEFGHIJ'[reply.choices.index('')]} is empty")
    folded = [choice.casefold() for choice in reply.choices]
    if len(set(folded)) < len(folded):
        twice = next(choice for place, choice in enumerate(folded) if choice in folded[:place])
        raise DropError(Drop.SAME_CHOICES, f"two choices are {twice!r}")


def process_row(row: Any, mode: Mode) -> dict[str, Any]:
    """A row of gptvqa_result.jsonl → a row of gptvqa_train_data.json, with its own fields first. Raises `DropError`.

    An answer that was cut off at its longest is dropped in `fixed`: what is missing may be what matters.
    """
    if not isinstance(row, Mapping):
        raise DropError(Drop.BAD_ROW, "the row is not an object")
    text = row.get("raw_instructions")
    if not isinstance(text, str):
        raise DropError(Drop.BAD_ROW, "raw_instructions is not a text")
    cut = bool(row.get("truncated"))
    if cut and mode == "fixed":
        raise DropError(Drop.TRUNCATED, "the answer was cut off at its longest")
    reply = process(text, mode)
    told = {name: value for name, value in row.items() if name != "truncated"}
    return told | {
        "question": reply.question,
        "choices": list(reply.choices),
        "correct_choice_idx": reply.correct,
        "rationales": [reply.rationale],
    }
