"""One pass over a tar of any origin: entries in order, with their data and their raw headers, in bounded memory.

The header blocks are parsed by the standard `tarfile`; the walk from block to block is ours, because `tarfile` keeps
every member, reads extension headers of any size, cannot tell a cut tar from a complete one, and drops the raw blocks
that a byte-for-byte copy needs. gzip, bzip2 and xz are seen by their first bytes, whatever the file is called.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from vlfilter.data.shards import Shard
from vlfilter.data.storage import open_read
from vlfilter.errors import ShardError, VlfilterError

BLOCK = 512
ZEROS = bytes(BLOCK)
BUFFER = 256 * 1024
MAX_HEADER_BYTES = 2**20  # long names and pax records; more than this is damage or an attack
MAX_SIZE = 2**62
MAX_RATIO = 200  # unpacked to packed: images hardly shrink, texts some five times; far more is a bomb
MIN_UNPACKED = 2**30  # so much may always come, so that a small tar of blanks is none

FILE = "file"
DIRECTORY = "directory"
SPARSE = "sparse file"
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"5": DIRECTORY, b"S": SPARSE}
_KINDS |= {b"1": "hard link", b"2": "symbolic link", b"3": "device", b"4": "device", b"6": "pipe"}
_LONG_NAME, _LONG_LINK, _PAX, _PAX_SOLARIS, _PAX_GLOBAL = b"L", b"K", b"x", b"X", b"g"
_PAX_RECORD = re.compile(rb"(\d{1,19}) ([^=]+)=")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a tar. `data` is None where it was not read: not a regular file, or larger than the limit.

    `name` is as stored (undecodable bytes as surrogates), "" when even that is unknown; `offset` is where the entry
    begins in the uncompressed tar; `cut` says why nothing after this entry can be read, and "" otherwise.
    """

    name: str
    kind: str
    size: int
    offset: int
    header: bytes = b""
    data: bytes | None = None
    cut: str = ""


class _CutError(Exception):
    """The tar cannot be read on from here."""

    def __init__(self, reason: str, name: str = ""):
        super().__init__(reason)
        self.name = name


class _Raw(io.RawIOBase):
    """The file in storage. Remembers its own failures, to tell a broken network from a broken gzip stream, and takes
    an end before the size that was listed for one: a connection may end early and say that this was all."""

    def __init__(self, file: Any, shard: Shard):
        self.file = file
        self.url = shard.url
        self.listed = shard.size
        self.count = 0
        self.failed = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.file.read(len(buffer))
        except Exception as error:  # object stores raise their own families of errors
            self.failed = True
            raise OSError(f"{self.url} cannot be read: {type(error).__name__}: {error}") from error
        if not data and self.count < self.listed:
            self.failed = True
            raise OSError(
                f"{self.url} ended at byte {self.count} of {self.listed}: it was cut off on the way, or has been "
                "replaced since it was listed"
            )
        self.count += len(data)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.file.close()
        super().close()


class TarStream:
    """The uncompressed bytes of a shard, read once from front to back.

    Raises `ShardError` when the shard cannot be opened; `OSError` from storage goes through, so that a task may retry.
    `damage` says what is wrong with the compression once that has ended the stream, and is "" otherwise.
    """

    def __init__(self, shard: Shard):
        self.url = shard.url
        self.offset = 0
        self.damage = ""
        self._raw = _Raw(_open(shard.url), shard)
        file = io.BufferedReader(self._raw, BUFFER)
        self._file: Any = file
        try:
            start = file.peek(8)[:8]
            if start.startswith(b"\x1f\x8b"):
                self._file = gzip.GzipFile(fileobj=file, mode="rb")
            elif start.startswith(b"BZh"):
                self._file = bz2.BZ2File(file)
            elif start.startswith(b"\xfd7zXZ"):
                self._file = lzma.LZMAFile(file)  # noqa: SIM115 (closed with the stream)
        except BaseException:
            self.close()
            raise
        self._packed = self._file is not file
        if start.startswith(b"\x28\xb5\x2f\xfd"):
            self.close()
            raise ShardError(f"shard {self.url} is compressed with zstd: decompress it, or use gzip, bzip2 or xz.")

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        if self.damage:
            return b""
        try:
            data: bytes = self._file.read(size)
        except (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
            if self._raw.failed:
                raise
            self.damage = f"the compressed data is cut short or damaged ({error})"
            return b""
        self.offset += len(data)
        if self._packed and self.offset > MIN_UNPACKED + MAX_RATIO * self._raw.count:
            self.damage = f"{self._raw.count} bytes have unpacked to {self.offset}, which no tar of images does"
            return b""
        return data

    def skip(self, size: int) -> int:
        """Pass over up to `size` bytes; returns how many there were."""
        start, end = self.offset, self.offset + size
        while self.offset < end and self.read(min(BUFFER, end - self.offset)):
            pass
        return self.offset - start

    def close(self) -> None:
        self._raw.close()


def _open(url: str) -> Any:
    try:
        return open_read(url)
    except FileNotFoundError:
        raise ShardError(f"shard {url} does not exist: restore it, or leave it out of the shards.") from None
    except (PermissionError, IsADirectoryError) as error:
        raise ShardError(f"shard {url} may not be read ({error.strerror or error}): check its permissions.") from None
    except VlfilterError:
        raise
    except Exception as error:  # object stores raise their own families of errors
        raise OSError(f"{url} cannot be opened: {type(error).__name__}: {error}") from error


def walk(stream: TarStream, max_bytes: int, warnings: list[str]) -> Iterator[Entry]:
    """Entries in order, data of regular files up to `max_bytes` each.

    A cut or damaged tar ends with an entry whose `cut` says so. What deserves the user's eye goes to `warnings`.
    Raises `ShardError` when the stream is no tar from its first block on.
    """
    ended = False
    while True:
        offset = stream.offset
        block = stream.read(BLOCK)
        if block == ZEROS:
            ended = True
            continue
        if not block.strip(b"\0") and not stream.damage:  # nothing more, or the rest of an end marker
            if offset == 0:
                raise ShardError(f"shard {stream.url} has zero bytes: write it again, or leave it out.")
            if not ended:
                warnings.append(f"the tar has no end marker at byte {offset}: it may have been cut there")
            return
        try:
            entry = _read_entry(stream, block, offset, max_bytes)
        except _CutError as cut:
            if offset == 0:
                raise ShardError(f"shard {stream.url} is no tar ({cut}): replace it, or leave it out.") from None
            if ended:
                warnings.append(f"what follows the tar's end marker at byte {offset} is no tar and was ignored")
                return
            warnings.append(str(cut))
            yield Entry(cut.name, FILE, 0, offset, cut=str(cut))
            return
        if ended:
            warnings.append(f"the tar goes on after an end marker at byte {offset} (joined tars?): all of it was read")
            ended = False
        yield entry


def _read_entry(stream: TarStream, block: bytes, offset: int, max_bytes: int) -> Entry:
    header = bytearray()
    long_name: bytes | None = None
    pax: dict[bytes, bytes] = {}
    while True:
        info = _parse(stream, block, offset)
        if info.type not in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_SOLARIS, _PAX_GLOBAL):
            break
        if not 0 <= info.size <= MAX_HEADER_BYTES - len(header):
            raise _CutError(f"unreadable from byte {offset} on: an extension header of {info.size} bytes")
        payload = stream.read(_padded(info.size))
        if info.type != _PAX_GLOBAL:  # comments, in practice; not part of the next entry
            header += block + payload
        if info.type == _LONG_NAME:
            long_name = payload[: info.size].split(b"\0")[0]
        elif info.type in (_PAX, _PAX_SOLARIS):
            pax |= _pax_records(payload[: info.size])
        block = stream.read(BLOCK)
    header += block

    name = info.name
    if b"path" in pax or long_name is not None:
        name = pax.get(b"path", long_name or b"").decode("utf-8", "surrogateescape")
    size = int(pax[b"size"]) if re.fullmatch(rb"\d{1,18}", pax.get(b"size", b"")) else info.size
    kind = _KINDS.get(info.type, f"entry of type {info.type!r}")
    if kind == FILE and any(key.startswith(b"GNU.sparse.") for key in pax):
        kind = SPARSE
        name = pax.get(b"GNU.sparse.name", name.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    if not 0 <= size <= MAX_SIZE:
        raise _CutError(f"unreadable from byte {offset} on: an entry of {size} bytes", name)
    if info.type in b"123456":
        return Entry(name, kind, 0, offset)  # links, devices and directories have no data, whatever their size says
    more = info.type == b"S" and block[482:483] != b"\0"
    while more:
        more = stream.read(BLOCK)[504:505] not in (b"", b"\0")

    data = stream.read(size) if kind == FILE and size <= max_bytes else None
    there = stream.skip(size) if data is None else len(data)
    if there < size:
        reason = stream.damage or "the tar is truncated"
        return Entry(
            name, kind, size, offset, cut=f"{reason} at byte {stream.offset} of {stream.offset + size - there}"
        )
    stream.skip(_padded(size) - size)
    return Entry(name, kind, size, offset, bytes(header), data)


class _Header(NamedTuple):
    name: str
    type: bytes
    size: int


def _parse(stream: TarStream, block: bytes, offset: int) -> _Header:
    if header := _plain(block):
        return header
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        return _Header(info.name, info.type, info.size)
    except (tarfile.HeaderError, ValueError) as error:
        name = block[:100].split(b"\0")[0].decode("utf-8", "surrogateescape") if b"\0" in block[:100] else ""
        if len(block) < BLOCK:
            reason = stream.damage or "the tar is truncated in a header"
            raise _CutError(f"{reason} at byte {stream.offset}", name) from None
        raise _CutError(
            f"unreadable from byte {offset} on: {error} in a header, which begins {block[:8]!r}", name
        ) from None


def _plain(block: bytes) -> _Header | None:
    """The header of a regular file with a short name, three times as quick as tarfile; None for all else."""
    if block[156:157] != b"0" or block[345:346] != b"\0":
        return None
    checksum = block[148:156]
    try:
        size, expected = int(block[124:136].rstrip(b" \0"), 8), int(checksum.strip(b" \0"), 8)
    except ValueError:
        return None
    if len(block) < BLOCK or sum(block) - sum(checksum) + 8 * ord(" ") != expected:
        return None
    return _Header(block[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape"), b"0", size)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _pax_records(payload: bytes) -> dict[bytes, bytes]:
    """`"%d %s=%s\\n" % (length, keyword, value)`, one after the other (POSIX.1-2001 pax)."""
    records = {}
    position = 0
    while match := _PAX_RECORD.match(payload, position):
        end = position + int(match[1])
        if end <= match.end():
            break
        records[match[2]] = payload[match.end() : end - 1]
        position = end
    return records
