"""The exact global top fraction, found by streaming in bounded memory.

Every row that has a value gets a place in one total order, the same for any order of shards and any number of workers,
as three unsigned words compared one after the other, higher first:

1. the value, mapped to 64 bits that sort as the numbers do;
2. a hash of the uid, which breaks ties without favouring anything;
3. the row's position (shard name, then row), only for rows that share both: the same uid twice with the same score.

`top(30%)` keeps exactly `floor(N * 30 / 100)` rows, N being all rows with a value, `top(1000)` the first 1000 (or all).
The last row kept is found by a radix select: a histogram of the word's highest 16 bits says in which of 65,536 buckets
it lies, and the next pass looks only into that one, until the bucket is small enough to be sorted in memory.

`top(30%, datacomp)` does as DataComp's `baselines.py`: `n = int(N * 0.3)`, the threshold is the value at place n,
counted from 0, and all rows at or above it are kept: one more than n without ties, many more with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from vlfilter.data.subset import pack_uids
from vlfilter.selection.nodes import Cut

DIGIT = 16
WORD = 64
WORDS = 3
# At most this many words (16 MiB) are collected for sorting.
COLLECT = 2**21
SIGN = np.uint64(1 << 63)


def sortable(values: np.ndarray) -> np.ndarray:
    """Numbers (no NaN, no -0.0) → unsigned 64-bit words in the same order."""
    if values.dtype == np.uint64:
        return values
    if np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64).view(np.uint64) ^ SIGN
    bits = values.astype(np.float64).view(np.uint64)
    return np.where(bits & SIGN, ~bits, bits | SIGN)


def unsortable(word: int, dtype: np.dtype) -> int | float:
    """The number that `sortable` mapped to this word."""
    if dtype == np.uint64:
        return word
    if np.issubdtype(dtype, np.integer):
        return int((np.array([word], np.uint64) ^ SIGN).view(np.int64)[0])
    bits = np.array([word], np.uint64)
    return float(np.where(bits & SIGN, bits ^ SIGN, ~bits).view(np.float64)[0])


def _mix(words: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), a bijection of 64-bit words."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def uid_hash(uids: pa.ChunkedArray) -> np.ndarray:
    """n uids → n words: `mix(high ^ mix(low + golden ratio))`; uids that are not 32 hex digits enter by BLAKE2b."""
    packed, valid = pack_uids(uids)
    for row in np.flatnonzero(~valid):
        name = (uids[int(row)].as_py() or "").encode()
        digest = hashlib.blake2b(name, digest_size=16).digest()
        packed[row] = (int.from_bytes(digest[:8]), int.from_bytes(digest[8:]))
    return _mix(packed["f0"] ^ _mix(packed["f1"] + np.uint64(0x9E3779B97F4A7C15)))


@dataclass(frozen=True)
class Rows:
    """The rows of one shard that have a value: `values`, their row numbers `index`, and `uids` of row numbers."""

    values: np.ndarray
    index: np.ndarray
    shard: int
    uids: Callable[[np.ndarray], pa.ChunkedArray]

    def word(self, which: int, chosen: np.ndarray, side: str) -> np.ndarray:
        """The words of the chosen rows (indices into `values`)."""
        if which == 0:
            words = sortable(self.values[chosen])
            return ~words if side == "bottom" else words
        if not len(chosen):
            return np.zeros(0, np.uint64)
        if which == 1:
            return uid_hash(self.uids(self.index[chosen]))
        return ~(np.uint64(self.shard << 32) + self.index[chosen].astype(np.uint64))


@dataclass(frozen=True)
class Threshold:
    """What a `top()` came to: of `rows` with a value, `kept` are at or above `cut`; `value` is the last one kept.

    `cut` has up to three words; missing ones are zero. None keeps nothing. `ties` is the number of rows with exactly
    that value when only some of them are kept, else 0.
    """

    side: str
    rows: int
    kept: int
    cut: tuple[int, ...] | None
    value: int | float | None
    ties: int = 0

    def keeps(self, rows: Rows) -> np.ndarray:
        """Which of `rows.values` are kept, n booleans."""
        kept = np.zeros(len(rows.values), bool)
        if self.cut is None:
            return kept
        undecided = np.arange(len(rows.values))
        for which, bound in enumerate(self.cut):
            words = rows.word(which, undecided, self.side)
            kept[undecided[words > np.uint64(bound)]] = True
            undecided = undecided[words == np.uint64(bound)]
            if not len(undecided):
                return kept
        kept[undecided] = True
        return kept


@dataclass
class Search:
    """The radix select for one `top()`, advanced by one pass over all shards at a time.

    `known` are the words of the last kept row found so far, `prefix` the first `bits` bits of the next; `window` rows
    agree with those and `wanted` of them are kept (-1: not yet counted).
    """

    cut: Cut
    known: list[int] = field(default_factory=list)
    prefix: int = 0
    bits: int = 0
    wanted: int = 0
    window: int = -1
    result: Threshold | None = None
    _rows: int = 0
    _keep: int = 0
    _ties: int = 0
    _dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float64))
    _counts: np.ndarray = field(default_factory=lambda: np.zeros(1 << DIGIT, np.int64))
    _collected: list[np.ndarray] = field(default_factory=list)

    @property
    def collecting(self) -> bool:
        return 0 <= self.window <= COLLECT

    def look(self, rows: Rows) -> tuple[np.dtype, np.ndarray]:
        """One shard's part of this pass: words of the window, or their histogram. Changes nothing."""
        chosen = np.arange(len(rows.values))
        for which, word in enumerate(self.known):
            chosen = chosen[rows.word(which, chosen, self.cut.side) == np.uint64(word)]
        words = rows.word(len(self.known), chosen, self.cut.side)
        if self.bits:
            words = words[words >> np.uint64(WORD - self.bits) == np.uint64(self.prefix)]
        if self.collecting:
            return rows.values.dtype, words
        digits = (words >> np.uint64(WORD - self.bits - DIGIT)) & np.uint64((1 << DIGIT) - 1)
        return rows.values.dtype, np.bincount(digits.astype(np.int64), minlength=1 << DIGIT)

    def add(self, part: tuple[np.dtype, np.ndarray]) -> None:
        self._dtype = part[0]
        if self.collecting:
            self._collected.append(part[1])
        else:
            self._counts += part[1]

    def advance(self) -> None:
        """End of a pass: narrow the window, or finish."""
        if self.window < 0:
            self._start(int(self._counts.sum()))
            if self.result:
                return
        if self.collecting:
            words = np.concatenate(self._collected)
            self._collected = []
            last = int(np.partition(words, len(words) - self.wanted)[len(words) - self.wanted])
            self._finish_word(last, int((words > np.uint64(last)).sum()), int((words == np.uint64(last)).sum()))
        else:
            self._narrow()
            if self.bits == WORD:
                self._finish_word(self.prefix, 0, self.window)

    def _start(self, rows: int) -> None:
        self._rows = rows
        if self.cut.share is None:
            keep = min(self.cut.count or 0, rows)
        else:
            keep = int(rows * float(self.cut.share)) if self.cut.datacomp else int(rows * self.cut.share)
        if self.cut.datacomp:
            keep = min(keep + 1, rows)
        self._keep = self.wanted = keep
        if not keep:
            self.result = Threshold(self.cut.side, rows, 0, None, None)

    def _narrow(self) -> None:
        reached = np.cumsum(self._counts[::-1])
        place = int(np.searchsorted(reached, self.wanted))
        digit = (1 << DIGIT) - 1 - place
        self.wanted -= int(reached[place] - self._counts[digit])
        self.window = int(self._counts[digit])
        self.prefix = self.prefix << DIGIT | digit
        self.bits += DIGIT
        self._counts = np.zeros(1 << DIGIT, np.int64)

    def _finish_word(self, last: int, higher: int, equal: int) -> None:
        """The word of the last kept row is `last`; of the window, so many rows have a higher and an equal one."""
        self.wanted -= higher
        self.window = equal
        self.known.append(last)
        self.prefix, self.bits = 0, 0
        if len(self.known) == 1:
            self._ties = self.window
        if self.cut.datacomp:
            self._keep += self.window - self.wanted
            self.wanted = self.window
        if self.wanted == self.window or len(self.known) == WORDS:
            word = self.known[0] if self.cut.side == "top" else ~self.known[0] & (2**WORD - 1)
            value = unsortable(word, self._dtype)
            ties = self._ties if len(self.known) > 1 else 0
            self.result = Threshold(self.cut.side, self._rows, self._keep, tuple(self.known), value, ties)


def run_passes(searches: Sequence[Search], one_pass: Callable[[list[Search]], None]) -> list[Threshold]:
    """Advance all searches together until each has its threshold; `one_pass` feeds every shard to `look` and `add`."""
    while unfinished := [search for search in searches if not search.result]:
        one_pass(unfinished)
        for search in unfinished:
            search.advance()
    return [search.result for search in searches if search.result]
