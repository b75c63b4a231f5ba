"""Braces in a spec, as shells and webdataset write them: `{00000..00099}`, `{a,b}`, nested."""

from __future__ import annotations

import re
from itertools import product

from vlfilter.errors import VlfilterError

MAX_EXPANSIONS = 1_000_000
_RANGE = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")


def expand_braces(text: str) -> list[str]:
    """Every text that the braces stand for, in order; zero padding is kept. Other braces stay as they are.

    Raises `VlfilterError` for more than `MAX_EXPANSIONS`.
    """
    parts = _parts(text)
    count = 1
    for part in parts:
        count *= len(part)
    if count > MAX_EXPANSIONS:
        raise VlfilterError(
            f"{text!r} stands for {count} names, more than {MAX_EXPANSIONS}: use a glob or a directory."
        )
    return ["".join(chosen) for chosen in product(*parts)]


def _parts(text: str) -> list[list[str]]:
    """Literal pieces and choices, in order."""
    parts: list[list[str]] = []
    position = 0
    while (start := text.find("{", position)) >= 0:
        end = _closing(text, start)
        choices = _choices(text[start + 1 : end]) if end else None
        if end is None or choices is None:
            parts.append([text[position : start + 1]])
            position = start + 1
        else:
            parts += [[text[position:start]], choices]
            position = end + 1
    parts.append([text[position:]])
    return parts


def _closing(text: str, start: int) -> int | None:
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return i
    return None


def _choices(inside: str) -> list[str] | None:
    """What `{inside}` stands for; None where it is no list and no range."""
    if match := _RANGE.fullmatch(inside):
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1) or 1
        if abs(last - first) // step >= MAX_EXPANSIONS:
            raise VlfilterError(f"{{{inside}}} stands for more than {MAX_EXPANSIONS} names: use a glob or a directory.")
        padded = any(len(end) > 1 and end.startswith("0") for end in (match[1], match[2]))
        width = max(len(match[1]), len(match[2])) if padded else 0
        numbers = range(first, last + 1, step) if last >= first else range(first, last - 1, -step)
        return [f"{number:0{width}d}" for number in numbers]
    pieces, depth, begin = [], 0, 0
    for i, character in enumerate(inside):
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            pieces.append(inside[begin:i])
            begin = i + 1
    if not pieces:
        return None
    return [text for piece in [*pieces, inside[begin:]] for text in expand_braces(piece)]
