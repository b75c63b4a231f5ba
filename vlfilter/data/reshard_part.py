"""One part of a reshard: some consecutive shards in, the tars of the kept samples out, resumable after each tar."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

from vlfilter.data.decode import sample_uid
from vlfilter.data.reader import ShardReader
from vlfilter.data.shards import Shard
from vlfilter.data.storage import filesystem, is_local, join, read_bytes, write_bytes
from vlfilter.data.subset import Subset, read_subset
from vlfilter.data.tarwriter import TarWriter
from vlfilter.errors import ShardError, VlfilterError

FOLDER = ".vlfilter"
REPORT_EVERY = 100

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Part:
    """What a process needs to do a part. `number` is its place in the whole reshard."""

    number: int
    shards: tuple[Shard, ...]
    subset: str
    output: str
    samples_per_shard: int


@dataclass
class Ledger:
    """How far a part has come: as of its last closed tar, and again when it is done.

    `shard`, `sample` and `copy` tell what comes next. `tars` maps names to (samples, bytes). `unreadable` says which
    shards could not be read at all, `warnings` what was odd about others.
    """

    shard: int = 0
    sample: int = 0
    copy: int = 0
    done: bool = False
    read: int = 0
    skipped: int = 0
    tars: dict[str, list[int]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def written(self) -> int:
        return sum(samples for samples, _ in self.tars.values())

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


def ledger_url(output: str, number: int) -> str:
    return join(output, FOLDER, f"part-{number:05d}.json")


def names_url(output: str, tar: str) -> str:
    """The list of what a tar holds: a uid a line, or a key where the subset goes by key."""
    return join(output, FOLDER, f"{tar}.txt")


def run_part(part: Part, report: Report) -> Ledger:
    """Do a part, or the rest of it. `report` is told of samples read and written, now and then.

    Raises `VlfilterError` when a tar of the part's name is there that no ledger knows, and `OSError` when storage
    fails; what was closed until then stays.
    """
    ledger = _begin(part)
    report(ledger.read, ledger.written)
    if ledger.done:
        return ledger
    copier = _Copier(part, ledger, report)
    try:
        copier.run()
    finally:
        copier.discard()
    return ledger


class _Copier:
    def __init__(self, part: Part, ledger: Ledger, report: Report):
        self.part = part
        self.ledger = ledger
        self.subset = _subset(part.subset)
        self.report = report
        self.unreported = [0, 0]
        self.writer: TarWriter | None = None
        self.names: list[str] = []

    def run(self) -> None:
        ledger = self.ledger
        while ledger.shard < len(self.part.shards):
            shard = self.part.shards[ledger.shard]
            try:
                self._copy(shard)
            except ShardError as error:
                ledger.unreadable.append(str(error))
            ledger.shard, ledger.sample, ledger.copy = ledger.shard + 1, 0, 0
        self._close()
        ledger.done = True
        self._save()
        self._tell(force=True)

    def _copy(self, shard: Shard) -> None:
        ledger = self.ledger
        first, copied = ledger.sample, ledger.copy
        reader = ShardReader(shard)
        for number, raw in enumerate(reader):
            if number < first:
                continue
            ledger.sample, ledger.copy = number, copied
            if not copied:
                ledger.read += 1
                self.unreported[0] += 1
            uid = sample_uid(raw) if self.subset.by == "uid" else ""
            copies = self.subset.count(uid, raw.key)
            if raw.problem is not None:
                ledger.skipped += copies > 0
                copies = 0
            for copy in range(copied, copies):
                self._open().add(raw, copy)
                self.names.append(uid or raw.key)
                self.unreported[1] += 1
                ledger.copy = copy + 1
                if len(self.names) == self.part.samples_per_shard:
                    self._close()
            copied = 0
            self._tell()
        ledger.warnings += [f"{shard.name}: {warning}" for warning in reader.warnings]

    def _open(self) -> TarWriter:
        if self.writer is None:
            name = f"{self.part.number:05d}-{len(self.ledger.tars):05d}"
            self.writer = TarWriter(join(self.part.output, f"{name}.tar"), _temporary(self.part))
        return self.writer

    def _close(self) -> None:
        if self.writer is None:
            return
        name = f"{self.part.number:05d}-{len(self.ledger.tars):05d}"
        stats = json.dumps({"successes": self.writer.samples}).encode()
        write_bytes(names_url(self.part.output, name), "".join(f"{n}\n" for n in self.names).encode())
        size = self.writer.close()
        write_bytes(join(self.part.output, f"{name}_stats.json"), stats)
        self.ledger.tars[name] = [self.writer.samples, size]
        self.writer, self.names = None, []
        self._save()

    def _save(self) -> None:
        write_bytes(ledger_url(self.part.output, self.part.number), self.ledger.to_json())

    def _tell(self, force: bool = False) -> None:
        if force or self.unreported[0] >= REPORT_EVERY:
            self.report(*self.unreported)
            self.unreported = [0, 0]

    def discard(self) -> None:
        if self.writer is not None:
            self.writer.discard()


def read_ledger(output: str, number: int) -> Ledger | None:
    url = ledger_url(output, number)
    try:
        return Ledger(**json.loads(read_bytes(url)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise VlfilterError(f"{url} is damaged ({error}): use another output.") from error


def _begin(part: Part) -> Ledger:
    """The part's ledger; a first one is written before any tar, so that a tar without one is not ours."""
    _remove_temporaries(part)
    ledger = read_ledger(part.output, part.number)
    if ledger is None:
        first = join(part.output, f"{part.number:05d}-00000.tar")
        fs, path = filesystem(first)
        if fs.exists(path):
            raise VlfilterError(f"{first} is there already and was not written by this reshard: use another output.")
        ledger = Ledger()
        write_bytes(ledger_url(part.output, part.number), ledger.to_json())
    return ledger


def _temporary(part: Part) -> str:
    """A new local file beside the output, or among the temporary files where the output is an object store."""
    name = f"part-{part.number:05d}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    if is_local(part.output):
        return os.path.join(filesystem(part.output)[1], FOLDER, name)
    return os.path.join(tempfile.gettempdir(), f"vlfilter-reshard-{name}")


def _remove_temporaries(part: Part) -> None:
    """What a killed run has left half written of this part: all of it hidden files with names of ours."""
    if not is_local(part.output):
        return
    output = Path(filesystem(part.output)[1])
    number = f"{part.number:05d}"
    for folder in (output, output / FOLDER):
        for pattern in (f"part-{number}.*.tmp", f".part-{number}.json.*.tmp", f".{number}-*.tmp"):
            for left in folder.glob(pattern) if folder.is_dir() else ():
                left.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _subset(url: str) -> Subset:
    return read_subset(url)
