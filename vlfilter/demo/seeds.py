"""Independent streams of random numbers from one seed."""

from __future__ import annotations

import random


def stream(seed: int, name: str) -> random.Random:
    """The same numbers for the same seed and name, other ones for another name, whatever else was drawn before."""
    return random.Random(f"{seed}/{name}")  # noqa: S311 - made for repetition, not for secrets
