"""A shard → its samples as bytes: nothing is lost, nothing is extracted, and memory does not grow with the tar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vlfilter.data.samples import Member, RawSample, SampleError, Status
from vlfilter.data.shards import Shard
from vlfilter.data.tarstream import DIRECTORY, FILE, Entry, TarStream, walk

MAX_SAMPLE_BYTES = 256 * 2**20
MAX_MEMBERS = 1000


@dataclass(slots=True)
class _Run:
    """Adjacent entries with one key."""

    key: str
    problem: SampleError | None = None
    members: list[Member] = field(default_factory=list)
    extensions: set[str] = field(default_factory=set)
    size: int = 0

    def sample(self) -> RawSample:
        return RawSample(self.key, tuple(self.members), self.problem)


class ShardReader:
    """The samples of one shard in tar order: every entry but directories belongs to exactly one of them.

    A sample is a run of adjacent members with one key, as webdataset groups them: the key is the folder and the base
    name up to its first dot, the extension is the rest, in lower case. What cannot be used becomes a `RawSample` with
    a `problem`: a repeated key or extension, links and other special entries, unsafe names, too many bytes (they are
    not read into memory), and the sample in which a cut or damaged tar ends. Iterating raises `ShardError` when the
    shard is missing or no tar, and `OSError` when storage fails midway (worth a retry). `warnings` is complete after
    the last sample.
    """

    def __init__(self, shard: Shard, max_sample_bytes: int = MAX_SAMPLE_BYTES):
        self.shard = shard
        self.max_sample_bytes = max_sample_bytes
        self.warnings: list[str] = []

    def __iter__(self) -> Iterator[RawSample]:
        self.warnings.clear()
        stream = TarStream(self.shard)
        try:
            yield from self._samples(stream)
        finally:
            stream.close()

    def _samples(self, stream: TarStream) -> Iterator[RawSample]:
        seen: set[int] = set()  # 64-bit hashes of the keys so far
        run: _Run | None = None
        empty = True
        for entry in walk(stream, self.max_sample_bytes, self.warnings):
            if entry.kind == DIRECTORY:
                continue
            empty = False
            key, extension, problem = _identify(entry)
            if entry.cut and not entry.name:
                key = run.key if run else f"byte {entry.offset}"
            if run is None or run.key != key or not extension or extension in run.extensions:
                if run is not None and not (entry.cut and run.key == key):
                    yield run.sample()
                    run = None
                if run is None:
                    run = _Run(key)
                    if extension and hash(key) in seen:
                        run.problem = _unsupported(f"duplicate key {key!r}: the first sample of that key is kept")
                    seen.add(hash(key))
            if entry.cut:
                run.problem = SampleError(Status.FAILED, f"this sample may be incomplete: {entry.cut}")
            else:
                self._add(run, entry, extension, problem)
        if run is not None:
            yield run.sample()
        if empty:
            self.warnings.append("the tar holds no samples")

    def _add(self, run: _Run, entry: Entry, extension: str, problem: SampleError | None) -> None:
        run.extensions.add(extension)
        run.size += entry.size
        if entry.kind == FILE and (run.size > self.max_sample_bytes or len(run.extensions) > MAX_MEMBERS):
            reason = f"{run.size} bytes in {len(run.extensions)} members, up to {entry.name!r}"
            limits = f"the limit is {self.max_sample_bytes} bytes in {MAX_MEMBERS} members"
            run.problem = run.problem or SampleError(Status.TOO_LARGE, f"{reason}; {limits}")
            run.members.clear()
        elif entry.data is not None and extension:
            run.members.append(Member(entry.name, extension, entry.data, entry.header))
        run.problem = run.problem or problem


def read_shard(shard: Shard) -> Iterator[RawSample]:
    """The samples of a shard, where its warnings do not matter."""
    return iter(ShardReader(shard))


def _identify(entry: Entry) -> tuple[str, str, SampleError | None]:
    """(key, extension, problem) of an entry. Without an extension the key is the whole name."""
    name = entry.name
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    shown = _printable(name)
    problem = None
    if entry.kind != FILE:
        problem = _unsupported(f"member {shown!r} is a {entry.kind}; only regular files are read")
    elif name.startswith("/") or ".." in name.split("/"):
        problem = _unsupported(f"member {shown!r} has an absolute name or one with '..'")
    elif shown != name:
        problem = _unsupported(f"member {shown!r} has a name that is not UTF-8 or holds a NUL")
    elif not stem or not extension:
        problem = _unsupported(f"member {shown!r} has no key or no extension")
    if not stem or not extension:
        return shown, "", problem
    return _printable(folder + slash + stem), extension.lower(), problem


def _printable(name: str) -> str:
    """The same name where it is valid text; otherwise with escapes for what is not."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.replace("\0", "\\x00")


def _unsupported(reason: str) -> SampleError:
    return SampleError(Status.UNSUPPORTED, reason)
