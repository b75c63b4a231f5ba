"""An exact nearest-neighbour index over unit vectors: many queries at a time, the same answer as one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vlfilter.errors import VlfilterError

ImageId = int | str
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

# What faiss multiplies at a time: its own blocks of 1,024 vectors leave half the time to bookkeeping when k is large.
QUERY_BLOCK, VECTOR_BLOCK = 1024, 16384


@dataclass(frozen=True, slots=True)
class Nearest:
    """For each of Q queries its k nearest: `rows` int64 [Q, k], `cosine` float32 [Q, k], best first.

    Of equal cosines the lower row goes first; which of several that are equal at the last place is not defined.
    """

    rows: Rows
    cosine: Floats


@dataclass(frozen=True)
class ImageIndex:
    """N images: `ids[i]` has the vector `vectors[i]`, float32 [N, d] of length one (or zero: cosine 0 to everything).

    `model` is the CLIP that made the vectors, `left_out` counts images without a vector by reason, `made_of` changes
    with the vectors' origin.
    """

    ids: tuple[ImageId, ...]
    vectors: Floats
    model: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    made_of: str = ""

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.ids):
            raise VlfilterError(f"{len(self.ids)} images, but vectors of shape {list(self.vectors.shape)}.")
        if not self.ids:
            raise VlfilterError("the image index is empty: no image has an embedding.")
        if len(self.row_of) != len(self.ids):
            raise VlfilterError("the image index holds an image id more than once.")

    @cached_property
    def row_of(self) -> dict[ImageId, int]:
        return {image: row for row, image in enumerate(self.ids)}

    @property
    def dimension(self) -> int:
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.ids)

    def search(self, queries: npt.ArrayLike, k: int) -> Nearest:
        """The k images of largest cosine for each query, [Q, d] of any length; all images where there are fewer.

        Exact: inner products over all vectors (faiss, as its IndexFlatIP). Raises `VlfilterError` when the dimension is
        another, k is not positive, or a query holds a NaN or an infinity.
        """
        import faiss

        wanted = np.atleast_2d(np.asarray(queries, np.float32))
        if wanted.shape[1] != self.dimension:
            raise VlfilterError(
                f"the query has {wanted.shape[1]} dimensions, the index {self.dimension}: they are of two CLIP models."
            )
        if k < 1:
            raise VlfilterError(f"top-k of {k}: give at least 1.")
        if not np.isfinite(wanted).all():
            raise VlfilterError("a query vector holds a NaN or an infinity.")
        k = min(k, len(self))
        if not len(wanted):
            return Nearest(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
        faiss.cvar.distance_compute_blas_query_bs = QUERY_BLOCK
        faiss.cvar.distance_compute_blas_database_bs = VECTOR_BLOCK
        # over the matrix as it is: an IndexFlatIP would hold a copy of it
        cosine, rows = faiss.knn(unit(wanted), self.vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
        return _ordered(cosine, rows.astype(np.int64, copy=False))


def unit(vectors: npt.ArrayLike) -> Floats:
    """The vectors [N, d] at length one, float32 and contiguous; a zero vector stays zero."""
    given = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(given, axis=1, keepdims=True)
    return np.ascontiguousarray(np.divide(given, lengths, out=np.zeros_like(given), where=lengths > 0))


def index_of(ids: Sequence[ImageId], vectors: npt.ArrayLike, model: str = "", made_of: str = "") -> ImageIndex:
    """An index of vectors of any length. A repeated id keeps its first vector; repeated ids and vectors that are not
    finite are counted in `left_out`."""
    given = np.asarray(vectors, np.float32)
    if given.ndim != 2 or len(given) != len(ids):
        raise VlfilterError(f"{len(ids)} images, but vectors of shape {list(given.shape)}.")
    finite = np.isfinite(given).all(axis=1)
    rows: dict[ImageId, int] = {}
    for row in np.flatnonzero(finite):
        rows.setdefault(ids[int(row)], int(row))
    kept = list(rows.values())
    counts = {"the vector is not finite": int((~finite).sum()), "the id occurs twice": int(finite.sum()) - len(kept)}
    left_out = {reason: count for reason, count in counts.items() if count}
    used = given if len(kept) == len(given) else given[kept]
    return ImageIndex(tuple(rows), unit(used), model, left_out, made_of)


def _ordered(cosine: Floats, rows: Rows) -> Nearest:
    """Equal cosines in order of row; few queries have any."""
    for query in np.flatnonzero((cosine[:, 1:] == cosine[:, :-1]).any(axis=1)):
        order = np.lexsort((rows[query], -cosine[query]))
        cosine[query], rows[query] = cosine[query][order], rows[query][order]
    return Nearest(rows, cosine)
