"""A folder of image files. Files of one subfolder are taken to belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vlfilter.data.listing import Found
from vlfilter.data.quality_rows import Kind
from vlfilter.data.quotas import priority
from vlfilter.data.samples import SampleError, Status
from vlfilter.data.storage import read_bytes
from vlfilter.data.tables import digest
from vlfilter.methods.unifilter.sources import Candidate, Offer


@dataclass(frozen=True, slots=True)
class FolderSource:
    """`files` are sorted by URL."""

    url: str
    files: tuple[Found, ...]

    def parts(self) -> dict[str, Any]:
        return {"folder": digest({"files": [[self._name(i), f.size, f.version] for i, f in enumerate(self.files)]})}

    def offer(self, kind: Kind, keep: int, size: int, seed: int) -> Offer:
        """Single files, or sets of `size` neighbours (by name) of one subfolder; what is left over goes unused."""
        names = [self._name(i) for i in range(len(self.files))]
        groups = [(i,) for i in range(len(names))] if kind == "caption" else _sets(names, size)
        found = [
            Candidate(
                priority(seed, kind, names[places[0]]),
                names[places[0]],
                f"{names[places[0]]} … {names[places[-1]]}" if len(places) > 1 else names[places[0]],
                "",
                kind == "interleaved",
                0,
                places,
            )
            for places in groups
        ]
        return Offer(sorted(found, key=lambda c: (c.lot, c.id))[:keep], len(names), {}, [])

    def fetch(self, wanted: Sequence[Candidate]) -> Iterator[tuple[Candidate, list[bytes] | SampleError]]:
        for candidate in wanted:
            data = []
            for place in candidate.places:
                try:
                    data.append(read_bytes(self.files[place].url))
                except FileNotFoundError:
                    continue
            missing = SampleError(Status.MISSING_IMAGE, "the file is gone")
            yield candidate, data or missing

    def _name(self, place: int) -> str:
        return self.files[place].url[len(self.url) :].lstrip("/")


def _sets(names: Sequence[str], size: int) -> list[tuple[int, ...]]:
    folders: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        folders.setdefault(name.rpartition("/")[0], []).append(place)
    return [
        tuple(places[start : start + size])
        for places in folders.values()
        for start in range(0, len(places) - size + 1, size)
    ]
