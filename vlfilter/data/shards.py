"""Which tars there are: a spec becomes a list of shards, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """One tar.

    `name` tells it apart within a run and names its tables: the path below the fixed part of the spec, without `.tar`.
    `size` is in bytes; `version` is the etag (object stores) or the modification time in nanoseconds (local files).
    """

    name: str
    url: str
    size: int
    version: str


def list_shards(spec: str | list[str]) -> list[Shard]:
    raise NotImplementedError
