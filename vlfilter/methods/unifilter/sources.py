"""Where images come from: shards of pairs or documents, or a folder of image files; nothing is decoded here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vlfilter.data.listing import below, lookup
from vlfilter.data.quality_rows import Kind
from vlfilter.data.samples import SampleError
from vlfilter.data.shards import SUFFIXES, list_shards
from vlfilter.data.storage import absolute

EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp")


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that may be chosen: one image, or where `document` the images of one document.

    The small `lot` goes first. `file` and `places` tell the source where it lies.
    """

    lot: int
    id: str
    origin: str
    caption: str
    document: bool
    file: int
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """`candidates` in order of their lots, `samples` in all, `problems` by status, `broken` files by message."""

    candidates: list[Candidate]
    samples: int
    problems: dict[str, int]
    broken: list[str]


class Source(Protocol):
    def parts(self) -> dict[str, Any]:
        """What tells one content from another, for fingerprints."""
        ...

    def offer(self, kind: Kind, keep: int, size: int, seed: int) -> Offer:
        """The `keep` candidates with the smallest lots. For documents, those of `size` images where sets are made."""
        ...

    def fetch(self, wanted: Sequence[Candidate]) -> Iterator[tuple[Candidate, list[bytes] | SampleError]]:
        """The image files of candidates, in any order; unusable slots of a document are left out."""
        ...


def open_source(spec: str | Sequence[str]) -> Source:
    """A folder that holds image files and no tar, or shards. Raises `VlfilterError` when there is neither."""
    from vlfilter.methods.unifilter.folder_source import FolderSource
    from vlfilter.methods.unifilter.shard_source import ShardSource

    only = [spec] if isinstance(spec, str) else list(spec)
    if len(only) == 1 and only[0].strip() and not any(character in only[0] for character in "*?[{"):
        folder = absolute(only[0])
        _, folders, _ = lookup([folder])
        if folders and not below(folder, SUFFIXES):
            files = [file for file in below(folder, ("",)) if file.url.rpartition(".")[2].lower() in EXTENSIONS]
            if files:
                return FolderSource(folder, tuple(sorted(files, key=lambda file: file.url)))
    return ShardSource(tuple(list_shards(spec)))
