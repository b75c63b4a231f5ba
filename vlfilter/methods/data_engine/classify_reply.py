"""The classifier's prompt and its reply: one type a line, and a broken line costs that line only.

Prompt: MLLM-DataEngine's pre-step (opendatalab, Apache-2.0), to the last blank. Its example labels contradict its own
list (6 is another type, OCR is none); the published types were made with it, so it stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vlfilter.methods.data_engine.question_types import QUESTION_TYPES, TYPE_KEYS, key_of, words_of

_INDENT = "    "  # the script's own, in front of every line but the first


def classify_prompt(questions: Sequence[str]) -> str:
    """The prompt for up to 50 questions, numbered from 1."""
    types = "".join(f"{_INDENT}({kind.number}) {kind.name}: {kind.definition} \n" for kind in QUESTION_TYPES)
    numbered = "".join(f"{number}. {question}\n" for number, question in enumerate(questions, 1))
    return (
        "You are an AI assistant that can do text categorization.\n\n"
        f"{_INDENT}Goals:\n"
        f"{_INDENT}I will give you some questions, you should classify them into one of the following question types:\n"
        f"{types}\n"
        f"{_INDENT}The questions to be classified:\n"
        f"{_INDENT}{numbered}\n"
        f"{_INDENT}Here is an example of your response:\n"
        f"{_INDENT}1. (6) Physical relation\n"
        f"{_INDENT}2. (15) OCR\n"
        f"{_INDENT}3. ...\n"
        f"{_INDENT}"
    )


@dataclass(frozen=True, slots=True)
class NoType:
    """Why a question has no type."""

    reason: str


_LINE = re.compile(r"\W*(\d{1,9})\s*[.):]\s*(.*)", re.DOTALL)
_NUMBER = re.compile(r"\W*\d{1,9}\W*\)\W*|\W+")
_NAMES = sorted(TYPE_KEYS, key=len, reverse=True)


def read_types(reply: str, count: int) -> list[str | NoType]:
    """For each of `count` questions its type's key, or why there is none.

    What the original takes from a line is taken; where it would end the job, the line is read with more patience (no
    brackets, bold type, words behind the name) or left out. Its number says whose line it is, and the words say which
    type, not the number in brackets. Two lines of one number with different types count for neither.
    """
    found: dict[int, set[str]] = {}
    odd: dict[int, str] = {}
    for line in reply.strip().split("\n"):
        parsed = _LINE.match(line.strip())
        if parsed is None or not 1 <= int(parsed[1]) <= count:
            continue
        number = int(parsed[1])
        key = _strict(line) or _patient(parsed[2])
        if key is None:
            odd.setdefault(number, parsed[2].strip())
        else:
            found.setdefault(number, set()).add(key)
    return [_one(found.get(number, set()), odd.get(number)) for number in range(1, count + 1)]


def _one(keys: set[str], odd: str | None) -> str | NoType:
    if len(keys) == 1:
        return next(iter(keys))
    if keys:
        return NoType(f"it has several types: {', '.join(sorted(keys))}")
    return NoType("no line has its number" if odd is None else f"no type is called {odd[:60]!r}")


def _strict(line: str) -> str | None:
    """The original's own way through a line."""
    try:
        key = key_of(line.split(".")[1].split("(")[1].split(")")[1])
    except IndexError:
        return None
    return key if key in TYPE_KEYS else None


def _patient(text: str) -> str | None:
    """The type whose name the text begins with, behind a number in brackets or signs."""
    numbered = _NUMBER.match(text)
    said = text[numbered.end() :] if numbered else text
    said = " ".join(said.replace("_", " ").lower().split())
    for key in _NAMES:
        name = words_of(key)
        if said.startswith(name) and not said[len(name) : len(name) + 1].isalnum():
            return key
    return None
