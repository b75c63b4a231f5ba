"""The images of the bad cases, and the images of the set that are most like each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from vlfilter.data.aokvqa import VqaRow
from vlfilter.data.image_files import inside
from vlfilter.data.listing import Found, lookup
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.storage import absolute, join, read_bytes
from vlfilter.retrieval.embed import EmbedSettings, ImageEncoder, Vector
from vlfilter.retrieval.index import ImageIndex


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The k images most like an anchor, best first: `rows` of the index int64 [k], `cosine` float32 [k]."""

    rows: npt.NDArray[np.int64]
    cosine: npt.NDArray[np.float32]


Around = Mapping[str, Neighbours | str]  # by `anchor_name`; a text is the reason why there are none


def anchor_name(row: VqaRow) -> str:
    """What tells a bad case's image from others."""
    return row.image_path or row.file_name


def anchor_files(rows: Iterable[VqaRow], folder: str | None) -> dict[str, Found | None]:
    """The file of each bad case's image below `folder`: at `image_path`, else under its COCO name; None if there is
    none."""
    named = {anchor_name(row): row for row in rows}
    if folder is None:
        return dict.fromkeys(named)
    root = absolute(folder)
    urls = {
        name: [join(root, path) for path in dict.fromkeys([row.image_path or "", row.file_name]) if inside(path)]
        for name, row in named.items()
    }
    files, _, _ = lookup(dict.fromkeys(url for some in urls.values() for url in some))
    return {name: next((files[url] for url in some if url in files), None) for name, some in urls.items()}


def anchor_vectors(
    rows: Iterable[VqaRow], index: ImageIndex, files: Mapping[str, Found | None], settings: EmbedSettings
) -> dict[str, Vector]:
    """A vector for each bad case's image: of its file, else the index's own for its id, else the reason for none.

    CLIP is loaded only if there is a file.
    """
    vectors: dict[str, Vector] = {}
    for row in rows:
        known = index.row_of.get(row.image_id) if row.image_id is not None else None
        missing = SampleError(Status.MISSING_IMAGE, f"there is no image {anchor_name(row)}")
        vectors[anchor_name(row)] = missing if known is None else index.vectors[known]
    there = {name: found for name, found in files.items() if found is not None}
    if there:
        loaders: list[Callable[[], bytes]] = [partial(read_bytes, found.url) for found in there.values()]
        for name, vector in zip(there, ImageEncoder(settings).encode(loaders), strict=True):
            if not isinstance(vector, SampleError) or isinstance(vectors[name], SampleError):
                vectors[name] = vector
    return vectors


def neighbours(vectors: Mapping[str, Vector], index: ImageIndex, topk: int) -> dict[str, Neighbours | str]:
    """All anchors' neighbours in one search."""
    found = {name: vector for name, vector in vectors.items() if not isinstance(vector, SampleError)}
    around: dict[str, Neighbours | str] = {
        name: vector.reason for name, vector in vectors.items() if isinstance(vector, SampleError)
    }
    if found:
        nearest = index.search(np.stack(list(found.values())), topk)
        around |= {name: Neighbours(nearest.rows[i], nearest.cosine[i]) for i, name in enumerate(found)}
    return around
