"""The files that features come from, read into one matrix without holding them twice."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vlfilter.data.listing import Found, below, lookup
from vlfilter.data.receipts import exists
from vlfilter.data.storage import absolute, is_local, join, open_read
from vlfilter.data.tables import digest, open_parquet
from vlfilter.errors import VlfilterError

SCORE_COLUMNS = ("clip_score", "image_reward", "judge_score")
TEXTS, IMAGES = "texts", "images"
UNFINISHED = "unfinished"  # lies in a folder of CLIP features until all its shards are there
_BATCH_ROWS = 8192


@dataclass(frozen=True)
class Stored:
    """What was read: row i of `matrix` belongs to `ids[i]`; `left_out` has the reasons of rows without a vector."""

    ids: npt.NDArray[np.int64]
    matrix: npt.NDArray[np.floating]
    left_out: dict[int, str] = field(default_factory=dict)
    made_of: str = ""
    ours: bool = True  # whether `matrix` may be written to


@dataclass(frozen=True)
class Source:
    """The files of some features: an .npz file, the shards of texts and images, or of scores (as `texts`)."""

    npz: Found | None = None
    texts: tuple[Found, ...] = ()
    images: tuple[Found, ...] = ()

    @property
    def made_of(self) -> str:
        files = ([self.npz] if self.npz else []) + [*self.texts, *self.images]
        return digest({"files": [[f.url.rpartition("/")[2], f.size, f.version] for f in files]})


def find_source(url: str) -> Source:
    """Raises `VlfilterError` when there are no features at `url`, or not all of them yet."""
    files, folders, _ = lookup([absolute(url).rstrip("/")])
    if files:
        return Source(npz=next(iter(files.values())))
    if not folders:
        raise VlfilterError(f"there are no features at {url}: give features.npz or a folder that `features` wrote.")
    found = below(absolute(url), (".parquet",))
    texts, images = _in_folder(found, url, TEXTS), _in_folder(found, url, IMAGES)
    if texts and images:
        _check_whole(url, texts, images)
        return Source(texts=texts, images=images)
    if shards := _in_folder(found, url, ""):
        return Source(texts=shards)
    raise VlfilterError(f"{url} holds neither CLIP features ({TEXTS}/, {IMAGES}/) nor scores (NNNNN.parquet).")


def read_stored(url: str, work: str | None, memory_bytes: int) -> Stored:
    source = find_source(url)
    if source.npz:
        stored = _read_npz(source.npz, work, memory_bytes)
    elif source.images:
        stored = _read_clip(source.texts, source.images, work, memory_bytes)
    else:
        stored = _read_scores(source.texts)
    return replace(stored, made_of=source.made_of)


def new_matrix(
    shape: tuple[int, int], dtype: npt.DTypeLike, work: str | None, memory_bytes: int
) -> npt.NDArray[np.floating]:
    """Zeros in memory, or in a mapped file without a name, so that nothing stays behind however the process ends."""
    if shape[0] * shape[1] * np.dtype(dtype).itemsize <= memory_bytes:
        return np.zeros(shape, dtype)
    if work:
        os.makedirs(work, exist_ok=True)
    try:
        with tempfile.TemporaryFile(prefix="vlfilter-features-", suffix=".work", dir=work) as file:
            file.truncate(shape[0] * shape[1] * np.dtype(dtype).itemsize)
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        place = work or tempfile.gettempdir()
        raise VlfilterError(f"no room for {shape[0]} × {shape[1]} features in {place}: {error.strerror}.") from error


def _check_whole(url: str, texts: tuple[Found, ...], images: tuple[Found, ...]) -> None:
    """What is missing would otherwise be rows that nobody misses."""
    again = "run `vlfilter self-filter features` to its end first."
    if exists(join(absolute(url), UNFINISHED)):
        raise VlfilterError(f"the features in {url} are not finished: {again}")
    names = {found.url.rpartition("/")[2] for found in texts}
    if alone := [found.url for found in images if found.url.rpartition("/")[2] not in names]:
        raise VlfilterError(f"{url} is not whole, {alone[0]} has no counterpart in {TEXTS}/: {again}")


def _in_folder(found: list[Found], url: str, folder: str) -> tuple[Found, ...]:
    parent = join(absolute(url), folder) if folder else absolute(url).rstrip("/")
    return tuple(sorted((f for f in found if f.url.rpartition("/")[0] == parent), key=lambda f: f.url))


def _read_npz(file: Found, work: str | None, memory_bytes: int) -> Stored:
    try:
        with open_read(file.url) as source, zipfile.ZipFile(source) as archive:
            member = archive.getinfo("features.npy")
            with archive.open(member) as data:
                shape, fortran, dtype = _npy_header(data)
                if len(shape) != 2 or dtype.kind != "f" or fortran:
                    raise VlfilterError(
                        f"{file.url}: `features` should be a floating-point matrix stored row by row (C order), "
                        f"it is {dtype} {list(shape)}."
                    )
                ids = np.arange(shape[0])
                large = shape[0] * shape[1] * dtype.itemsize > memory_bytes
                if large and is_local(file.url) and member.compress_type == zipfile.ZIP_STORED:
                    start = _data_offset(source, member) + data.tell()
                    # "c": rows that are zeroed later stay ours, the file is never written to
                    return Stored(ids, np.memmap(file.url, dtype, "c", start, shape))
                kind = np.float32 if dtype.itemsize > 4 else dtype.newbyteorder("=")
                matrix = new_matrix((shape[0], shape[1]), kind, work, memory_bytes)
                for first in range(0, shape[0], _BATCH_ROWS):
                    rows = min(_BATCH_ROWS, shape[0] - first)
                    block = _exactly(data, rows * shape[1] * dtype.itemsize)
                    matrix[first : first + rows] = np.frombuffer(block, dtype).reshape(rows, shape[1])
                return Stored(ids, matrix)
    except KeyError as error:
        raise VlfilterError(f"{file.url} holds no array `features` (np.savez(path, features=...)).") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise VlfilterError(f"{file.url} cannot be read as an .npz file: {error}") from error


def _npy_header(data: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(data)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(data)


def _data_offset(source: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes start: behind its local header, whose name and extra field vary in length."""
    source.seek(member.header_offset)
    header = source.read(30)
    return member.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _exactly(data: IO[bytes], size: int) -> bytes:
    block = data.read(size)
    if len(block) != size:
        raise EOFError("the array is cut off")
    return block


def _read_clip(texts: tuple[Found, ...], images: tuple[Found, ...], work: str | None, memory_bytes: int) -> Stored:
    """Image half, text half, each as stored (normalised to length 1)."""
    width, dtype = _vectors(images[0].url)
    text_width, text_dtype = _vectors(texts[0].url)
    pictures = new_matrix((_rows(images), width), dtype, work, memory_bytes)
    place: dict[str, int] = {}
    unusable: dict[str, str] = {}
    for batch in _batches(images, ("image", "vector", "status", "reason")):
        good = _usable(batch)
        names = batch["image"].to_pylist()
        vectors = _matrix(batch["vector"].filter(pa.array(good)), width)
        unusable.update((names[row], reason) for row, reason in _why(batch, good))
        first = len(place)
        fresh = {names[row]: i for i, row in enumerate(np.flatnonzero(good)) if names[row] not in place}
        place.update((name, first + n) for n, name in enumerate(fresh))
        pictures[first : first + len(fresh)] = vectors[list(fresh.values())]
    shape = _rows(texts), width + text_width
    small = 4 * shape[0] * shape[1] <= memory_bytes  # converted once rather than at every product
    matrix = new_matrix(shape, np.float32 if small else np.promote_types(dtype, text_dtype), work, memory_bytes)
    ids = [np.empty(0, np.int64)]
    left_out: dict[int, str] = {}
    count = 0
    for batch in _batches(texts, ("id", "image", "vector", "status", "reason")):
        numbers, names = batch["id"].to_numpy(), batch["image"].to_pylist()
        good = _usable(batch)
        left_out.update((int(numbers[row]), reason) for row, reason in _why(batch, good))
        for i in np.flatnonzero(good):
            if names[i] not in place:
                good[i] = False
                left_out[int(numbers[i])] = (
                    "no image: its features have two halves"
                    if names[i] is None
                    else f"image {names[i]}: {unusable.get(names[i], 'not among the images')}"
                )
        rows = int(good.sum())
        matrix[count : count + rows, :width] = pictures[[place[names[i]] for i in np.flatnonzero(good)]]
        matrix[count : count + rows, width:] = _matrix(batch["vector"].filter(pa.array(good)), text_width)
        ids.append(numbers[good])
        count += rows
    return Stored(np.concatenate(ids).astype(np.int64), matrix, left_out)


def _read_scores(shards: tuple[Found, ...]) -> Stored:
    parts = [np.empty((0, len(SCORE_COLUMNS)), np.float32)]
    ids = [np.empty(0, np.int64)]
    left_out: dict[int, str] = {}
    for batch in _batches(shards, ("id", *SCORE_COLUMNS, "status", "reason")):
        good = np.array([status == "ok" for status in batch["status"].to_pylist()], bool)
        numbers = batch["id"].to_numpy()
        columns = [batch[name].to_numpy(zero_copy_only=False) for name in SCORE_COLUMNS]
        left_out.update((int(numbers[row]), reason) for row, reason in _why(batch, good))
        parts.append(np.stack(columns, axis=1)[good].astype(np.float32))
        ids.append(numbers[good])
    return Stored(np.concatenate(ids).astype(np.int64), np.concatenate(parts), left_out)


def _rows(files: tuple[Found, ...]) -> int:
    return sum(_opened(f.url).metadata.num_rows for f in files)


def _opened(url: str) -> pq.ParquetFile:
    try:
        return open_parquet(url)
    except (OSError, pa.ArrowException) as error:
        raise VlfilterError(f"{url} is damaged ({error}): run `vlfilter self-filter features` again.") from error


def _vectors(url: str) -> tuple[int, np.dtype]:
    schema = _opened(url).schema_arrow
    kind = schema.field("vector").type if "vector" in schema.names else None
    if kind is None or not pa.types.is_fixed_size_list(kind):
        raise VlfilterError(f"{url} has no column `vector` of fixed length.")
    return kind.list_size, np.dtype(kind.value_type.to_pandas_dtype())


def _batches(files: tuple[Found, ...], columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    for found in files:
        with _opened(found.url) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                raise VlfilterError(f"{found.url} has no column {', '.join(missing)}.")
            try:
                yield from file.iter_batches(_BATCH_ROWS, columns=list(columns), use_threads=False)
            except (OSError, pa.ArrowException) as error:
                raise VlfilterError(
                    f"{found.url} is damaged ({error}): run `vlfilter self-filter features` again."
                ) from error


def _usable(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    present = batch["vector"].is_valid().to_numpy(zero_copy_only=False)
    return present & np.array([status == "ok" for status in batch["status"].to_pylist()], bool)


def _why(batch: pa.RecordBatch, good: npt.NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
    """(row, reason) of the rows that are not good."""
    statuses, reasons = batch["status"].to_pylist(), batch["reason"].to_pylist()
    for row in np.flatnonzero(~good):
        yield int(row), reasons[row] or (statuses[row] if statuses[row] != "ok" else "no features")


def _matrix(vectors: pa.FixedSizeListArray, width: int) -> npt.NDArray[np.floating]:
    return vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
