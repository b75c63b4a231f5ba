"""What a model or a teacher answered, read as a whole number from 0 to 100."""

from __future__ import annotations

import re

_END = r"(?![0-9_]|\.[0-9])"
_NUMBER = re.compile(rf"[\s,;+*]*([0-9]{{1,3}}){_END}")
_LABELLED = re.compile(rf"[\s*]*(?:[a-z][a-z -]{{0,60}}\s)?score[\s*]*[:=][\s*]*([0-9]{{1,3}}){_END}", re.IGNORECASE)


def read_score(text: str) -> int | None:
    """The number from 0 to 100 that the first line of text starts with, or None.

    Agrees with the published reader wherever that gives 0 to 100, but for "8_5". `Score: 85` and `**85**` count too.
    """
    published = read_original(text)
    if published is not None and 0 <= published <= 100 and "_" not in text.split("\n", 1)[0]:
        return published
    first = text.strip().split("\n", 1)[0]
    match = _NUMBER.match(first) or _LABELLED.match(first)
    value = int(match[1]) if match else None
    return value if value is not None and value <= 100 else None


def rationale(text: str) -> str:
    """What follows the number of an answer (`85`, a line break, the explanation); all of it where there is none."""
    text = text.strip()
    first, _, rest = text.partition("\n")
    match = _NUMBER.match(first) or _LABELLED.match(first)
    return f"{first[match.end() :].lstrip(' .,:;*')}\n{rest}".strip() if match else text


def read_original(text: str) -> int | None:
    """The published selection's reader (Open-Qwen2VL's fork of DataComp): the first line less commas, then semicolons.

    Accepts what Python's int accepts, so "8_5" is 85 and "-3" is -3; nothing is clamped.
    """
    try:
        return int(text.split("\n")[0].strip(",").strip(";"))
    except ValueError:
        return None
