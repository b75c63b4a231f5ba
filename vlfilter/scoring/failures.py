"""Why a shard has no table: a small note in the table's place, for `status`, `select` and retries."""

from __future__ import annotations

import json
from dataclasses import dataclass

from vlfilter.data.shards import Shard
from vlfilter.data.storage import filesystem, join, read_bytes, write_bytes

SUFFIX = ".failed.json"


@dataclass(frozen=True, slots=True)
class Failure:
    """`version` is the shard's when it failed: a note about an older tar says nothing of a newer one."""

    reason: str
    version: str


def note_failure(output: str, scorer: str, shard: Shard, reason: str) -> None:
    note = {"reason": reason, "version": shard.version}
    write_bytes(join(output, scorer, shard.name + SUFFIX), json.dumps(note).encode())


def clear_failure(output: str, scorer: str, shard: Shard) -> None:
    fs, path = filesystem(join(output, scorer, shard.name + SUFFIX))
    if fs.exists(path):
        fs.rm_file(path)


def read_failures(output: str, scorer: str) -> dict[str, Failure]:
    """Failures by shard name."""
    fs, root = filesystem(join(output, scorer))
    if not fs.exists(root):
        return {}
    notes = [path for path in fs.find(root) if path.endswith(SUFFIX)]
    names = [path[len(root) :].lstrip("/").removesuffix(SUFFIX) for path in notes]
    read = [json.loads(read_bytes(fs.unstrip_protocol(path))) for path in notes]
    return {name: Failure(note["reason"], note["version"]) for name, note in zip(names, read, strict=True)}
