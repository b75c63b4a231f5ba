"""Subset files, written: DataComp's `.npy`, a `.parquet` with the scores that decided, or a `.txt` list of keys.

A file is made complete beside its place (or, for an object store, in the temporary folder) and then moved there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlfilter.data.storage import filesystem, is_local, temporary_path
from vlfilter.data.subset import FORMATS, UID_DTYPE, first_of_each, pack_uids, sort_packed
from vlfilter.errors import VlfilterError


class SubsetWriter(Protocol):
    """`piece` runs in several threads and prepares one shard's kept rows; `add` takes the pieces in order of shards."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What it reads of each table."""
        ...

    def piece(self, shard: str, kept: pa.Table) -> Any: ...

    def add(self, piece: Any) -> None: ...

    def finish(self) -> int:
        """Complete the file's content. Returns how many kept rows repeat an identifier already kept."""
        ...


class NpyWriter:
    """dtype `u8,u8`, sorted, every uid once; 16 bytes of memory a kept row.

    DataComp reads a repeated uid as a wish for a second copy of each sample that has it, so that writing the uid of
    two like samples twice would give four.
    """

    columns = ("uid",)

    def __init__(self, path: str):
        self.path = path
        self.pieces: list[np.ndarray] = []

    def piece(self, shard: str, kept: pa.Table) -> np.ndarray:
        return _packed(shard, kept)

    def add(self, piece: np.ndarray) -> None:
        self.pieces.append(piece)

    def finish(self) -> int:
        packed = sort_packed(np.concatenate([np.zeros(0, UID_DTYPE), *self.pieces]))
        first = first_of_each(packed)
        with open(self.path, "wb") as file:
            np.save(file, packed[first])
        return int(len(packed) - first.sum())


class ParquetWriter:
    """`uid`, `key`, `shard` and the columns of the rule; one row a kept sample, in order of shard, then of the tar."""

    def __init__(self, path: str, rule_columns: Sequence[str]):
        self.columns = tuple(dict.fromkeys(("uid", "key", *rule_columns)))
        self.path = path
        self.uids: list[np.ndarray] = []
        self.file: pq.ParquetWriter | None = None

    def piece(self, shard: str, kept: pa.Table) -> tuple[pa.Table, np.ndarray]:
        shards = pa.DictionaryArray.from_arrays(pa.array(np.zeros(kept.num_rows, np.int32)), pa.array([shard]))
        table = kept.select(self.columns).add_column(2, "shard", shards.cast(pa.string()))
        packed, valid = pack_uids(kept["uid"])
        return table, packed[valid]

    def add(self, piece: tuple[pa.Table, np.ndarray]) -> None:
        table, uids = piece
        if self.file is None:
            self.file = pq.ParquetWriter(self.path, table.schema, compression="zstd")
        if table.num_rows:
            self.file.write_table(table)
        self.uids.append(uids)

    def finish(self) -> int:
        if self.file is not None:
            self.file.close()
        packed = sort_packed(np.concatenate([np.zeros(0, UID_DTYPE), *self.uids]))
        return int(len(packed) - first_of_each(packed).sum())


class KeysWriter:
    """One key a line. Keys tell samples apart only where no two shards share them; repeats are counted."""

    columns = ("key",)

    def __init__(self, path: str):
        self.file = open(path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115 closed by finish
        self.keys: list[pa.ChunkedArray] = []

    def piece(self, shard: str, kept: pa.Table) -> pa.ChunkedArray:
        keys = kept["key"]
        if pc.any(pc.match_substring_regex(keys, r"[\r\n]")).as_py():
            raise VlfilterError(f"a key in shard {shard} holds a line break: write a .npy or .parquet subset instead.")
        return keys

    def add(self, piece: pa.ChunkedArray) -> None:
        self.file.writelines(f"{key}\n" for key in piece.to_pylist())
        self.keys.append(piece)

    def finish(self) -> int:
        self.file.close()
        keys = pa.chunked_array([chunk for keys in self.keys for chunk in keys.chunks], pa.string())
        return len(keys) - int(pc.count_distinct(keys).as_py())


def check_output(url: str) -> str:
    """The file's suffix. Raises `VlfilterError` for one that is no subset's."""
    suffix = PurePosixPath(url).suffix
    if suffix not in FORMATS:
        raise VlfilterError(f"{url}: a subset is written as {', '.join(FORMATS)}; give the file one of these suffixes.")
    return suffix


def make_writer(suffix: str, path: str, rule_columns: Sequence[str]) -> SubsetWriter:
    if suffix == ".npy":
        return NpyWriter(path)
    return ParquetWriter(path, rule_columns) if suffix == ".parquet" else KeysWriter(path)


@contextmanager
def place_file(url: str) -> Iterator[str]:
    """A local path to write to; the file comes to `url`, whole, when the block ends well."""
    fs, target = filesystem(url)
    if is_local(url):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        path = temporary_path(target)
    else:
        handle, path = tempfile.mkstemp(prefix="vlfilter-subset-")
        os.close(handle)
    try:
        yield path
        if is_local(url):
            os.replace(path, target)
        else:
            fs.put_file(path, target)
    except OSError as error:
        raise VlfilterError(f"cannot write {url}: {error.strerror or error}") from error
    finally:
        if os.path.exists(path):
            os.unlink(path)


def _packed(shard: str, kept: pa.Table) -> np.ndarray:
    packed, valid = pack_uids(kept["uid"])
    if not valid.all():
        row = int(np.flatnonzero(~valid)[0])
        raise VlfilterError(
            f"shard {shard}: the uid {kept['uid'][row].as_py()!r} is not 32 hex digits, so that DataComp's .npy cannot "
            "hold it: write a .parquet subset instead."
        )
    return packed
