"""Texts as MiniGPT-v2's data sets write them: its text processor, and boxes in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

MAX_WORDS = 50
BOUND = 1e9  # of a number of pixels
_MARKS = re.compile(r"[.!\"()*#:;~]")
_RUNS = re.compile(r"\s{2,}")


def blip_caption(words: str) -> str:
    """LAVIS's `blip_caption`: lower case, some marks are blanks, and nothing after the fiftieth word.

    Applied twice it gives the same as once.
    """
    plain = _RUNS.sub(" ", _MARKS.sub(" ", words.lower())).rstrip("\n").strip(" ")
    return " ".join(plain.split(" ")[:MAX_WORDS])


def box_text(box: Any, width: Any, height: Any, mode: Literal["compat", "fixed"]) -> str:
    """`{<x1><y1><x2><y2>}` of a box (left, top, width, height) in pixels: whole hundredths of the image, cut and not
    rounded. `fixed` keeps them between 0 and 100, which the original does not. Raises `ValueError` for what is none.
    """
    if not isinstance(box, Sequence) or len(box) != 4 or not all(_number(value) for value in box):
        raise ValueError("its box is not four numbers")
    if not (_number(width) and _number(height) and width >= 1 and height >= 1):
        raise ValueError("its image has no width and height")
    left, top, wide, high = box
    share = (left / width, top / height, (left + wide) / width, (top + high) / height)
    whole = [int(100 * part) for part in share]
    if mode == "fixed":
        whole = [min(100, max(0, part)) for part in whole]
    return "{" + "".join(f"<{part}>" for part in whole) + "}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < BOUND  # nan is not below it
