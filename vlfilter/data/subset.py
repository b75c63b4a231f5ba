"""Subset files, read: which samples are kept, and how many times.

`.npy` is DataComp's format: dtype `u8,u8`, the two halves of each 128-bit uid, sorted; a uid that occurs twice means a
repeated sample (DataComp `resharder.py`). `.parquet` needs a `uid` column, `.txt` holds one key a line.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlfilter.data.storage import filesystem, is_local, open_read, read_bytes
from vlfilter.errors import VlfilterError

UID_DTYPE = np.dtype("u8,u8")
UID_LENGTH = 32
FORMATS = (".npy", ".parquet", ".txt")

_HEX = re.compile(r"[0-9a-fA-F]{32}")
_NIBBLE = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = range(16)
_NIBBLE[np.frombuffer(b"ABCDEF", np.uint8)] = range(10, 16)


def pack_uid(uid: str) -> tuple[int, int] | None:
    """The high and the low 64 bits of a uid of 32 hex digits; None for anything else."""
    return (int(uid[:16], 16), int(uid[16:], 16)) if _HEX.fullmatch(uid) else None


def pack_uids(uids: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """uids, n strings → (n packed uids of `UID_DTYPE`, n booleans: was it 32 hex digits). Invalid ones pack as zero."""
    if isinstance(uids, pa.ChunkedArray):
        uids = uids.combine_chunks()
    packed = np.zeros(len(uids), UID_DTYPE)
    valid = np.asarray(pc.fill_null(pc.equal(pc.binary_length(uids), UID_LENGTH), False))
    if not valid.all():
        some = np.flatnonzero(valid)
        if len(some):
            packed[some], valid[some] = pack_uids(uids.take(pa.array(some)))
        return packed, valid
    if not len(uids):
        return packed, valid
    offsets = np.frombuffer(uids.buffers()[1], np.int64 if pa.types.is_large_string(uids.type) else np.int32)
    characters = np.frombuffer(uids.buffers()[2], np.uint8, UID_LENGTH * len(uids), int(offsets[uids.offset]))
    nibbles = _NIBBLE[characters].reshape(-1, UID_LENGTH)
    valid = nibbles.max(axis=1) < 16
    halves = ((nibbles[:, ::2] << 4) | nibbles[:, 1::2]).view(">u8").astype(np.uint64)
    halves[~valid] = 0
    return halves.view(UID_DTYPE).reshape(-1), valid


def sort_packed(packed: np.ndarray) -> np.ndarray:
    """Sorted as `ndarray.sort` sorts the structured type, only much faster."""
    return packed[np.lexsort((packed["f1"], packed["f0"]))]


def first_of_each(packed: np.ndarray) -> np.ndarray:
    """For sorted packed uids, n booleans: False where the one before is the same."""
    first = np.ones(len(packed), bool)
    first[1:] = (packed["f0"][1:] != packed["f0"][:-1]) | (packed["f1"][1:] != packed["f1"][:-1])
    return first


def is_sorted(packed: np.ndarray, step: int = 2**20) -> bool:
    """Whether packed uids ascend; reads a memory map in pieces."""
    for start in range(0, len(packed) - 1, step):
        piece = packed[start : start + step + 1]
        high, low = piece["f0"], piece["f1"]
        if np.any((high[1:] < high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] < low[:-1]))):
            return False
    return True


@dataclass(frozen=True)
class Subset:
    """Which samples to keep. `packed` holds sorted uids (it may be a memory map), `names` other uids or keys.

    `by` tells what the file names its samples by: `uid` or `key`. `len()` is the number of samples asked for.
    """

    url: str
    by: str
    packed: np.ndarray = field(repr=False)
    names: Mapping[str, int] = field(repr=False)

    def __len__(self) -> int:
        return len(self.packed) + sum(self.names.values())

    def count(self, uid: str, key: str) -> int:
        """How many times the sample is to be written: 0 for one that is not in the subset."""
        if self.by == "key":
            return self.names.get(key, 0)
        halves = pack_uid(uid) if len(self.packed) else None
        if halves is None:
            return self.names.get(uid, 0)
        wanted = np.array(halves, UID_DTYPE)
        left, right = (int(np.searchsorted(self.packed, wanted, side)) for side in ("left", "right"))
        return right - left


def read_subset(url: str) -> Subset:
    """Read a `.npy`, `.parquet` or `.txt` subset; a local `.npy` stays on disk (memory-mapped).

    Raises `VlfilterError` for a file that is missing, of another kind, or damaged.
    """
    kind = PurePosixPath(url).suffix
    readers = {".npy": _read_npy, ".parquet": _read_parquet, ".txt": _read_keys}
    if kind not in readers:
        raise VlfilterError(f"{url}: a subset is a {', '.join(FORMATS)} file, not {kind or 'one without a suffix'!r}.")
    fs, path = filesystem(url)
    if not fs.isfile(path):
        raise VlfilterError(f"there is no subset file {url}: write one with `vlfilter select --output {url}`.")
    return readers[kind](url)


def _read_npy(url: str) -> Subset:
    path = filesystem(url)[1]
    with open_read(url) as file:
        magic = file.read(6) == np.lib.format.MAGIC_PREFIX
    try:
        if not is_local(url):
            data = read_bytes(url)
            packed = np.load(io.BytesIO(data), allow_pickle=False) if magic else np.frombuffer(data, UID_DTYPE)
        elif magic:
            packed = np.load(path, mmap_mode="r", allow_pickle=False)
        else:  # a bare np.memmap, which DataComp's resharder accepts too
            packed = np.memmap(path, UID_DTYPE, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise VlfilterError(f"{url} is no DataComp subset file: {error}") from error
    if packed.dtype != UID_DTYPE or packed.ndim != 1:
        raise VlfilterError(
            f"{url} is no DataComp subset file: it holds {packed.dtype} of shape {packed.shape}, not a list of u8,u8."
        )
    return Subset(url, "uid", packed if is_sorted(packed) else sort_packed(packed), {})


def _read_parquet(url: str) -> Subset:
    try:
        with open_read(url) as file:
            uids = pq.read_table(file, columns=["uid"])["uid"].cast(pa.large_string()).combine_chunks()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise VlfilterError(f"{url} is no subset: it should be Parquet with a column `uid` ({error}).") from error
    # Each row is a sample and not a wish for a copy: two samples with one uid ask for one copy of each.
    packed, valid = pack_uids(uids)
    others = uids.filter(pa.array(~valid)).drop_null().to_pylist()
    ordered = sort_packed(packed[valid])
    return Subset(url, "uid", ordered[first_of_each(ordered)], {uid: 1 for uid in others if uid})


def _read_keys(url: str) -> Subset:
    try:
        lines = read_bytes(url).decode().split("\n")  # not splitlines: a key may hold other separators
    except UnicodeDecodeError as error:
        raise VlfilterError(f"{url} is not UTF-8 text with one key a line ({error}).") from error
    # A set: a key that several shards hold is listed once for each, which asks for one copy of each.
    return Subset(
        url,
        "key",
        np.zeros(0, UID_DTYPE),
        {line.removesuffix("\r"): 1 for line in lines if line.strip()},
    )
