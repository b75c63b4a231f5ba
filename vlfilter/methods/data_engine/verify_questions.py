"""What the two judges are asked about a generated question: one sees the image, one must do without it.

Both get the question and its choices in an order drawn for this row, and neither the answer nor the rationale.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlfilter.data.aokvqa import LETTERS, VqaRow, choices_text
from vlfilter.llm.types import Answer, Image, Outcome, Request

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and `order`: the choice that stands behind each of its letters."""

    request: Request
    order: tuple[int, ...]


def order_of(row: VqaRow, seed: int, turn: int) -> tuple[int, ...]:
    """The choices' places in the order they are shown in; `turn` tells the askings of one row apart.

    It depends on the question and its choices only, so a row keeps its order wherever it stands in a file. Two turns of
    the text-only judge never show the right choice at the same letter.
    """
    text = "\x00".join((str(seed), row.question, *row.choices))
    state = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    drawn = random.Random(state)  # noqa: S311 - shuffles, keeps no secret
    image_order, first, second = (drawn.sample(range(len(row.choices)), len(row.choices)) for _ in range(3))
    if second.index(row.correct_choice_idx) == first.index(row.correct_choice_idx):
        second = [*second[1:], second[0]]
    return tuple((image_order, first, second)[turn])


def ask_with_image(row: VqaRow, image: Image, seed: int, max_tokens: int, labels: Mapping[str, str]) -> Asked:
    order = order_of(row, seed, 0)
    prompt = (
        "Look at the image and answer the question with one of the choices. Go by what the image shows.\n"
        f"{_question(row, order)}"
        f'Give the letter of the right choice, or "{UNKNOWN}" if the image does not decide it, or if no choice or '
        "more than one choice is right."
    )
    return Asked(_request(prompt, len(order), (image,), max_tokens, {**labels, "step": "verify-image"}), order)


def ask_without_image(row: VqaRow, seed: int, turn: int, max_tokens: int, labels: Mapping[str, str]) -> Asked:
    """`turn` is 1 or 2."""
    order = order_of(row, seed, turn)
    prompt = (
        "This question was asked about an image that you cannot see.\n"
        f"{_question(row, order)}"
        "If its words or common knowledge alone tell which choice is right, give its letter. "
        f'If one would have to see the image, give "{UNKNOWN}".'
    )
    return Asked(_request(prompt, len(order), (), max_tokens, {**labels, "step": "verify-text"}), order)


def _question(row: VqaRow, order: Sequence[int]) -> str:
    return f"Question: {row.question}\nChoices: {choices_text([row.choices[place] for place in order])}\n"


def _request(prompt: str, choices: int, images: tuple[Image, ...], max_tokens: int, labels: dict[str, str]) -> Request:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": [*LETTERS[:choices], UNKNOWN]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    return Request(prompt, images, schema=schema, max_tokens=max_tokens, labels=labels)


def choice_of(asked: Asked, answer: Answer) -> int | None:
    """The place of the choice that the judge took, in the row's own order; None for "unknown" and for no answer."""
    if answer.outcome != Outcome.ANSWERED or answer.data["answer"] == UNKNOWN:
        return None
    return asked.order[LETTERS.index(answer.data["answer"])]
