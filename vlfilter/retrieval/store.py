"""An image index on disk: a Parquet file of vectors for each part, with what made it, and `index.json` at the end.

`<index>/vectors/<part>.parquet` has a row an image: `image_id` (as text), `key` (its name in the tar, or its path),
`vector` (null where there is none), `status`, `reason`. Building it again keeps the parts whose images, model and code
are the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vlfilter.data.receipts import exists, file_digest
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.shards import Shard
from vlfilter.data.states import State, table_state
from vlfilter.data.storage import check_writable, filesystem, is_local, join, read_bytes, write_bytes
from vlfilter.data.tables import (
    TAIL,
    Footer,
    count_statuses,
    digest,
    list_tables,
    open_parquet,
    table_url,
    write_table,
)
from vlfilter.errors import ShardError, VlfilterError
from vlfilter.models.clip_source import clip_source
from vlfilter.retrieval.embed import EmbedSettings, ImageEncoder, Vector
from vlfilter.retrieval.index import ImageId, ImageIndex, index_of
from vlfilter.retrieval.published import read_published
from vlfilter.retrieval.sources import ImageSet, Picture, image_id

CODE_VERSION = 1  # raised by whoever changes a vector
VECTORS, INDEX = "vectors", "index.json"
PUBLISHED = (".pth", ".pt", ".pkl")

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """`images` by status; `reasons`: of each status but ok, the first one's; `made` and `kept` are parts."""

    images: dict[str, int]
    reasons: dict[str, str]
    made: int
    kept: int


def build_index(images: ImageSet, output: str, settings: EmbedSettings, tell: Told | None = None) -> IndexSummary:
    """Embed what is not embedded yet; a run that was stopped goes on at the part it was at. `tell` hears a line a part.

    Raises `VlfilterError` when the model is missing, the place is not writable or no image at all can be read.
    """
    check_writable(output)
    parts = {
        "step": "image embeddings",
        "code": CODE_VERSION,
        "model": clip_source(settings.model).digest(),
        "precision": settings.precision,
    }
    fingerprint = digest(parts)
    encoder: ImageEncoder | None = None
    made = 0
    failed: list[str] = []
    for number, part in enumerate(images.parts, 1):
        what = "was done"
        if table_state(output, VECTORS, part, parts, fingerprint).state != State.DONE:
            encoder = encoder or ImageEncoder(settings)
            try:
                _make(encoder, part, images.pictures(part), output, parts)
            except ShardError as error:  # the others go on; a repeated run does only this one
                what = f"failed: {error}"
                failed.append(f"{part.name}: {error}")
            else:
                made += 1
                what = "embedded"
        if tell:
            tell(f"{part.name} ({number} of {len(images.parts)}): {what}")
    if failed:
        raise VlfilterError(f"{len(failed)} of {len(images.parts)} parts could not be embedded; {failed[0]}")
    names = [part.name for part in images.parts]
    for stale in list_tables(output, VECTORS).keys() - set(names):
        fs, path = filesystem(table_url(output, VECTORS, stale))
        fs.rm_file(path)
    counts, reasons = _count(output, names)
    if not counts.get(Status.OK):
        first = next(iter(reasons.values()), "the tars hold no samples")
        raise VlfilterError(f"no image could be embedded, of {sum(counts.values())}: {first}")
    record = {
        "model": settings.model,
        "fingerprint": fingerprint,
        "parts": [[part.name, part.version] for part in images.parts],
    }
    write_bytes(join(output, INDEX), (json.dumps(record, indent=1) + "\n").encode())
    return IndexSummary(counts, reasons, made, len(names) - made)


def check_index(url: str) -> None:
    """Raises `VlfilterError` where there is no index at `url`; vectors are not read."""
    if not url.endswith(PUBLISHED):
        _record(url)
    elif not exists(url):
        raise VlfilterError(f"there is no file {url} with image embeddings.")


def open_index(url: str) -> ImageIndex:
    """The index that `build_index` wrote below `url`, or one of published embeddings (`coco_image.pth`).

    Raises `VlfilterError` when it is not there, not finished, damaged or empty.
    """
    if url.endswith(PUBLISHED):
        return read_published(url, file_digest(url))
    record = _record(url)
    ids: list[ImageId] = []
    blocks: list[np.ndarray] = []
    left_out: Counter[str] = Counter()
    for name, _ in record["parts"]:
        table = _read(url, name)
        good = np.array([status == Status.OK for status in table["status"].to_pylist()], bool)
        left_out.update(status for status in table["status"].to_pylist() if status != Status.OK)
        ids += [image_id(name) for name in table["image_id"].filter(pa.array(good)).to_pylist()]
        column = table["vector"].combine_chunks().filter(pa.array(good))
        width = table.schema.field("vector").type.list_size
        blocks.append(column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width))
    if not ids:
        raise VlfilterError(f"the index {url} is empty: no image has an embedding.")
    index = index_of(ids, np.concatenate(blocks), str(record["model"]), digest(record))
    return ImageIndex(index.ids, index.vectors, index.model, {**index.left_out, **left_out}, index.made_of)


def _make(encoder: ImageEncoder, part: Shard, found: Iterator[Picture], output: str, parts: dict[str, Any]) -> None:
    named: list[tuple[str, str]] = []  # not the pictures: those of a tar hold its bytes

    def files() -> Iterator[Callable[[], bytes]]:
        for picture in found:
            named.append((str(picture.id), picture.key))
            yield picture.load

    vectors = list(encoder.encode(files()))
    table = _table(named, vectors, encoder.dimension)
    counts = count_statuses(table["status"].to_pylist())
    footer = Footer(part, VECTORS, digest(parts), parts, counts, seconds=0.0)  # not timed: same images, same bytes
    write_table(table_url(output, VECTORS, part.name), table, footer)


def _table(named: Sequence[tuple[str, str]], vectors: Sequence[Vector], dimension: int) -> pa.Table:
    matrix = np.zeros((len(named), dimension), np.float32)
    problems: dict[int, SampleError] = {}
    for row, vector in enumerate(vectors):
        if isinstance(vector, SampleError):
            problems[row] = vector
        elif not np.isfinite(vector).all():
            problems[row] = SampleError(Status.FAILED, "its embedding is not finite")
        else:
            matrix[row] = vector
    rows = range(len(named))
    mask = pa.array([row in problems for row in rows], pa.bool_())
    statuses = [str(problems[row].status) if row in problems else str(Status.OK) for row in rows]
    return pa.table(
        {
            "image_id": pa.array([name for name, _ in named], pa.string()),
            "key": pa.array([key for _, key in named], pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), dimension, mask=mask),
            TAIL[0].name: pa.array(statuses, pa.string()),
            TAIL[1].name: pa.array([problems[row].reason if row in problems else None for row in rows], pa.string()),
        }
    )


def _count(output: str, names: Sequence[str]) -> tuple[dict[str, int], dict[str, str]]:
    """How many images have which status, and of each status but ok the first reason."""
    counts: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for name in names:
        table = _read(output, name, ["key", "status", "reason"])
        counts.update(table["status"].to_pylist())
        for key, status, reason in zip(*(table[c].to_pylist() for c in ("key", "status", "reason")), strict=True):
            if status != Status.OK:
                reasons.setdefault(status, f"{key}: {reason}")
    return {status: counts[status] for status in Status if counts[status]}, reasons


def _record(url: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(read_bytes(join(url, INDEX)))
        if not isinstance(record["parts"], list) or not isinstance(record["model"], str):
            raise TypeError("not what an index says of itself")
    except (FileNotFoundError, NotADirectoryError):
        where = "there is nothing" if is_local(url) and not filesystem(url)[0].exists(url) else "it is not finished"
        raise VlfilterError(f"no image index at {url} ({where}): run `vlfilter data-engine index` first.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise VlfilterError(f"{join(url, INDEX)} is damaged: {error}") from None
    return record


def _read(url: str, name: str, columns: list[str] | None = None) -> pa.Table:
    place = table_url(url, VECTORS, name)
    try:
        with open_parquet(place) as file:
            return file.read(columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise VlfilterError(f"{place} is damaged ({error}): run `vlfilter data-engine index` again.") from None
