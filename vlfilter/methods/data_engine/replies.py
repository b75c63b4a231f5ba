"""A generator's reply → question, choices, answer and rationale, as the original reads it and as it should have.

Both start from the same form: `Question: … Choices: (A) … (B) … Answer: The answer is (X): … Explanation: …`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

LETTERS = "ABCDE"  # what the original takes for an answer
COMPAT_EXPLANATIONS = (  # the first of these that occurs, in this order
    "Explanation:",
    "Reason:",
    "Reasoning:",
    "Lecture:",
    "Explanatory note:",
    "Explaination:",
)
FIXED_EXPLANATIONS = (*COMPAT_EXPLANATIONS, "Explanations:", "Reasons:", "Rationale:")


class Drop(StrEnum):
    """Why a reply becomes no row."""

    TRUNCATED = "truncated"
    COORDINATES = "coordinates"
    SKIP = "skip"
    NO_QUESTION = "no_question"
    NO_CHOICES = "no_choices"
    TOO_FEW_CHOICES = "too_few_choices"
    EMPTY_CHOICE = "empty_choice"
    SAME_CHOICES = "same_choices"
    NO_ANSWER = "no_answer"
    BAD_LETTER = "bad_letter"
    LOCATED_AT_BOX = "located_at_box"
    DESCRIPTION = "description"
    BAD_ROW = "bad_row"


class DropError(Exception):
    """This reply becomes no row; `reason` says more than `status`."""

    def __init__(self, status: Drop, reason: str):
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Reply:
    """The parts of a reply; `correct` is a place in `choices`, in the original's reading perhaps outside of them."""

    question: str
    choices: tuple[str, ...]
    correct: int
    rationale: str

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.question, *self.choices, self.rationale)


def read_compat(text: str) -> Reply:
    """As the original reads it, its slips included. Raises `DropError`, also where the original ends with an error.

    A label that is missing counts as found one character before the end, as Python slices by -1.
    """
    question, choices, answer = (text.find(label) for label in ("Question:", "Choices:", "Answer:"))
    explained = next((place for label in COMPAT_EXPLANATIONS if (place := text.find(label)) >= 0), -1)
    listed = _compat_choices(text[choices + len("Choices:") : answer])
    if not listed:
        raise DropError(Drop.NO_CHOICES, "no choices between 'Choices:' and 'Answer:'")
    correct = _compat_letter(text[answer:explained])
    whole = min(question, choices, answer, explained) >= 0
    rationale = text[explained:] if whole else text.split("\n")[-1]
    return Reply(text[question + len("Question:") : choices].strip(), listed, correct, rationale)


def _compat_choices(text: str) -> tuple[str, ...]:
    """What follows each `)`, up to the next `(`: a choice with brackets of its own is cut, an empty one is lost."""
    found = [part.split("(", 1)[0].strip() for part in _behind_brackets(text)]
    return tuple(choice.removesuffix(".") for choice in found if choice)


def _behind_brackets(text: str) -> list[str]:
    return [text[place + 1 :] for place, char in enumerate(text) if char == ")"]


def _compat_letter(text: str) -> int:
    opened = text.find("(")
    if opened < 0:
        raise DropError(Drop.NO_ANSWER, "no '(' between 'Answer:' and the explanation")
    letter = text[opened + 1 : text.find(")", opened)].upper()
    return _place(letter)


def _place(letter: str) -> int:
    if len(letter) != 1 or letter not in LETTERS:
        raise DropError(Drop.BAD_LETTER, f"the answer's letter is {letter[:40]!r}, not one of A to E")
    return LETTERS.index(letter)


_BOLD = re.compile(r"\*\*(.*?)\*\*", re.DOTALL)
_LETTERED = r"\({}\)"
_HALF_LETTERED = r"(?:(?<=\s)|^){}\)"
_ANSWER = re.compile(r"\(\s*([A-Za-z])\s*\)")


def read_fixed(text: str) -> Reply:
    """Choices by their letters, so that brackets, empty choices and `A)` are read right; bold type is no text.

    Raises `DropError` for what no repair can decide: an empty choice, a letter that no choice has.
    """
    text = _BOLD.sub(r"\1", text)
    question, choices, answer = (text.find(label) for label in ("Question:", "Choices:", "Answer:"))
    if choices < 0:
        raise DropError(Drop.NO_CHOICES, "no 'Choices:'")
    if answer < 0:
        raise DropError(Drop.NO_ANSWER, "no 'Answer:'")
    if answer < choices:
        raise DropError(Drop.NO_ANSWER, "'Answer:' stands before 'Choices:'")
    explained = next((place for label in FIXED_EXPLANATIONS if (place := text.find(label)) >= 0), -1)
    if 0 <= explained < answer:
        raise DropError(Drop.NO_ANSWER, "the explanation stands before 'Answer:'")
    asked = _fixed_question(text[:choices], question)
    listed = _fixed_choices(text[choices + len("Choices:") : answer])
    correct = _fixed_letter(text[answer : explained if explained >= 0 else None], len(listed))
    return Reply(asked, listed, correct, text[explained:] if explained >= 0 else text.split("\n")[-1])


def _fixed_question(text: str, label: int) -> str:
    """What follows the label; without one, the last line if it is a question."""
    if label >= 0:
        asked = text[label + len("Question:") :].strip()
    else:
        asked = (text.strip().splitlines() or [""])[-1].strip()
        if not asked.endswith("?"):
            raise DropError(Drop.NO_QUESTION, "no 'Question:', and no question before the choices")
    if not asked:
        raise DropError(Drop.NO_QUESTION, "there is no text between 'Question:' and 'Choices:'")
    return asked


def _fixed_choices(text: str) -> tuple[str, ...]:
    marks = _marks(text, _LETTERED) or _marks(text, _HALF_LETTERED)
    if not marks:
        raise DropError(Drop.NO_CHOICES, "no '(A)' after 'Choices:'")
    ends = [start for start, _ in marks[1:]] + [len(text)]
    listed = tuple(text[start:end].strip().removesuffix(".") for (_, start), end in zip(marks, ends, strict=True))
    if len(listed) < 2:
        raise DropError(Drop.TOO_FEW_CHOICES, "there is one choice only")
    return listed


def _marks(text: str, form: str) -> list[tuple[int, int]]:
    """(start, end) of `A`, then of the first `B` behind it, and so on."""
    marks: list[tuple[int, int]] = []
    at = 0
    for letter in "ABCDEFGHIJ":
        found = re.compile(form.format(letter), re.IGNORECASE).search(text, at)
        if found is None:
            break
        marks.append(found.span())
        at = found.end()
    return marks


def _fixed_letter(text: str, choices: int) -> int:
    opened = text.find("(")
    if opened < 0:
        raise DropError(Drop.NO_ANSWER, "no '(' between 'Answer:' and the explanation")
    found = _ANSWER.match(text, opened)
    place = _place(found[1].upper() if found else text[opened + 1 : opened + 41].split(")")[0])
    if place >= choices:
        raise DropError(Drop.BAD_LETTER, f"the answer is {LETTERS[place]}, but there are {choices} choices")
    return place
