"""A judge's answer → the score in it, 0 to 10.

`strict` reads the first number. `original` reads as the published script does, its faults included: "8 out of 10" is
10, 85 and -5 are scores, and so are "nan" and "inf"; "Score:8" and "**8**" are none.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from vlfilter.errors import VlfilterError

Parser = Literal["strict", "original"]
BEST = 10.0

_SCALE = re.compile(r"\b[01]\s*(?:to|[-–—])\s*10\b(?!\s*/)", re.IGNORECASE)  # "on a scale of 0 to 10"
# not within a word ("GPT4", "gpt-4"); thousands, decimal commas, dates and versions are taken whole, to be refused
_NUMBER = re.compile(r"(?<!\w)(?<!\w-)(?P<number>[-−+]?(?:\d+(?:[.,_:]\d+)*|\.\d+))")
_OUT_OF = re.compile(r"\s*(?:/|(?:out\s+)?of\b)\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
_RANGE = re.compile(r"\s*(?:[-–—]|to\b|or\b)\s*\d", re.IGNORECASE)


class NoScoreError(Exception):
    """Why an answer holds no score."""


def check_parser(name: str) -> Parser:
    """Raises `VlfilterError` for an unknown name."""
    for known in get_args(Parser):
        if name == known:
            return known
    raise VlfilterError(f"parser {name!r} is unknown: {', '.join(get_args(Parser))}.")


def read_score(answer: str | None, parser: Parser) -> float:
    """Raises `NoScoreError`. With `original` it may be any float, NaN and infinities too."""
    if answer is None:
        raise NoScoreError("there is no answer")
    return _original(answer) if parser == "original" else _strict(answer)


def _original(answer: str) -> float:
    """First line, what stands before its first slash, of that what stands behind the last blank."""
    line = answer.strip().split("\n")[0]
    word = line.split("/")[0].split(" ")[-1]
    try:
        return float(word)
    except ValueError:
        raise NoScoreError(f"{_short(word)} is no number") from None


def _strict(answer: str) -> float:
    text = _SCALE.sub(" ", answer)
    found = _NUMBER.search(text)
    if found is None:
        raise NoScoreError(f"there is no number in {_short(answer)}")
    number, rest = found["number"], text[found.end() :]
    if re.search(r"[,_:]|\..*\.", number) or rest[:1].isalnum() or rest[:1] in ("_", "%"):
        raise NoScoreError(f"{_short(number + rest)} begins with no plain number")
    if _RANGE.match(rest):
        raise NoScoreError(f"{_short(number + rest)} is a range")
    scale = _OUT_OF.match(rest)
    if scale and float(scale[1]) != BEST:
        raise NoScoreError(f"{_short(number + rest)} is on a scale of {scale[1]}, not 10")
    value = float(number.replace("−", "-"))
    if not 0 <= value <= BEST:
        raise NoScoreError(f"{number} is not between 0 and 10")
    return value


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else f"{line[:60]} …")
