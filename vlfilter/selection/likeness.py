"""Which images are nearly the same (resized, recompressed, retouched), so that none stands on both sides of a split.

Exact: every image is compared with every other one by a thumbnail. Crops and mirrored copies are not found.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 16  # pixels of a thumbnail
APART = 5.0  # root mean square difference of two thumbnails, of 255, up to which they show the same
_BLOCK = 1024


def thumbnail(image: Image.Image) -> bytes:
    """16 × 16 RGB values of an RGB image, 768 bytes."""
    return image.resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()


def near_copies(thumbnails: Sequence[bytes]) -> np.ndarray:
    """Pairs of places, (n, 2) int64, of images that are nearly the same. 20,000 images: about a minute of one core."""
    values = np.array([np.frombuffer(one, np.uint8) for one in thumbnails], np.float32).reshape(len(thumbnails), -1)
    values -= 127.5
    squares = (values * values).sum(axis=1)
    limit = APART**2 * values.shape[1]
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(values), _BLOCK):
        block = slice(start, start + _BLOCK)
        apart = squares[block, None] + squares[None, : start + _BLOCK] - 2 * values[block] @ values[: start + _BLOCK].T
        pairs = np.argwhere(apart <= limit)
        pairs[:, 0] += start
        found.append(pairs[pairs[:, 1] < pairs[:, 0]])
    return np.concatenate(found)


def connected(count: int, pairs: np.ndarray) -> list[int]:
    """For every place from 0 to `count` - 1 the smallest one that it is connected with, itself included."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    return [int(place) for place in first[labels]]
