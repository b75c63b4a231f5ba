"""Which images are nearly the same (resized, recompressed, retouched), so that none stands on both sides of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

BITS_APART = 3  # of 64; four bands of 16 bits find every pair that is no further apart
THUMBNAIL = 8
COLOURS_APART = 8.0  # mean absolute difference of thumbnails, of 255
_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Looks:
    """`gradient` holds 64 signs of brightness from left to right, `thumbnail` 8 × 8 RGB values."""

    gradient: int
    thumbnail: bytes


def looks(image: Image.Image) -> Looks:
    """What an RGB image looks like from afar. Source: the "difference hash" of image search tools."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = (grey[:, 1:] > grey[:, :-1]).ravel()
    small = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return Looks(int.from_bytes(np.packbits(bits).tobytes(), "big"), small.tobytes())


class Groups:
    """Union-find over numbers from 0 to `count` - 1; a group goes by its smallest member."""

    def __init__(self, count: int):
        self._above = list(range(count))

    def find(self, member: int) -> int:
        while self._above[member] != member:
            self._above[member] = self._above[self._above[member]]
            member = self._above[member]
        return member

    def join(self, one: int, other: int) -> None:
        first, second = self.find(one), self.find(other)
        self._above[max(first, second)] = min(first, second)


def alike(seen: Sequence[Looks]) -> Groups:
    """Groups of images of which each is nearly the same as another one of its group."""
    groups = Groups(len(seen))
    gradients = np.array([one.gradient for one in seen], np.uint64)
    thumbnails = np.array([np.frombuffer(one.thumbnail, np.uint8) for one in seen], np.uint8)
    for shift in (0, 16, 32, 48):
        bands = (gradients >> np.uint64(shift)) & np.uint64(0xFFFF)
        order = np.argsort(bands, kind="stable")
        edges = np.flatnonzero(np.diff(bands[order])) + 1
        for bucket in np.split(order, edges):
            if len(bucket) > 1:
                _join_bucket(groups, bucket, gradients[bucket], thumbnails[bucket].astype(np.int16))
    return groups


def _join_bucket(groups: Groups, members: np.ndarray, gradients: np.ndarray, thumbnails: np.ndarray) -> None:
    for i in range(len(members) - 1):
        for start in range(i + 1, len(members), _BLOCK):
            part = slice(start, start + _BLOCK)
            near = np.bitwise_count(gradients[part] ^ gradients[i]) <= BITS_APART
            if near.any():
                apart = np.abs(thumbnails[part][near] - thumbnails[i]).mean(axis=1)
                for other in members[part][near][apart <= COLOURS_APART]:
                    groups.join(int(members[i]), int(other))
