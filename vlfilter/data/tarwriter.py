"""New tars from the members of old ones, byte for byte; a tar is in its place when it is complete, not before."""

from __future__ import annotations

import os
import tarfile

from vlfilter.data.samples import Member, RawSample
from vlfilter.data.storage import filesystem, is_local

BLOCK = tarfile.BLOCKSIZE
BUFFER = 2**20


class TarWriter:
    """Writes to the local file `temporary`; `close` moves or uploads it to `url`.

    Headers, data and order of members are those of the samples. Only a key that the tar already holds is changed, to
    the first free one of `KEY-1`, `KEY-2`, …
    """

    def __init__(self, url: str, temporary: str):
        self.url = url
        self.samples = 0
        self._temporary = temporary
        self._keys: set[str] = set()
        self._file = open(temporary, "wb", BUFFER)  # noqa: SIM115 (closed by close or discard)

    def add(self, raw: RawSample, copy: int = 0) -> None:
        """Add a sample that has no problem; its `copy`-th repetition is called `KEY-copy` if that is free."""
        key = f"{raw.key}-{copy}" if copy else raw.key
        number = copy
        while key in self._keys:
            number += 1
            key = f"{raw.key}-{number}"
        self._keys.add(key)
        self.samples += 1
        for member in raw.members:
            header = member.header if key == raw.key else _renamed(member, key + member.name[len(raw.key) :])
            self._file.write(header)
            self._file.write(member.data)
            self._file.write(bytes(-len(member.data) % BLOCK))

    def close(self) -> int:
        """Finish the tar and put it in its place. Returns its size in bytes."""
        self._file.write(bytes(2 * BLOCK))
        self._file.write(bytes(-self._file.tell() % tarfile.RECORDSIZE))
        size = self._file.tell()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        fs, path = filesystem(self.url)
        if is_local(self.url):
            os.replace(self._temporary, path)
        else:
            fs.put_file(self._temporary, path)  # several parts where it is large, seen only when all are there
            os.unlink(self._temporary)
        return size

    def discard(self) -> None:
        """Forget what was written since the last `close`."""
        self._file.close()
        if os.path.exists(self._temporary):
            os.unlink(self._temporary)


def _renamed(member: Member, name: str) -> bytes:
    """A header like the member's with another name."""
    try:
        info = tarfile.TarInfo.frombuf(member.header[-BLOCK:], "utf-8", "surrogateescape")
    except tarfile.HeaderError:  # an owner or a time that is no number
        info = tarfile.TarInfo()
    info.name, info.size = name, len(member.data)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
