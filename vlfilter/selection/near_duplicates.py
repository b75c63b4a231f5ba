"""Texts that say nearly the same in the same words: MinHash finds them, exact Jaccard similarity decides.

Method: A. Broder, "On the resemblance and containment of documents" (1997), with banded signatures.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

SHINGLE = 3  # words
BANDS, ROWS = 32, 4  # a pair of similarity 0.8 shares a band with a probability of 1 - 5e-8, one of 0.6 of 0.988
_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Words without case and punctuation."""
    return _WORD.findall(text.casefold())


def shingles(words: Sequence[str]) -> frozenset[int]:
    """Hashes of all runs of three words; of the whole where there are fewer."""
    if not words:
        return frozenset()
    runs = range(max(1, len(words) - SHINGLE + 1))
    return frozenset(zlib.crc32(" ".join(words[i : i + SHINGLE]).encode("utf-8", "surrogatepass")) for i in runs)


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """Size of the intersection over that of the union; 0 where both are empty."""
    together = len(one | other)
    return len(one & other) / together if together else 0.0


def near_duplicates(texts: Sequence[str], threshold: float) -> dict[int, tuple[int, float]]:
    """Texts that are as similar as `threshold` (0.6 or more) or more to an earlier one that is kept.

    Returns place → (place of the kept one, similarity). Of texts that are alike the first is kept.
    """
    hashed = [shingles(words_of(text)) for text in texts]
    buckets = _Buckets()
    found: dict[int, tuple[int, float]] = {}
    for place, one in enumerate(hashed):
        if not one:
            continue
        keys = _bands(one)
        best = buckets.nearest(one, keys)
        if best is not None and best[1] >= threshold:
            found[place] = best
        else:
            buckets.add(place, one, keys)
    return found


def near_matches(texts: Sequence[str], others: Sequence[str], threshold: float) -> dict[int, tuple[int, float]]:
    """Texts that are as similar as `threshold` (0.6 or more) or more to one of `others`.

    Returns place → (place of the most similar of the others, the first of several; similarity).
    """
    buckets = _Buckets()
    for place, text in enumerate(others):
        if one := shingles(words_of(text)):
            buckets.add(place, one, _bands(one))
    found = {}
    for place, text in enumerate(texts):
        if one := shingles(words_of(text)):
            best = buckets.nearest(one, _bands(one))
            if best is not None and best[1] >= threshold:
                found[place] = best
    return found


class _Buckets:
    """Sets of shingles by the bands of their signatures."""

    def __init__(self) -> None:
        self._hashed: dict[int, frozenset[int]] = {}
        self._places: dict[bytes, list[int]] = {}

    def add(self, place: int, one: frozenset[int], keys: Sequence[bytes]) -> None:
        self._hashed[place] = one
        for key in keys:
            self._places.setdefault(key, []).append(place)

    def nearest(self, one: frozenset[int], keys: Sequence[bytes]) -> tuple[int, float] | None:
        """(place, similarity) of the most similar one that shares a band; the first of several."""
        near = {place for key in keys for place in self._places.get(key, ())}
        best = max(((jaccard(one, self._hashed[place]), -place) for place in near), default=None)
        return None if best is None else (-best[1], best[0])


_rng = np.random.default_rng(20251015)
_FACTORS = _rng.integers(0, 2**64, BANDS * ROWS, np.uint64) | np.uint64(1)
_TERMS = _rng.integers(0, 2**64, BANDS * ROWS, np.uint64)


def _bands(one: frozenset[int]) -> list[bytes]:
    """The signature's bands, each with its number."""
    values = np.fromiter(one, np.uint64, len(one))
    mixed = values[:, None] * _FACTORS + _TERMS  # wraps at 2**64: a family of hashes by multiplication
    signature = (mixed >> np.uint64(32)).astype(np.uint32).min(axis=0).reshape(BANDS, ROWS)
    return [bytes([band]) + row.tobytes() for band, row in enumerate(signature)]
