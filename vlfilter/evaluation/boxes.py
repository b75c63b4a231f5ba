"""Boxes in answers, as MiniGPT-v2 writes them: `{<x1><y1><x2><y2>}` in hundredths of width and height."""

from __future__ import annotations

import re
from collections.abc import Sequence

RESOLUTION = 100
_NUMBER = re.compile(r"\d+")

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels


def read_box(text: str, width: float, height: float) -> Box | None:
    """The first four numbers of a text as a box in an image of that size; None where there are fewer."""
    numbers = [int(number) for number in _NUMBER.findall(text)[:4]]
    if len(numbers) < 4:
        return None
    x1, y1, x2, y2 = (number / RESOLUTION for number in numbers)
    return x1 * width, y1 * height, x2 * width, y2 * height


def iou(one: Sequence[float], two: Sequence[float]) -> float:
    """Intersection over union as published: the last pixel is part of a box, so its sides are one longer."""
    across = min(one[2], two[2]) - max(one[0], two[0]) + 1
    down = min(one[3], two[3]) - max(one[1], two[1]) + 1
    shared = max(0.0, across) * max(0.0, down)
    return shared / (_area(one) + _area(two) - shared)


def _area(box: Sequence[float]) -> float:
    return max(0.0, box[2] - box[0] + 1) * max(0.0, box[3] - box[1] + 1)
