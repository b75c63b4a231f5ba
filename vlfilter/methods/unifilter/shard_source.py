"""Shards of image-text pairs or of OBELICS-style documents: one pass to see what there is, one to fetch the chosen."""

from __future__ import annotations

import base64
import heapq
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from vlfilter.data.decode import IMAGE_EXTENSIONS, read_pair, sample_uid
from vlfilter.data.quality_rows import Kind
from vlfilter.data.quotas import priority
from vlfilter.data.reader import ShardReader
from vlfilter.data.samples import RawSample, SampleError, Status
from vlfilter.data.shards import Shard
from vlfilter.data.tables import digest
from vlfilter.errors import ShardError, StorageError, VlfilterError
from vlfilter.methods.unifilter.sources import Candidate, Offer


@dataclass(frozen=True, slots=True)
class ShardSource:
    shards: tuple[Shard, ...]

    def parts(self) -> dict[str, Any]:
        return {"shards": digest({"shards": [[s.name, s.url, s.size, s.version] for s in self.shards]})}

    def offer(self, kind: Kind, keep: int, size: int, seed: int) -> Offer:
        """For captions every sample with an image that is no document; for documents these, and pairs where there
        are none. A broken tar is told of, and the others go on. Raises `VlfilterError` when none can be read."""
        pairs, documents = _Lowest(keep * (1 if kind == "caption" else size)), _Lowest(keep)
        problems: Counter[str] = Counter()
        broken: list[str] = []
        samples = 0
        for file, shard in enumerate(self.shards):
            try:
                for place, raw in enumerate(ShardReader(shard)):
                    samples += 1
                    try:
                        found = _candidate(raw, shard, file, place, kind, seed)
                    except SampleError as problem:
                        problems[problem.status] += 1
                        continue
                    if kind == "caption" and found.document:
                        problems[Status.UNSUPPORTED] += 1
                    else:
                        (documents if found.document else pairs).add(found)
            except ShardError as error:
                broken.append(str(error))
            except OSError as error:
                raise StorageError(f"shard {shard.url} could not be read to its end: {error}") from error
        if len(broken) == len(self.shards):
            raise VlfilterError(f"none of the {len(broken)} shards can be read. The first: {broken[0]}")
        chosen = documents.sorted() if kind == "interleaved" and documents.heap else pairs.sorted()
        return Offer(chosen, samples, dict(sorted(problems.items())), broken)

    def fetch(self, wanted: Sequence[Candidate]) -> Iterator[tuple[Candidate, list[bytes] | SampleError]]:
        by_file: dict[int, dict[int, Candidate]] = {}
        for candidate in wanted:
            by_file.setdefault(candidate.file, {})[candidate.places[0]] = candidate
        for file, places in sorted(by_file.items()):
            shard = self.shards[file]
            try:
                yield from _fetch(shard, dict(places))
            except ShardError as error:
                raise VlfilterError(f"{error} It could be read a moment ago: was it replaced?") from error
            except OSError as error:
                raise StorageError(f"shard {shard.url} could not be read to its end: {error}") from error


class _Lowest:
    """The candidates with the smallest lots, so many of them."""

    def __init__(self, keep: int):
        self.keep = keep
        self.heap: list[tuple[int, int, Candidate]] = []
        self._ticket = count()

    def add(self, candidate: Candidate) -> None:
        entry = (-candidate.lot, next(self._ticket), candidate)
        if len(self.heap) < self.keep:
            heapq.heappush(self.heap, entry)
        elif self.heap and entry > self.heap[0]:
            heapq.heapreplace(self.heap, entry)

    def sorted(self) -> list[Candidate]:
        return sorted((entry[2] for entry in self.heap), key=lambda candidate: (candidate.lot, candidate.id))


def _candidate(raw: RawSample, shard: Shard, file: int, place: int, kind: Kind, seed: int) -> Candidate:
    if raw.problem is not None:
        raise raw.problem
    document = _is_document(raw)
    caption = ""
    if not document:
        if not any(member.extension in IMAGE_EXTENSIONS for member in raw.members):
            raise SampleError(Status.MISSING_IMAGE, "no image among its members")
        try:
            caption = read_pair(raw).caption
        except SampleError:
            caption = ""  # the teacher writes its own; this one only tells which images are alike
    uid = sample_uid(raw)
    return Candidate(priority(seed, kind, uid), uid, f"{shard.name} {raw.key}", caption, document, file, (place,))


def _fetch(shard: Shard, places: dict[int, Candidate]) -> Iterator[tuple[Candidate, list[bytes] | SampleError]]:
    for place, raw in enumerate(ShardReader(shard)):
        if (candidate := places.pop(place, None)) is not None:
            try:
                yield candidate, document_images(raw) if candidate.document else [_image(raw)]
            except SampleError as problem:
                yield candidate, problem
        if not places:
            return
    raise VlfilterError(f"shard {shard.url} has no sample {min(places)} any more: it was changed while it was read.")


def _image(raw: RawSample) -> bytes:
    members = {member.extension: member.data for member in raw.members}
    return next(members[extension] for extension in IMAGE_EXTENSIONS if extension in members)


def _is_document(raw: RawSample) -> bool:
    return any(member.extension == "json" and b'"image_info"' in member.data for member in raw.members)


def document_images(raw: RawSample) -> list[bytes]:
    """The image files of a document in their order. Raises `SampleError` when it has none."""
    try:
        record = json.loads(next(member.data for member in raw.members if member.extension == "json"))
        slots = record["image_info"]
        found = [data for slot in slots if (data := _decoded(slot))]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SampleError(Status.UNSUPPORTED, f"no document: {type(error).__name__}: {error}") from None
    if not found:
        raise SampleError(Status.MISSING_IMAGE, "the document has no image")
    return found


def _decoded(slot: Any) -> bytes | None:
    text = slot.get("image_base64") if isinstance(slot, dict) else None
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text)
    except ValueError:
        return None
